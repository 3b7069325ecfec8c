"""DetectionData: labels by plain loops, sizes, orders, boxes that follow their pictures, resumed runs."""

import numpy as np
import pytest

from helpers.readers import assert_same_batches, batches
from helpers.truth_lists import BOX, TALL, WIDE, draw, entry, layer, write
from minicaffe.data.truth_windows import TruthReader, arranged_by_aspect
from minicaffe.errors import DataError, LayerError
from minicaffe.layers.shared.truth_maps import Map, Rules, label_maps


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw()


def test_images_labels_and_boxes():
    made, blobs = layer("output_gt_boxes: true", "mean_value: 10 scale: 0.5", tops=3)
    made.forward([], blobs)
    images, labels, boxes = (blob.data for blob in blobs)
    assert images.shape == (1, 3, *WIDE) and labels.shape == (1, 6, 8, 12)
    assert (images[0, :, 16:40, 24:48] == 95).all() and (images == 95).sum() == 3 * 24 * 24
    assert boxes.shape == (1, 8, 1, 1) and boxes.ravel().tolist() == [0, *BOX, 2, 0, 1]
    assert set(np.unique(labels[0, 0])) == {0, 2}
    assert labels[0, 1:5, 3, 4].tolist() == [35.5, 27.5, 24, 24]
    assert labels[0, 5, 3, 4] == pytest.approx(24 * 24 / (25 * 25))


# -- the labels, by plain loops ----------------------------------------------------------------------------------------


def area(box):
    return max(box[2] - box[0] + 1, 0) * max(box[3] - box[1] + 1, 0)


def share(a, b, over_first=False):
    shared = area([*np.maximum(a[:2], b[:2]), *np.minimum(a[2:], b[2:])])
    return shared / (area(a) if over_first else area(a) + area(b) - shared)


def is_outside(place, row, column, rate, sides, inside, rules):
    top, left, height, width = inside
    y0, x0, rows, columns = (int(length / rate + 0.5) for length in inside)
    outside = not (y0 <= row < y0 + rows and x0 <= column < x0 + columns)
    if rules.margin is not None:
        mx, my = (rules.margin * side / 2 for side in sides)
        outside |= place[0] < left - mx or place[2] >= left + width + mx
        outside |= place[1] < top - my or place[3] >= top + height + my
    elif rules.least_inside is not None:
        outside |= share(place, (left, top, left + width, top + height), True) < rules.least_inside
    return outside


def by_loops(maps, boxes, regions, size, inside, rules):
    labels, matched = [], set()
    best = {i: (0.0, None) for i in range(len(boxes))}
    for number, (rate, w, h) in enumerate(maps):
        own = np.zeros((6, int(size[0] / rate + 0.5), int(size[1] / rate + 0.5)))
        for row, column in np.ndindex(own.shape[1:]):
            x, y = (column + 0.5) * rate, (row + 0.5) * rate
            place = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
            if is_outside(place, row, column, rate, (w, h), inside, rules):
                own[5, row, column] = 1
                continue
            found = [share(box[2:6], place) for box in boxes]
            for i, overlap in enumerate(found):
                if overlap > best[i][0]:
                    best[i] = overlap, number
            own[5, row, column] = max(found, default=0)
            if max(found, default=0) > rules.threshold:
                owner = int(np.argmax(found))
                matched.add(owner)
                own[:5, row, column] = coded(boxes[owner])
            elif sum(share(place, region, True) for region in regions) >= rules.region_share:
                own[5, row, column] = 1
        labels.append(own)
    pick_places(set(best) - matched, best, boxes, labels, maps, rules)
    return labels


