"""resize_param: the sizes, the padding and the boxes of the SSD fork."""

import math

import numpy as np
import pytest

from helpers.golden import SSD, read
from minicaffe.data.image import decode_image, resize
from minicaffe.data.lmdb_reader import LmdbReader
from minicaffe.data.resize_param import Drawn, Resizer
from minicaffe.data.transformer import BatchTransformer
from minicaffe.data.warp import rotation, warp
from minicaffe.errors import DataError
from minicaffe.philox import Stream
from minicaffe.proto import caffe_pb2, parse_text

GOLDEN = [
    path for path in SSD if path.name.startswith("AnnotatedData") and "resize_param" in str(read(path)["prototxt"])
]


def resizer(text):
    return Resizer(parse_text(text, caffe_pb2.ResizeParameter()))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (3, 9, 16), np.uint8)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_forks_pictures(path, tmp_path):
    """The images of AnnotatedData, without what happens to boxes."""
    case = read(path)
    case["file:anno_lmdb/data.mdb"].tofile(tmp_path / "data.mdb")
    layer = parse_text(str(case["prototxt"]), caffe_pb2.NetParameter()).layer[0]
    with LmdbReader(str(tmp_path)) as database:
        records = [caffe_pb2.AnnotatedDatum.FromString(bytes(value)).datum.data for _, value in database.items()]
    images = [decode_image(records[i % len(records)]) for i in range(layer.data_param.batch_size)]
    transformer, expected = BatchTransformer(layer.transform_param, False, Stream(0)), case["out:data"]
    out = np.empty((len(images), *transformer.output_shape(images[0].shape)), np.float32)
    transformer.transform(images, out)
    assert np.array_equal(out, expected)


def test_there_are_golden_cases_of_every_mode():
    tags = {tag for path in GOLDEN for tag in str(read(path)["tags"]).split(",")}
    assert {"resize=WARP", "resize=FIT_SMALL_SIZE", "resize=FIT_LARGE_SIZE_AND_PAD"} <= tags


