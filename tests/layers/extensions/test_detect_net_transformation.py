"""DetectNetTransformation."""

import colorsys
import itertools

import numpy as np
import pytest

from minicaffe.data.image import resize
from minicaffe.data.mean import write_mean
from minicaffe.errors import LayerError
from minicaffe.layers.extensions.detect_net_transformation import Change, changed_boxes, recolored, rotated
from minicaffe.testing import Case, LayerProperties, assert_close, run_layer

TEST = 1
NOTHING = "crop_prob: 0 scale_prob: 0 flip_prob: 0 rotation_prob: 0 hue_rotation_prob: 0 desaturation_prob: 0"


def layer(truth, random=NOTHING, more=""):
    return f"""type: 'DetectNetTransformation' detectnet_groundtruth_param {{ {truth} }}
        detectnet_augmentation_param {{ {random} }} {more}"""


def images(rng, shape):
    return rng.integers(0, 256, shape).astype(float)


def rows_of(*boxes, rows=6):
    """Bottom 1 of one image with boxes (x, y, width, height, class)."""
    bottom = np.zeros((1, 1, rows, 16))
    bottom[0, 0, 0, :2] = len(boxes), 16
    for i, (*box, number) in enumerate(boxes, 1):
        bottom[0, 0, i, [0, 1, 2, 3, 5]] = *box, number
    return bottom


def two_boxes(rng, shape):
    one = rows_of((3, 2, 12, 9, 1), (20, 5, 8, 8, 1), rows=shape[2])
    return np.tile(one, (shape[0], 1, 1, 1))


SMALL = "image_size_x: 32 image_size_y: 16 stride: 4"
EVERYTHING = (
    "hue_rotation_prob: 1 desaturation_prob: 1 flip_prob: 1 scale_prob: 1 rotation_prob: 1 max_rotate_degree: 9"
)


class TestProperties(LayerProperties):
    cases = [
        Case(layer(SMALL), [(2, 3, 16, 32), (2, 1, 5, 16)], [images, two_boxes], gradient=(), num_top=2, phase=TEST),
        Case(
            layer(SMALL, f"{EVERYTHING} shift_x: 4 shift_y: 4"), [(2, 3, 20, 40), (2, 1, 5, 16)], [images, two_boxes],
            gradient=(), num_top=2,
        ),
    ]  # fmt: skip


def tops(text, image, boxes, phase=0):
    return [blob.data for blob in run_layer(text, image, boxes, num_top=2, phase=phase)[2]]


def label_by_loops(boxes, stride, size, covered, norm, classes, crop=True):
    """The labels of boxes (x, y, width, height, class); covered: width and height that count, of those of a box."""
    grid = size[0] // stride, size[1] // stride
    label = np.zeros((8 + max(classes.values()) + 1, *grid))
    for x, y, width, height, number in boxes:
        if number not in classes:
            continue
        left, top, right, bottom = x, y, x + width, y + height
        if crop:
            left, top, right, bottom = max(left, 0), max(top, 0), min(right, size[1]), min(bottom, size[0])
        if right <= left or bottom <= top:
            continue
        w, h = covered(right - left), covered(bottom - top)
        near = (left + right - w) / 2, (top + bottom - h) / 2
        for i, j in itertools.product(range(grid[0]), range(grid[1])):
            common = [min(a + part, (c + 1) * stride) - max(a, c * stride) for a, part, c in zip(near, (w, h), (j, i))]
            if min(common) > 0:
                label[8:, i, j] = 0
                label[8 + classes[number], i, j] = 1
                corners = left - j * stride, top - i * stride, right - j * stride, bottom - i * stride
                inverse = 1 / (right - left), 1 / (bottom - top)
                label[:8, i, j] = 1, *corners, *inverse, max(0 if norm else 1, stride**2 / (w * h))
    return label


BOXES = [(3, 2, 12, 9, 1), (10, 4, 10, 10, 2), (-5, 9, 12, 20, 2), (20, 5, 8, 8, 9), (40, 5, 8, 8, 1)]


@pytest.mark.parametrize(
    ("truth", "covered", "norm", "crop"),
    [
        ("max_cvg_len: 4", lambda length: min(4, length / 2), False, True),
        ("scale_cvg: 0.4 gridbox_type: GRIDBOX_MIN min_cvg_len: 6 obj_norm: true",
         lambda length: min(length, max(6, 0.4 * length)), True, True),
        ("crop_bboxes: false", lambda length: length / 2, False, False),
    ],
)  # fmt: skip
def test_labels_against_loops(truth, covered, norm, crop):
    classes = "object_class { src: 1 dst: 0 } object_class { src: 2 dst: 2 }"
    _, label = tops(layer(f"{SMALL} {truth} {classes}"), np.zeros((1, 3, 16, 32)), rows_of(*BOXES), TEST)
    assert label.shape == (1, 11, 4, 8)
    assert_close(label[0], label_by_loops(BOXES, 4, (16, 32), covered, norm, {1: 0, 2: 2}, crop))
    assert label[0, 10].any()


