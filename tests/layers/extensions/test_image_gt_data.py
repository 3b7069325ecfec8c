"""ImageGtData: the labels of maps by plain loops, boxes that follow their pictures, and files that are damaged."""

import numpy as np
import pytest
from PIL import Image

from helpers.readers import assert_same_batches, batches, data_layer
from minicaffe.errors import DataError, LayerError
from minicaffe.layers.shared.truth_maps import Map, Rules, label_maps

pytestmark = pytest.mark.layers("ImageGtData")

SIZE = (60, 80)  # height, width
BOX = (24, 16, 48, 40)  # x1, y1, x2, y2


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.full((*SIZE, 3), 40, np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 200
    for name in ("a", "b", "c"):
        Image.fromarray(pixels).save(f"{name}.png")
    write(*(entry(f"{name}.png") for name in "abc"))


def entry(path, boxes=((2, 0, *BOX),), regions=()):
    lines = [path, 3, *SIZE, len(boxes), *(" ".join(map(str, box)) for box in boxes), len(regions)]
    return "\n".join(map(str, [*lines, *(" ".join(map(str, region)) for region in regions)]))


def write(*entries):
    with open("windows.txt", "w") as file:
        file.write("".join(f"# {i}\n{each}\n" for i, each in enumerate(entries)))


def layer(more="", transform="", batch=1, tops=2, maps=((8, 24, 24),), phase=0):
    fields = " ".join(f"downsample_rate: {rate} field_w: {width} field_h: {height}" for rate, width, height in maps)
    made, blobs = data_layer(
        f"""name: "d" type: "ImageGtData" transform_param {{ {transform} }}
        image_gt_data_param {{ source: "windows.txt" batch_size: {batch} {fields} {more} }}""",
        tops, phase,
    )  # fmt: skip
    state = made.state()
    made.load_state(state | {"rng": state["rng"] | {"key": [3, 4], "counter": [0] * 4}})
    return made, blobs


def test_images_and_labels_without_any_transformation():
    made, blobs = layer("output_gt_boxes: true", "mean_value: 10", tops=3)
    made.forward([], blobs)
    images, labels, boxes = (blob.data for blob in blobs)
    assert images.shape == (1, 3, *SIZE) and labels.shape == (1, 6, 8, 10)
    assert set(np.unique(images)) == {30, 190}
    assert (images[0, :, 16:40, 24:48] == 190).all() and (images == 190).sum() == 3 * 24 * 24
    assert boxes.tolist() == [[[[v]] for v in (0, *BOX, 2, 0)]]
    classes = labels[0, 0]
    assert set(np.unique(classes)) == {0, 2} and classes[3, 4] == 2
    assert labels[0, 1:5, 3, 4].tolist() == [36, 28, 24, 24]
    assert labels[0, 5, 3, 4] == labels[0, 5].max() and labels[0, 5, 0, 0] == 0


# -- the labels, by plain loops ----------------------------------------------------------------------------------------


def share(a, b, over_first=False):
    sides = [min(a[k + 2], b[k + 2]) - max(a[k], b[k]) for k in (0, 1)]
    if min(sides) <= 0:
        return 0.0
    first, second = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    shared = sides[0] * sides[1]
    return shared / (first if over_first else first + second - shared)


def by_loops(maps, boxes, regions, size, inside, threshold):
    labels, matched = [], set()
    best = {i: (0.0, None) for i in range(len(boxes))}
    for number, (rate, width, height) in enumerate(maps):
        own = np.zeros((6, round(size[0] / rate), round(size[1] / rate)))
        for row, column in np.ndindex(own.shape[1:]):
            x, y = (column + 0.5) * rate, (row + 0.5) * rate
            place = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            y0, x0, rows, columns = (int(length / rate + 0.5) for length in inside)
            outside = not (y0 <= row < y0 + rows and x0 <= column < x0 + columns)
            if outside or sum(share(place, region, True) for region in regions) >= 0.4:
                own[5, row, column] = 1
                continue
            overlaps = [share(box[2:], place) for box in boxes]
            for i, overlap in enumerate(overlaps):
                if overlap > best[i][0]:
                    best[i] = overlap, number
            owner = max(range(len(boxes)), key=lambda i: (overlaps[i], -i), default=None)
            if owner is not None:
                own[5, row, column] = overlaps[owner]
                if overlaps[owner] > threshold:
                    matched.add(owner)
                    own[:5, row, column] = coded(boxes[owner])
        labels.append(own)
    for i in sorted(set(best) - matched):
        place_at_the_centre(boxes[i], *best[i], labels, maps)
    return labels


def place_at_the_centre(box, overlap, number, labels, maps):
    if not box[1] and overlap >= 0.2:
        own, rate = labels[number], maps[number][0]
        _, x, y, *_ = coded(box)
        row, column = min(int(y // rate), own.shape[1] - 1), min(int(x // rate), own.shape[2] - 1)
        if own[0, row, column] <= 0:
            own[:5, row, column] = coded(box)


def coded(box):
    label, ignored, x1, y1, x2, y2 = box
    return [0 if ignored else label, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


@pytest.mark.parametrize("seed", range(6))
def test_labels_against_loops(seed):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 60, (7, 2))
    boxes = np.column_stack(
        [rng.integers(1, 4, 7), rng.integers(0, 2, 7), corners, corners + rng.integers(4, 50, (7, 2))]
    ).astype(float)
    regions = [(50.0, 0.0, 90.0, 20.0)][: seed % 2]
    maps, inside = [(8, 20, 20), (16, 40, 30)], (8, 0, 80, 85)
    rows = np.concatenate([boxes, [[-1, 0, *region] for region in regions]] if regions else [boxes]).astype(np.float32)
    got = label_maps([Map(*each) for each in maps], rows, (96, 96), inside, Rules(0.5))
    expected = by_loops(maps, boxes.tolist(), regions, (96, 96), inside, 0.5)
    assert any((each[0] > 0).any() for each in expected)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_box_between_the_sizes_of_the_maps_gets_the_place_at_its_centre():
    made, blobs = layer("fg_threshold: 0.9")
    made.forward([], blobs)
    assert np.argwhere(blobs[1].data[0, 0]).tolist() == [[3, 4]]


@pytest.mark.parametrize("boxes", [((2, 1, *BOX),), ((2, 0, 24, 16, 26, 18),)])
def test_ignored_boxes_are_no_objects(boxes):
    write(entry("a.png", boxes))
    made, blobs = layer("min_gt_width: 5 output_gt_boxes: true", tops=3)
    made.forward([], blobs)
    assert not blobs[1].data[:, 0].any()
    assert blobs[2].data.ravel()[5:].tolist() == [2, 1]


def test_regions_do_not_count_as_background():
    write(entry("a.png", (), [(0, 0, 30, 30)]))
    made, blobs = layer("output_gt_boxes: true", tops=3)
    made.forward([], blobs)
    assert blobs[1].data[0, 5, 1, 1] == 1 and blobs[1].data[0, 5, 6, 8] == 0
    assert blobs[2].data.ravel().tolist() == [0, 1, 1, 2, 2, 1, 1]  # no box


# -- boxes follow their pictures ---------------------------------------------------------------------------------------

RANDOM = "do_multiple_scale: true min_scale: 12 max_scale: 48 min_whaspect: 0.5 max_whaspect: 1.5"
STEPS = {
    "mirror": ("", "mirror: true", 0.01),
    "crop": ("crop_width: 40 crop_height: 40", "", 0.01),
    "resize": ("resize_width: 40 resize_height: 90", "", 0.8),
    "scale": (f"{RANDOM} crop_width: 56 crop_height: 48", "mirror: true", 1.6),
    "resize and scale": (f"{RANDOM} resize_width: 96 resize_height: 96 crop_width: 64 crop_height: 64", "", 2),
}


@pytest.mark.parametrize("name", STEPS)
def test_the_box_is_where_the_rectangle_is(name):
    more, transform, tolerance = STEPS[name]
    made, blobs = layer(f"{more} output_gt_boxes: true", f"{transform} mean_value: 40", tops=3, batch=3)
    sizes = set()
    for _ in range(12):
        made.forward([], blobs)
        for n, image in enumerate(blobs[0].data):
            _, *box, label, _ = blobs[2].data[n].ravel()
            assert label == 2
            clipped = np.clip(box, 0, [image.shape[2], image.shape[1]] * 2)
            rows, columns = np.nonzero(image[0] > 80)
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(found, clipped, atol=tolerance)
            sizes.add(round(float(box[2] - box[0])))
    assert len(sizes) == 1 or (name.endswith("scale") and len(sizes) > 4)


def test_a_run_that_is_resumed_reads_the_same():
    settings = (f"{RANDOM} shuffle: true crop_width: 48 crop_height: 48 output_gt_boxes: true", "mirror: true")
    made, blobs = layer(*settings, batch=2, tops=3)
    batches(made, blobs, 2)
    saved, expected = made.state(), batches(made, blobs, 4)
    made.close()
    other, others = layer(*settings, batch=2, tops=3)
    other.load_state(saved)
    assert_same_batches(batches(other, others, 4), expected)
    other.close()


def test_images_with_boxes_come_more_often():
    write(entry("a.png"), entry("b.png", ()))
    made, blobs = layer("fg_img_multiple: 3 output_gt_boxes: true", tops=3)
    assert made.records == 4
    labels = [each[2].ravel()[5] for each in batches(made, blobs, 8)]
    assert labels == [2, 2, 2, 1] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a.png 3 60 80 0 0", 'expected "#" before the next image'),
        ("# 0 a.png 3 60 80 1 0 0 1 1 2 2 0", "has class 0, expected above 0"),
        ("# 0 a.png 3 60 80 1 1 0 1 1", "ends in the middle"),
        ("# 0 a.png 3 60 80 -1 0", "expected the number of boxes, 0 or more, got -1"),
        ("# 0 a.png 3 60 80 0 x", "expected the number of regions that do not count"),
        ("# 0 none.png 3 60 80 0 0", "none.png"),
    ],
)
def test_damaged_files(text, message):
    with open("windows.txt", "w") as file:
        file.write(text)
    with pytest.raises(DataError, match=message):
        layer()


@pytest.mark.parametrize(
    ("more", "tops", "error", "message"),
    [
        ("", 3, LayerError, "downsample_rate, field_w and field_h must be given 2 times each"),
        ("coord_num: 5", 2, LayerError, "coord_num must be 4"),
        ("min_scale: 20 max_scale: 10", 2, LayerError, "min_scale must be from 1 to max_scale"),
        ("crop_width: 90 crop_height: 60", 2, DataError, "crop 60x90 is larger than the image, 60x80"),
        ("fg_img_multiple: 0", 2, LayerError, "fg_img_multiple must be positive"),
    ],
)
def test_errors(more, tops, error, message):
    with pytest.raises(error, match=message):
        layer(more, tops=tops)
