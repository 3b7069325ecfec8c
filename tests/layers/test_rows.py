"""Rows chosen by index: gather, and scatter-add."""

import numpy as np
import pytest

from minicaffe.core.blob import Blob
from minicaffe.errors import LayerError
from minicaffe.layers.shared.rows import add_gpu, add_rows, row_numbers, take_gpu
from minicaffe.testing import run_layer

SHAPES = [(5, ()), (5, (3,)), (7, (2, 4)), (4, (100,)), (1, (64,))]


def draw(rows, shape, count=23):
    rng = np.random.default_rng(0)
    table, values = rng.standard_normal((rows, *shape)), rng.standard_normal((count, *shape))
    return table.astype(np.float32), rng.integers(0, rows, count).astype(np.int32), values.astype(np.float32)


@pytest.mark.parametrize(("rows", "shape"), SHAPES)
def test_rows_named_several_times_add_up(rows, shape):
    table, numbers, values = draw(rows, shape)
    expected = table.copy()
    for i, row in enumerate(numbers):
        expected[row] += values[i]
    add_rows(table, numbers, values)
    np.testing.assert_allclose(table, expected, rtol=1e-5, atol=1e-6)


def test_nothing_to_add_changes_nothing():
    table = np.ones((3, 2), np.float32)
    add_rows(table, np.zeros(0, np.int32), np.zeros((0, 2), np.float32))
    assert (table == 1).all()


def test_numbers_are_truncated_and_checked():
    layer, _, _ = run_layer("type: 'ReLU'", [1.0])
    np.testing.assert_array_equal(row_numbers(layer, np.array([[0.9, 2.0]]), 3), [0, 2])
    for wrong in (3.0, -1.0, np.nan):
        with pytest.raises(LayerError, match="^ReLU layer 'layer': index .* is out of range: there are 3 rows, 0 to 2"):
            row_numbers(layer, np.array([0.0, wrong]), 3)


@pytest.mark.gpu
@pytest.mark.parametrize(("rows", "shape"), SHAPES)
def test_the_device_takes_and_adds_alike(rows, shape, thread_order):
    table, numbers, values = draw(rows, shape)
    blobs = [Blob(array.shape) for array in (table, numbers, values)]
    for blob, array in zip(blobs, (table, numbers, values)):
        blob.data[...] = array
    on_device, index, added = blobs
    width, dtype, out = int(np.prod(shape)), np.dtype(np.float32), Blob(values.shape)
    take_gpu(len(numbers), width, rows, index.gpu_data(), on_device.gpu_data(), out.mutable_gpu_data(), dtype)
    np.testing.assert_array_equal(out.data, table[numbers])
    add_gpu(len(numbers), width, rows, index.gpu_data(), added.gpu_data(), on_device.mutable_gpu_data(), dtype)
    add_rows(table, numbers, values)
    np.testing.assert_allclose(on_device.data, table, rtol=1e-5, atol=1e-6)