def test_in_test_images_and_boxes_are_scaled():
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 64)).astype(float)
    double = [(2 * x, 2 * y, 2 * w, 2 * h, c) for x, y, w, h, c in BOXES[:2]]
    text = layer(SMALL, EVERYTHING, "transform_param { mean_value: 1 mean_value: 2 mean_value: 3 }")
    y, label = tops(text, image, rows_of(*double), TEST)
    expected = resize((image[0] - np.array([1, 2, 3])[:, None, None]).astype(np.float32), 16, 32, "CUBIC")
    assert_close(y[0], expected, rtol=1e-3)
    _, same = tops(layer(SMALL), np.zeros((1, 3, 16, 32)), rows_of(*BOXES[:2]), TEST)
    assert_close(label, same)


def test_a_mean_file_of_another_size(tmp_path):
    write_mean(tmp_path / "mean.binaryproto", np.full((3, 8, 8), 100, np.float32))
    text = layer(SMALL, more=f"transform_param {{ mean_file: '{tmp_path / 'mean.binaryproto'}' }}")
    assert_close(tops(text, np.full((1, 3, 16, 32), 110.0), rows_of(), TEST)[0], np.full((1, 3, 16, 32), 10))


def test_flipped_and_cropped():
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 20, 40)).astype(float)
    y, label = tops(layer(SMALL, NOTHING.replace("flip_prob: 0", "flip_prob: 1")), image, rows_of((6, 4, 12, 9, 1)))
    assert_close(y, image[:, :, 2:18, ::-1][..., 4:36])
    moved = 40 - 6 - 12 - 1 - 4, 4 - 2, 12, 9, 1
    assert_close(label[0], label_by_loops([moved], 4, (16, 32), lambda length: length / 2, False, {1: 0}))


def test_crops_beyond_small_images_are_black():
    image = np.full((1, 3, 10, 20), 7.0)
    y, _ = tops(layer(SMALL), image, rows_of())
    expected = np.zeros((1, 3, 16, 32))
    expected[..., 3:13, 6:26] = 7
    assert_close(y, expected)


def test_random_crops_stay_in_the_image():
    """Of an image with the column number as its color."""
    image = np.broadcast_to(np.arange(100.0), (60, 3, 30, 100))
    text = layer(SMALL, NOTHING.replace("crop_prob: 0", "crop_prob: 1"))
    y, _ = tops(text, image, np.tile(rows_of(), (60, 1, 1, 1)))
    first = y[:, 0, 0, 0]
    assert (first >= 0).all() and (first <= 68).all() and len(set(first)) > 20
    assert_close(y[:, 0, 0], first[:, None] + np.arange(32))


@pytest.mark.parametrize("angle", [30, -20])
def test_rotation_moves_a_spot_as_its_box(angle):
    image = np.zeros((3, 40, 60), np.float32)
    image[:, 9:12, 44:47] = 1  # around (45, 10)
    turned = rotated(image, angle)
    rows, columns = np.indices(turned.shape[1:])
    centre = [(turned[0] * at).sum() / turned[0].sum() for at in (columns, rows)]
    change = Change(0, 1, False, (40, 60), angle, (0, 0))
    box = changed_boxes(np.array([[40.0, 7, 10, 6]]), (40, 60), change)[0]
    assert_close(box[:2] + box[2:] / 2, centre, rtol=0.02)
    assert_close(box[2:], [10, 6])


@pytest.mark.parametrize(("hue", "saturation"), [(0, 0.5), (70, 1), (-100, 0.7), (180, 0)])
def test_colors_as_by_colorsys(hue, saturation):
    image = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    image[:, 0, 0] = 0.5
    got = recolored(image, hue, saturation)
    for h, w in np.ndindex(4, 5):
        at, part, value = colorsys.rgb_to_hsv(*image[::-1, h, w])
        assert_close(got[::-1, h, w], colorsys.hsv_to_rgb((at + hue / 360) % 1, part * saturation, value))


def test_train_is_reproducible_and_random():
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 20, 40)).astype(float)
    built, bottom, top = run_layer(layer(SMALL, EVERYTHING), image, rows_of(*BOXES), num_top=2)
    state = built.state()
    results = []
    for _ in range(2):
        built.load_state(state)
        built.forward(bottom, top)
        results.append([blob.data.copy() for blob in top])
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)
    built.forward(bottom, top)
    assert not np.array_equal(top[0].data, results[0][0])


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        (layer(SMALL), [(1, 1, 16, 32), (1, 1, 2, 16)], r"bottom 0 must be images \(N, 3, H, W\), got"),
        (layer(SMALL), [(1, 3, 16, 32), (1, 1, 2, 15)], r"bottom 1 must be \(1, 1, R, 16\) with at least"),
        (layer("stride: 0"), [(1, 3, 16, 32), (1, 1, 2, 16)], "stride, image_size_x and image_size_y must be above 0"),
        (
            layer(SMALL, more="transform_param { mean_value: 1 mean_value: 2 }"), [(1, 3, 16, 32), (1, 1, 2, 16)],
            "mean_value must be given once or three times, got 2",
        ),
        (layer(SMALL), [(1, 3, 16, 32), (1, 1, 2, 16)], "row 0 of bottom 1 must be a number of boxes below 2, and 16"),
    ],
)  # fmt: skip
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^DetectNetTransformation layer 'layer': {words}"):
        tops(text, *map(np.zeros, shapes))
