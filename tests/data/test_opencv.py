"""Resizing, colour spaces and noise give the bytes of OpenCV (tests/golden/opencv.npz, by tools/opencv_pairs.py)."""

import importlib.util

import numpy as np
import pytest

from house.imports import ROOT
from minicaffe.data import color
from minicaffe.data.image import resize
from minicaffe.data.noise import Noise
from minicaffe.data.resample import MODES
from minicaffe.errors import UsageError
from minicaffe.proto.caffe_pb2 import NoiseParameter


def load():
    """tools/opencv_pairs.py as a module."""
    spec = importlib.util.spec_from_file_location("opencv_pairs", ROOT / "tools" / "opencv_pairs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOL = load()
with np.load(TOOL.RECORDED) as stored:
    RECORDED = dict(stored)
RESIZINGS = list(TOOL.resizings())


def planes(pixels):
    """(C, H, W) of (H, W, C) or (H, W)."""
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def test_the_file_is_of_these_cases():
    expected = {case.name for case in RESIZINGS} | {*TOOL.COLORS, *TOOL.NOISE, "version"}
    assert expected == set(RECORDED) and set(TOOL.MODES) == set(MODES), "run python tools/opencv_pairs.py, with cv2"


@pytest.mark.parametrize("case", RESIZINGS, ids=lambda case: case.name)
def test_resizing(case):
    views = {
        "pixels": planes(case.pixels),
        "planes": np.ascontiguousarray(planes(case.pixels)),
        "reversed channels": planes(np.ascontiguousarray(case.pixels[:, :, ::-1])[:, :, ::-1]),
        "reversed rows": planes(np.ascontiguousarray(case.pixels[::-1])[::-1]),
    }
    for name, image in views.items():
        made = resize(image, case.height, case.width, case.mode)
        assert made.dtype == case.pixels.dtype and made.flags.c_contiguous
        assert np.array_equal(made, planes(RECORDED[case.name])), name


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_large_pictures_are_resized_in_blocks(mode, dtype, monkeypatch):
    """The result does not depend on the size of a block."""
    pixels = TOOL.picture(90, 70, 3, 1).astype(dtype)
    sizes = ((45, 35), (41, 50), (200, 90), (30, 10))
    expected = [resize(planes(pixels), *size, mode) for size in sizes]
    monkeypatch.setattr("minicaffe.data.resample._BLOCK", 200)
    for size, image in zip(sizes, expected):
        assert np.array_equal(resize(planes(pixels), *size, mode), image)


def test_a_constant_picture_stays_constant():
    for value in (0, 1, 77, 254, 255):
        for mode in MODES:
            assert (resize(np.full((3, 9, 11), value, np.uint8), 17, 5, mode) == value).all()


def test_other_types_become_float32():
    made = resize(np.arange(24.0).reshape(1, 4, 6), 2, 3)
    assert made.dtype == np.float32 and np.array_equal(made, [[[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]]])


def test_what_cannot_be_resized():
    with pytest.raises(UsageError, match="mode must be one of NEAREST, LINEAR, CUBIC, AREA, LANCZOS4, got 'BICUBIC'"):
        resize(np.zeros((1, 2, 2), np.uint8), 3, 3, "BICUBIC")
    for image, size in ((np.zeros((1, 2, 2), np.uint8), (0, 3)), (np.zeros((1, 0, 2), np.uint8), (3, 3))):
        with pytest.raises(UsageError, match="resize: cannot make"):
            resize(image, *size)


@pytest.mark.parametrize("name", TOOL.COLORS)
def test_colors(name):
    function = getattr(color, name.lower().replace("2", "_to_"))
    made = function(planes(TOOL.colors()))
    expected = planes(RECORDED[name])
    if name == "BGR2Lab":
        assert made.dtype == np.float32 and np.abs(made - expected).max() < 0.5
    else:
        assert made.dtype == np.uint8 and np.array_equal(made, expected)


def test_bgr_through_hsv():
    """Hues are whole numbers, so values return only about; gray ones exactly."""
    gray = np.arange(256, dtype=np.uint8).reshape(1, 16, 16).repeat(3, 0)
    assert np.array_equal(color.hsv_to_bgr(color.bgr_to_hsv(gray)), gray)
    image = planes(TOOL.colors())
    assert np.abs(color.hsv_to_bgr(color.bgr_to_hsv(image)).astype(int) - image).max() <= 5


def test_hues_beyond_the_circle_continue_it():
    hsv = np.array([[0, 60, 75], [180, 240, 255]], np.uint8)
    first, second = (np.stack([hue, np.full(3, 200, np.uint8), np.full(3, 90, np.uint8)])[:, None] for hue in hsv)
    assert np.array_equal(color.hsv_to_bgr(first), color.hsv_to_bgr(second))


def test_scaled():
    values = np.array([0, 1, 3, 100, 255], np.uint8)
    assert color.scaled(values, 0.5).tolist() == [0, 0, 2, 50, 128]  # halves to the even number
    assert color.scaled(values, 1, -2.4).tolist() == [0, 0, 1, 98, 253]
    assert color.scaled(values, 3, 10).tolist() == [10, 13, 19, 255, 255]


@pytest.mark.parametrize("name", TOOL.NOISE)
def test_noise(name):
    param = NoiseParameter(prob=0, **{name: 40 if name == "jpeg" else True})
    image = planes(TOOL.noisy())
    before = image.copy()
    made = Noise(param)(image, None)
    assert made.dtype == np.uint8 and np.array_equal(made, planes(RECORDED[name])) and np.array_equal(image, before)
