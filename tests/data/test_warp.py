"""Pictures under a map, compared with a loop over pixels, and cut to their object."""

import numpy as np
import pytest

from minicaffe.data.centering import cut_to_object, otsu
from minicaffe.data.warp import rotation, shift, warp


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (3, 7, 9), np.uint8)


def by_hand(image, source, border, value):
    """Linear interpolation of each pixel where it comes from."""
    channels, height, width = image.shape

    def pixel(c, y, x):
        if border == "constant" and not (0 <= y < height and 0 <= x < width):
            return value[c]
        fold = {"constant": lambda i, n: i, "edge": lambda i, n: min(max(i, 0), n - 1),
                "reflect": lambda i, n: ([*range(n), *range(n - 2, 0, -1)] * 9)[i % (2 * n - 2)]}[border]  # fmt: skip
        return float(image[c, fold(y, height), fold(x, width)])

    result = np.empty(image.shape)
    for c, row, column in np.ndindex(*image.shape):
        x, y, scale = source @ (column, row, 1)
        x, y = x / scale, y / scale
        left, top = int(np.floor(x)), int(np.floor(y))
        a, b = x - left, y - top
        result[c, row, column] = (
            (1 - b) * ((1 - a) * pixel(c, top, left) + a * pixel(c, top, left + 1))
            + b * ((1 - a) * pixel(c, top + 1, left) + a * pixel(c, top + 1, left + 1))
        )  # fmt: skip
    return result


PERSPECTIVE = np.array([[0.9, 0.1, 1.2], [-0.2, 1.1, 0.4], [0.01, -0.02, 1]])


@pytest.mark.parametrize("border", ["constant", "reflect", "edge"])
@pytest.mark.parametrize("source", [rotation(13, 7, 9), shift(-2.5, 1.25), PERSPECTIVE], ids=["turn", "shift", "view"])
def test_against_a_plain_loop(image, source, border):
    expected = by_hand(image, source, border, [10, 20, 30])
    made = warp(image.astype(np.float32), source, "LINEAR", border, [10, 20, 30])
    assert np.allclose(made, expected, atol=2e-3)
    assert np.abs(warp(image, source, "LINEAR", border, [10, 20, 30]) - expected).max() < 0.51


@pytest.mark.parametrize("mode", ["NEAREST", "LINEAR", "AREA", "CUBIC", "LANCZOS4"])
def test_whole_steps_copy(image, mode):
    made = warp(image, shift(2, -1), mode, "edge", [0])
    assert np.array_equal(made[:, 1:, :-2], image[:, :-1, 2:]) and np.array_equal(made[:, 0], made[:, 1])
    assert np.array_equal(warp(image, np.eye(3), mode, "constant", [0]), image)


def test_turns_are_counterclockwise():
    square = np.arange(25, dtype=np.float32).reshape(1, 5, 5)
    assert np.allclose(warp(square, rotation(90, 5, 5), "LINEAR", "edge", [0]), np.rot90(square, 1, (1, 2)), atol=1e-4)


def test_otsu_and_the_object():
    plane = np.array([[10, 10, 12], [200, 210, 220]], np.uint8)
    spread = [
        (low := plane <= t).mean() * (~low).mean() * (plane[low].mean() - plane[~low].mean()) ** 2
        if (plane <= t).any() and (plane > t).any() else 0 for t in range(256)
    ]  # fmt: skip
    assert otsu(plane) == int(np.argmax(spread)) == 12
    scene = np.full((1, 30, 40), 240, np.uint8)
    scene[0, 9, 12], scene[0, 14, 20] = 3, 5  # the corners of the object
    assert np.array_equal(cut_to_object(scene), scene[:, 7:16, 10:22])
    scene[0, 3, 0] = 0
    assert cut_to_object(scene) is scene  # the background has not one colour
    flat = np.full((3, 5, 5), 9, np.uint8)
    assert cut_to_object(flat) is flat
