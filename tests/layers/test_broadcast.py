"""The sums and rows that Scale, Bias and PReLU share, over every geometry for which the device code differs."""

import numpy as np
import pytest

from minicaffe.core.blob import Blob
from minicaffe.testing import run_layer

SHAPES = [
    (1, 1, 1),
    (300, 7, 1),
    (3, 700, 1),
    (2, 3, 5),
    (9, 4, 49),
    (2, 3, 300),
    (2, 2, 9000),
    (1, 1, 20000),
    (70, 1, 70),
]


def scale_layer(shape, rng):
    layer, bottom, top = run_layer("type: 'Scale'", rng.standard_normal(shape), dtype=np.float32)
    dy = Blob(shape)
    dy.data[...] = rng.standard_normal(shape)
    return layer, bottom[0], dy


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_over_the_axes_that_are_not_covered(shape):
    layer, x, _ = scale_layer(shape, np.random.default_rng(0))
    np.testing.assert_allclose(layer.sum_to_operand(x.data), x.data.sum(axis=(0, 2), dtype=float), rtol=1e-4, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_sums_on_the_device(shape, thread_order):
    layer, x, dy = scale_layer(shape, np.random.default_rng(0))
    out = Blob((shape[1],))
    product = dy.data.astype(float) * x.data
    negative = dy.data.astype(float) * np.minimum(x.data, 0)
    cases = [(False, 0, False, dy.data), (False, x.gpu_data(), False, product), (True, x.gpu_data(), True, negative)]
    for add, factor, only_negative, terms in cases:
        out.data[...] = 3
        layer.sum_to_operand_gpu(add, dy.gpu_data(), factor, out.mutable_gpu_data(), only_negative)
        expected = terms.sum(axis=(0, 2), dtype=float) + 3 * add
        np.testing.assert_allclose(out.data, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", SHAPES)
def test_every_number_is_scaled_once(shape, thread_order):
    layer, x, _ = scale_layer(shape, np.random.default_rng(0))
    scale, shift, y = Blob((shape[1],)), Blob((shape[1],)), Blob(shape)
    scale.data[...], shift.data[...] = np.random.default_rng(1).standard_normal((2, shape[1]))
    layer.launch_rows("scale_bias", x.gpu_data(), scale.gpu_data(), shift.gpu_data(), y.mutable_gpu_data())
    expected = x.data * scale.data[None, :, None] + shift.data[None, :, None]
    np.testing.assert_allclose(y.data, expected, rtol=1e-5, atol=1e-6)
