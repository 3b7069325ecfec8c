"""A strided view on the device: numpy's slices and transposes."""

import numpy as np
import pytest

from minicaffe.core.blob import Blob
from minicaffe.cuda.strided import StridedView


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("lengths", "offset", "order"),
    [
        (None, None, None),
        (None, None, (2, 0, 1)),
        ((1, 2, 3), (1, 1, 0), None),
        ((2, 2, 2), (0, 1, 2), (1, 2, 0)),
        ((2, 0, 2), None, None),
    ],
)
def test_take_and_put_are_slices_and_transposes(lengths, offset, order, thread_order):
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    cut = tuple(slice(o, o + n) for o, n in zip(offset or (0, 0, 0), lengths or x.shape))
    expected = x[cut].transpose(order or (0, 1, 2))
    view = StridedView(x.shape, lengths, offset, order)
    blob, out = Blob(x.shape), Blob(expected.shape)
    blob.data[...] = x
    view.take(blob.gpu_data(), out.mutable_gpu_data(), np.dtype(np.float32))
    np.testing.assert_array_equal(out.data, expected)
    out.data[...] = 100 + expected
    view.put(out.gpu_data(), blob.mutable_gpu_data(), np.dtype(np.float32))
    x[cut] += 100
    np.testing.assert_array_equal(blob.data, x)
