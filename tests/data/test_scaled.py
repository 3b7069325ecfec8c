"""Resizing by a factor, as py-faster-rcnn does it."""

import numpy as np
import pytest

from minicaffe.data.resample import resample, scaled


def by_loops(image, scale):
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    result = np.zeros((height, width, image.shape[2]))
    for i, j in np.ndindex(height, width):
        y, x = ((each + 0.5) / scale - 0.5 for each in (i, j))
        for row, part_y in ((np.floor(y), 1 - y % 1), (np.floor(y) + 1, y % 1)):
            for column, part_x in ((np.floor(x), 1 - x % 1), (np.floor(x) + 1, x % 1)):
                at = (int(np.clip(row, 0, len(image) - 1)), int(np.clip(column, 0, image.shape[1] - 1)))
                result[i, j] += part_y * part_x * image[at]
    return result


@pytest.mark.parametrize("shape", [(7, 5, 3), (4, 9, 1), (1, 1, 3)])
@pytest.mark.parametrize("scale", [0.5, 1, 1.7, 4.25, 0.31])
def test_samples_are_placed_by_the_factor(shape, scale):
    image = np.random.default_rng(0).uniform(-100, 100, shape).astype(np.float32)
    np.testing.assert_allclose(scaled(image, scale), by_loops(image, scale), rtol=1e-4, atol=1e-3)


def test_halves_of_even_sizes_are_means():
    image = np.random.default_rng(0).uniform(-100, 100, (6, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(scaled(image, 0.5), resample(image[None], 3, 4, "LINEAR")[0])


def test_numbers_of_opencv():
    """cv2.resize(image, None, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_LINEAR), OpenCV 5.0 without IPP."""
    image = (np.arange(5 * 7, dtype=np.float32) ** 2).reshape(5, 7, 1)
    np.testing.assert_array_equal(scaled(image, 0.7)[:, :, 0], np.float32(EXPECTED))


EXPECTED = [
    [11.357143, 18.357143, 29.214285, 44.5, 63.5],
    [148.64288, 184.2143, 223.64287, 267.5, 315.07144],
    [474.9286, 539.0715, 607.0714, 679.5, 755.6428],
    [796.2143, 878.9286, 965.5, 1056.5, 1151.2142],
]