@pytest.mark.parametrize(
    "old, new, covering, inside",
    [
        ((9, 16), (30, 20), (30, 53), (11, 20)),
        ((16, 9), (20, 30), (53, 30), (20, 11)),
        ((10, 10), (7, 7), (7, 7), (7, 7)),
        ((300, 2), (10, 10), (1500, 10), (10, 1)),
    ],
)
def test_sizes(old, new, covering, inside):
    for mode, size in (("WARP", new), ("FIT_SMALL_SIZE", covering), ("FIT_LARGE_SIZE_AND_PAD", new)):
        assert resizer(f"resize_mode: {mode} height: {new[0]} width: {new[1]}").size(*old) == size
    made = resizer(f"resize_mode: FIT_LARGE_SIZE_AND_PAD height: {new[0]} width: {new[1]} pad_value: 7")(
        np.full((1, *old), 200, np.uint8), Drawn("LINEAR")
    )
    top, left = ((a - b) // 2 for a, b in zip(new, inside))
    expected = np.full((1, *new), 7, np.uint8)
    expected[:, top : top + inside[0], left : left + inside[1]] = 200
    assert np.array_equal(made, expected)


def test_pad_modes(image):
    inner = resize(image, 11, 20)
    rows = {
        "MIRRORED": [9, 8, 7, 6, 5, 4, 3, 2, 1, *range(11), 9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
        "REPEAT_NEAREST": [0] * 9 + list(range(11)) + [10] * 10,
    }
    for mode, index in rows.items():
        made = resizer(f"resize_mode: FIT_LARGE_SIZE_AND_PAD height: 30 width: 20 pad_mode: {mode}")(
            image, Drawn("LINEAR")
        )
        assert np.array_equal(made, inner[:, index])


def test_pad_values(image):
    text = "resize_mode: FIT_LARGE_SIZE_AND_PAD height: 30 width: 20"
    made = resizer(f"{text} pad_value: 1.5 pad_value: 300 pad_value: -4")(image, Drawn("LINEAR"))
    assert made[:, 0, 0].tolist() == [2, 255, 0]  # as cv::Scalar becomes bytes
    made = resizer(f"{text} pad_value: 1.5")(image.astype(np.float32), Drawn("LINEAR"))
    assert made.dtype == np.float32 and (made[:, 0] == 1.5).all()
    with pytest.raises(DataError, match="resize_param: pad_value must be finite, got 1.0, nan"):
        Resizer(caffe_pb2.ResizeParameter(height=5, width=5, pad_value=[1, float("nan")]))
    with pytest.raises(DataError, match="pad_value must be given once or once per channel, got 2"):
        resizer(f"{text} pad_value: 1 pad_value: 2")(image, Drawn("LINEAR"))


def test_prob_has_no_effect_and_modes_are_equally_likely():
    rng = Stream(1)
    assert {resizer("prob: 0.1 height: 4 width: 4").draw(rng) for _ in range(50)} == {Drawn("LINEAR")}
    five = resizer(
        "interp_mode: LINEAR interp_mode: AREA interp_mode: NEAREST interp_mode: CUBIC interp_mode: LANCZOS4"
    )
    drawn = [five.draw(rng).mode for _ in range(5000)]
    assert {mode: abs(drawn.count(mode) - 1000) < 130 for mode in five.modes} == dict.fromkeys(five.modes, True)


def test_angles_are_drawn_evenly_and_turn_the_picture_before(image):
    turning = resizer("height: 9 width: 16 max_angle: 10 pad_value: 7")
    angles = np.array([turning.draw(Stream(1, i)).degrees for i in range(300)])
    assert np.abs(angles).max() <= 10 and abs(angles.mean()) < 1 and angles.std() > 5
    assert np.array_equal(
        turning(image, Drawn("LINEAR", 4.0)), warp(image, rotation(4, 9, 16), "LINEAR", "constant", [7])
    )
    mirrored = resizer("height: 9 width: 16 max_angle: 10 pad_mode: MIRRORED")(image, Drawn("CUBIC", -3.0))
    assert np.array_equal(mirrored, warp(image, rotation(-3, 9, 16), "CUBIC", "reflect", [0]))
    with pytest.raises(DataError, match="max_angle must be 0 or more and finite, got -1"):
        resizer("max_angle: -1")


def test_the_object_is_cut_out_before(image):
    scene = np.full((3, 40, 50), 230, np.uint8)
    scene[:, 10:20, 15:30] = 20
    made = resizer("resize_mode: FIT_SMALL_SIZE height: 14 width: 17 center_object: true")(scene, Drawn("LINEAR"))
    assert np.array_equal(
        made, scene[:, 8:21, 13:31] if made.shape[1:] == (13, 18) else resize(scene[:, 8:21, 13:31], 14, 19)
    )
    with pytest.raises(DataError, match="center_object needs images of bytes with 1 or 3 channels, got float32 with 3"):
        resizer("height: 9 width: 9 center_object: true")(image.astype(np.float32), Drawn("LINEAR"))


def plain_box(mode, new, old, box):
    """A box after resizing, in floats of Python; new, old: (height, width)."""
    aspect, (xmin, ymin, xmax, ymax) = old[1] / old[0], box
    if mode != "FIT_LARGE_SIZE_AND_PAD":
        return box
    scale = min(new[1] / old[1], new[0] / old[0])
    width, height = (new[1], new[1] / aspect) if scale == new[1] / old[1] else (new[0] * aspect, new[0])
    left, top = (new[1] - width) / 2, (new[0] - height) / 2
    return [
        (left + xmin * width) / new[1],
        (top + ymin * height) / new[0],
        (left + xmax * width) / new[1],
        (top + ymax * height) / new[0],
    ]


@pytest.mark.parametrize("mode", ["WARP", "FIT_SMALL_SIZE", "FIT_LARGE_SIZE_AND_PAD"])
def test_boxes(mode):
    rng = np.random.default_rng(2)
    for _ in range(50):
        old, new = rng.integers(1, 500, 2), rng.integers(1, 500, 2)
        boxes = np.sort(rng.random((5, 2, 2)), 1).reshape(5, 4).astype(np.float32)
        carried = resizer(f"resize_mode: {mode} height: {new[0]} width: {new[1]}").boxes(boxes, *old.tolist())
        expected = [plain_box(mode, new, old, box.tolist()) for box in boxes]
        assert carried.dtype == np.float32
        np.testing.assert_allclose(carried, expected, atol=1e-6)
    outside = np.float32([[-0.5, -1, 1.5, 2]])
    assert carried.shape == (5, 4) and resizer("height: 3 width: 4").boxes(outside, 5, 6).tolist() == [[0, 0, 1, 1]]


def test_boxes_in_units_of_the_scales():
    boxes, crop = np.float32([[0.1, 0.2, 0.5, 0.75]]), np.float32([0, 0.5, 1, 1])
    text = "resize_mode: FIT_SMALL_SIZE height: 40 width: 60"
    assert np.array_equal(resizer(text).extrapolate(boxes, 10, 30, crop), boxes)
    stretched = resizer(f"{text} height_scale: 10 width_scale: 20").extrapolate(boxes, 10, 30, crop)
    np.testing.assert_allclose(stretched, boxes * np.array([120 / 20, 20 / 10] * 2), rtol=1e-6)
    same = resizer("height: 40 width: 60 height_scale: 10 width_scale: 20").extrapolate(boxes, 10, 30, crop)
    assert np.array_equal(same, boxes)  # WARP
    with pytest.raises(DataError, match="must not be larger than the crop, 120x20"):
        resizer(f"{text} height_scale: 21 width_scale: 20").extrapolate(boxes, 10, 30, crop)


def test_the_exact_size_differs_from_that_in_pixels():
    """The padding that moves the boxes is 1/2 (30 - 20 * 9 / 16), that of the picture 9 rows."""
    carried = resizer("resize_mode: FIT_LARGE_SIZE_AND_PAD height: 30 width: 20").boxes(
        np.float32([[0, 0, 1, 1]]), 9, 16
    )
    pad = (30 - 20 * 9 / 16) / 2
    assert pad == 9.375 and math.isclose(carried[0, 1], pad / 30, rel_tol=1e-6)


def test_sizes_that_are_too_large():
    with pytest.raises(DataError, match="resize_param: height and width must be positive, got 5 and 0"):
        resizer("height: 5").size(3, 3)
    with pytest.raises(DataError, match="an image of 100000x100000 has more than"):
        resizer("height: 100000 width: 100000").size(3, 3)