def pick_places(numbers, best, boxes, labels, maps, rules):
    for i in sorted(numbers):
        overlap, number = best[i]
        if boxes[i][1] or overlap < rules.least:
            continue
        own, (_, x, y, *_) = labels[number], coded(boxes[i])
        row, column = (int(min(max(c // maps[number][0], 0), n - 1)) for c, n in zip((y, x), own.shape[1:]))
        if own[0, row, column] <= 0:
            own[:, row, column] = [*coded(boxes[i]), overlap]


def coded(box):
    label, ignored, x1, y1, x2, y2, _ = box
    return [0 if ignored else label, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1 + 1, y2 - y1 + 1]


@pytest.mark.parametrize(
    "rules", [{}, {"margin": 0.5}, {"least_inside": 0.7}, {"region_share": 0.2, "least": 0.35}, {"margin": 0.0}]
)
@pytest.mark.parametrize("seed", range(3))
def test_labels_against_loops(seed, rules):
    rng, rules = np.random.default_rng(seed), Rules(0.45, inclusive=True, **rules)
    corners = rng.integers(0, 60, (9, 2))
    boxes = np.column_stack(
        [rng.integers(1, 4, 9), rng.integers(0, 2, 9), corners, corners + rng.integers(4, 50, (9, 2)), np.zeros(9)]
    ).astype(float)
    region = (50.0, 0.0, 90.0, 30.0)
    maps, inside = [(8, 20, 20), (8, 40, 30)], (8, 0, 80, 85)
    rows = np.concatenate([boxes, [[-1, 0, *region, 0]]]).astype(np.float32)
    got = label_maps([Map(*each) for each in maps], rows, (96, 96), inside, rules)
    expected = by_loops(maps, boxes.tolist(), [region], (96, 96), inside, rules)
    assert any((each[0] > 0).any() for each in expected)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_fields_of_the_labels():
    write(entry("a.png", boxes=(), regions=[(0, 0, 23, 23)]))
    made, blobs = layer("ignore_fg_threshold: 0.9 output_gt_boxes: true", tops=3)
    made.forward([], blobs)
    assert blobs[1].data[0, 5].sum() == 1 and blobs[2].data.ravel().tolist() == [-1] * 8
    write(entry("a.png", boxes=()))
    made, blobs = layer("anchor_ignore_margin_ratio: 0")
    made.forward([], blobs)
    assert not blobs[1].data[0, 5, 1:6, 1:10].any() and blobs[1].data[0, 5, 0].all()
    write(entry("a.png", boxes=((2, 0, 0, 24, 16, 33, 25),)))
    for least, count in (("0.1", 1), ("0.2", 0)):  # the box covers 100 of 625 pixels
        made, blobs = layer(f"pickup_iou_thr: {least}")
        made.forward([], blobs)
        assert (blobs[1].data[0, 0] > 0).sum() == count


# -- sizes -------------------------------------------------------------------------------------------------------------

SIZES = {
    "": WIDE,
    "resize_width: 40 resize_height: 50": (50, 40),
    "resize_ratio: 0.5": (32, 48),
    "short_size: 33 long_size: 50": (32, 64),  # the nearest multiples of 32
    "crop_width: 40 crop_height: 30": (30, 40),
    "crop_short_size: 30 crop_long_size: 70": (30, 70),
    "short_size: 64 long_size: 90 crop_short_size: 50 crop_long_size: 60": (50, 60),
    "short_size: 64 long_size: 96 template_ratio: 2": (128, 192),
}


@pytest.mark.parametrize("more", SIZES)
def test_sizes(more):
    made, blobs = layer(more)
    made.forward([], blobs)
    height, width = SIZES[more]
    assert blobs[0].shape == (1, 3, height, width)
    assert blobs[1].shape == (1, 6, int(height / 8 + 0.5), int(width / 8 + 0.5))


def test_the_long_side_is_that_of_the_first_image():
    write(entry("c.png", TALL), entry("a.png"), entry("b.png"))
    made, blobs = layer("short_size: 64 long_size: 96 output_gt_boxes: true", batch=2, tops=3)
    made.forward([], blobs)
    assert blobs[0].shape == (2, 3, *TALL)  # the second image is cut at the sides, and padded above and below
    assert (blobs[0].data[1] == 0).any((0, 2)).sum() == 32
    made.forward([], blobs)
    assert blobs[0].shape == (2, 3, *WIDE)


def test_ratios_of_batches():
    made, blobs = layer("short_size: 64 long_size: 96 template_ratio: 1 template_ratio: 0.5")
    found = {each[0].shape[2:] for each in batches(made, blobs, 24)}
    assert found == {(64, 96), (96, 64), (32, 64), (64, 32)}  # 48 becomes 64


# -- boxes follow their pictures ---------------------------------------------------------------------------------------

STEPS = {
    "mirror": ("", "mirror: true", 1.01),  # x of the last pixel becomes width - x, as in the fork
    "crop": ("crop_width: 40 crop_height: 40", "", 0.01),
    "pad": ("crop_width: 120 crop_height: 140", "", 0.01),
    "factors": ("low_scale_ratio: 0.5 high_scale_ratio: 2 multiscale_prob: 1", "", 3),
    "scale": ("min_scale: 16 max_scale: 40 min_whaspect: 0.7 max_whaspect: 1.4 crop_width: 64 crop_height: 64", "", 3),
}


@pytest.mark.parametrize("name", STEPS)
def test_the_box_is_where_the_rectangle_is(name):
    write(entry("a.png"), entry("b.png"))
    more, transform, tolerance = STEPS[name]
    made, blobs = layer(f"{more} output_gt_boxes: true", f"{transform} mean_value: 40", tops=3, batch=2)
    sizes = set()
    for _ in range(12):
        made.forward([], blobs)
        for n, image in enumerate(blobs[0].data):
            _, *box, label, _, _ = blobs[2].data[n].ravel()
            assert label == 2
            clipped = np.clip(box, 0, [image.shape[2] - 1, image.shape[1] - 1] * 2)
            rows, columns = np.nonzero(image[0] > 80)
            found = [columns.min(), rows.min(), columns.max(), rows.max()]
            np.testing.assert_allclose(found, clipped, atol=tolerance)
            sizes.add(round(float(box[2] - box[0])))
    assert (len(sizes) > 4) == (name in ("factors", "scale"))


def test_sizes_of_boxes_and_of_factors():
    settings = "min_scale: 16 max_scale: 40 output_gt_boxes: true"
    made, blobs = layer(settings, tops=3)
    sides = [float(each[2].ravel()[3] - each[2].ravel()[1] + 1) for each in batches(made, blobs, 200)]
    assert 15 < min(sides) < 18 and 35 < max(sides) < 41 and 60 < sides.count(24) < 140  # half of them unchanged


def test_colours_change():
    made, blobs = layer("distort_param { brightness_prob: 1 brightness_delta: 30 }")
    values = {float(each[0].max()) for each in batches(made, blobs, 6)}
    assert len(values) > 3 and min(values) >= 170 and max(values) <= 230


def test_small_boxes_are_ignored():
    made, blobs = layer("min_gt_height: 25 output_gt_boxes: true", tops=3)
    made.forward([], blobs)
    assert not blobs[1].data[:, 0].any() and blobs[2].data.ravel()[5:].tolist() == [2, 1, 1]


# -- orders ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("together", "runs"), [(0, {(6, 4), (4, 6)}), (2, {(2,) * 5, (2, 2, 2, 4), (2, 2, 2, 2, 2)})])
def test_arranged_by_aspect(together, runs):
    tall, orders = np.array([True] * 4 + [False] * 6), set()
    for seed in range(20):
        order = arranged_by_aspect(tall, together, np.random.default_rng(seed))
        assert sorted(order) == list(range(10))
        ends = np.flatnonzero(np.diff(tall[order].astype(int)))
        found = tuple(np.diff([-1, *ends, 9]).tolist())
        assert found in runs, order
        orders.add(tuple(order.tolist()))
    assert len(orders) > 15


def test_one_kind_of_images():
    order = arranged_by_aspect(np.zeros(5, bool), 2, np.random.default_rng(0))
    assert sorted(order) == list(range(5))


def test_every_round_has_another_order():
    write(*(entry(f"{name}.png", size) for name, size in (("a", WIDE), ("b", WIDE), ("c", TALL)) for _ in range(4)))
    reader = TruthReader("windows.txt", "", 12, difficult=True, seed=1, by_aspect=0)
    orders = []
    for _ in range(6):
        batch = reader.read()
        kinds = [image.shape[1] >= image.shape[2] for image in batch.images]
        assert np.count_nonzero(np.diff(np.array(kinds, int))) == 1
        orders.append(batch.name(0))
    assert len(set(orders)) > 1


@pytest.mark.parametrize("shuffle", ["random", "random_aspect", "random_mix_aspect"])
def test_a_run_that_is_resumed_reads_the_same(shuffle):
    settings = (
        f'shuffle: "{shuffle}" mix_group_size: 1 crop_width: 48 crop_height: 48 output_gt_boxes: true '
        "low_scale_ratio: 0.7 high_scale_ratio: 1.4 distort_param { brightness_prob: 0.5 brightness_delta: 30 }",
        "mirror: true",
    )
    made, blobs = layer(*settings, batch=2, tops=3)
    batches(made, blobs, 2)
    saved, expected = made.state(), batches(made, blobs, 5)
    made.close()
    other, others = layer(*settings, batch=2, tops=3)
    other.load_state(saved)
    assert_same_batches(batches(other, others, 5), expected)
    other.close()


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# 0 a.png 3 60 80 1 1 0 2 1 1 2", "ends in the middle"),
        ("# 0 a.png 3 60 80 1 1 0 x 1 1 2 2 0", "expected whether a box is difficult"),
        ("# 0 none.png 3 60 80 0 0", "none.png"),
    ],
)
def test_damaged_files(text, message):
    with open("windows.txt", "w") as file:
        file.write(text)
    with pytest.raises(DataError, match=message):
        layer()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("stride: 8", r"stride, field_w and field_h must be given 1 times each, got \[\[8, 8\], \[24\], \[24\]\]"),
        ("coord_num: 5", "coord_num must be 4"),
        ("shuffle: 'by_size'", "shuffle must be one of random, random_aspect, random_mix_aspect, got 'by_size'"),
        ("short_size: 60 long_size: 40", "short_size must be above 0 and not above long_size, got 60 and 40"),
        ("low_scale_ratio: 0 high_scale_ratio: 1", "low_scale_ratio must be above 0"),
        ("template_ratio: 0", "template_ratio must be above 0"),
        ("resize_width: 9 resize_height: 9 resize_ratio: 2", "cannot be given together with resize_ratio"),
        ("min_scale: 9 max_scale: 9 low_scale_ratio: 2", "cannot be given together with low_scale_ratio"),
        ("mix_group_size: 0", "mix_group_size must be positive"),
    ],
)
def test_errors(more, message):
    with pytest.raises(LayerError, match=message):
        layer(more)
