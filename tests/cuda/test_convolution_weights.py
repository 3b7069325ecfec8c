"""The gradients of a convolution's weights and bias on the device, against the processor's."""

import numpy as np
import pytest

from minicaffe.cuda import convolution_weights, ops, split
from minicaffe.cuda.convolution import CudaCorrelation
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.layers.shared import correlation
from minicaffe.layers.shared.window import Window

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda_device", "thread_order")]

# samples, channels, size, outputs, kernel, stride, pad, dilation, group
CASES = {
    "3 x 3": (3, 7, (6, 6), 20, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "3 x 3, odd": (3, 7, (5, 7), 20, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "5 x 5": (2, 5, (8, 6), 33, (5, 5), (1, 1), (2, 2), (1, 1), 1),
    "5 x 5, strided": (2, 5, (9, 11), 12, (5, 5), (2, 2), (0, 1), (1, 1), 1),
    "unlike axes": (2, 6, (10, 13), 8, (3, 4), (2, 1), (0, 3), (2, 1), 1),
    "dilated": (1, 6, (14, 14), 7, (3, 3), (2, 3), (2, 2), (1, 2), 1),
    "1 x 1": (3, 30, (4, 6), 18, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "1 x 1, odd": (3, 30, (3, 3), 18, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "1 x 1, one place": (5, 30, (1, 1), 18, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "1 x 1, strided": (2, 30, (8, 8), 18, (1, 1), (2, 2), (0, 0), (1, 1), 1),
    "groups": (2, 12, (8, 8), 18, (3, 3), (1, 1), (1, 1), (1, 1), 3),
    "three axes": (2, 5, (5, 6, 7), 8, (2, 3, 3), (1, 2, 2), (1, 0, 1), (1, 1, 1), 1),
    "depthwise": (2, 6, (8, 9), 6, (3, 3), (2, 2), (1, 1), (1, 1), 6),
    "depthwise, three axes": (2, 2, (5, 6, 7), 4, (2, 3, 2), (1, 2, 2), (1, 4, 1), (1, 2, 2), 2),
    "a kernel of more than 31 rows and columns": (2, 3, (3, 40), 6, (1, 33), (1, 2), (0, 5), (1, 1), 1),
}


class Case:
    """Random arrays of one case, and what is expected."""

    def __init__(self, name, dtype):
        n, channels, size, outputs, kernel, stride, pad, dilation, group = CASES[name]
        rng = np.random.default_rng(3)
        window = Window(kernel, stride, pad, dilation)
        self.dtype = np.dtype(dtype)
        self.x = rng.standard_normal((n, channels, *size)).astype(dtype)
        self.dy = rng.standard_normal((n, outputs, *window.output(size))).astype(dtype)
        self.w = rng.standard_normal((outputs, channels // group, *kernel)).astype(dtype)
        self.b = rng.standard_normal(outputs).astype(dtype)
        self.cpu = correlation.Correlation(window, group, self.dtype)
        self.gpu = CudaCorrelation(window, group, self.dtype)
        self.gpu.prepare(self.x.shape, self.dy.shape)

    def gradients(self, with_bias=True):
        dw, db = upload(self.w), upload(self.b)
        self.gpu.weight_gradient(upload(self.x), upload(self.dy), dw, db if with_bias else 0)
        return dw.to_host(np.empty_like(self.w)), db.to_host(np.empty_like(self.b))

    def check(self, dw, db, with_bias=True, precision=1.0):
        expected, axes = self.w.copy(), (0, *range(2, self.dy.ndim))
        self.cpu.weight_gradient(self.x, self.dy, expected)
        close(dw, expected, precision)
        close(db, self.b + with_bias * self.dy.sum(axes), precision)


def upload(array):
    buffer = DeviceBuffer(array.nbytes)
    buffer.from_host(array)
    return buffer


def close(got, expected, precision=1.0):
    tolerance = {4: 3e-5, 8: 1e-12}[got.dtype.itemsize] * precision
    assert np.abs(got - expected).max() <= tolerance * max(1, np.abs(expected).max())


def divide(monkeypatch, share):
    def choose(tile, count, steps, *_):
        return split.Choice(share, -(-count * steps // share), float(tile.rows))

    monkeypatch.setattr(ops, "choose", choose)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_against_the_processor(name, dtype, with_bias):
    case = Case(name, dtype)
    case.check(*case.gradients(with_bias), with_bias)


@pytest.mark.parametrize("name", ["3 x 3", "3 x 3, odd", "5 x 5", "unlike axes", "1 x 1", "1 x 1, odd", "groups"])
@pytest.mark.parametrize("rows", [16, 32, 64, 128])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("share", [1, 3, 10**6])
def test_every_tile(monkeypatch, name, rows, dtype, share):
    """With one step for each block, with three, and with all of a tile's or more."""
    tiles = convolution_weights._TILES
    monkeypatch.setattr(convolution_weights, "_TILES", {size: {rows: tiles[size][rows]} for size in tiles})
    divide(monkeypatch, share)
    case = Case(name, dtype)
    first = case.gradients()
    case.check(*first)
    assert all((a == b).all() for a, b in zip(first, case.gradients(), strict=True))


@pytest.mark.parametrize("name", ["3 x 3", "1 x 1", "groups"])
def test_arrays_that_begin_anywhere(name):
    """Addresses that are multiples of 4 bytes only."""
    case = Case(name, np.float32)
    buffers = []
    for array in (case.x, case.dy, case.w, case.b):
        buffer = DeviceBuffer(array.nbytes + 4)
        buffer.from_host(np.append(np.float32(0), array))
        buffers.append(buffer)
    case.gpu.weight_gradient(*(int(buffer) + 4 for buffer in buffers))
    results = zip((case.w, case.b), buffers[2:], strict=True)
    dw, db = (b.to_host(np.empty(a.size + 1, np.float32))[1:].reshape(a.shape) for a, b in results)
    case.check(dw, db)


@pytest.mark.parametrize("samples, slices", [(2, 1), (40, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bias_by_itself(monkeypatch, samples, slices, dtype):
    """In one block, and in slices that the last block adds up."""
    rng = np.random.default_rng(0)
    dy, b = rng.standard_normal((samples, 2, 9, 11)).astype(dtype), rng.standard_normal(2).astype(dtype)
    device = convolution_weights.context.current()
    monkeypatch.setattr(type(device), "multiprocessors", slices, raising=False)
    results = []
    for _ in range(2):
        db = upload(b)
        convolution_weights.bias_gradient(upload(dy), dy.shape, db, np.dtype(dtype))
        results.append(db.to_host(np.empty_like(b)))
    close(results[0], b + dy.sum((0, 2, 3)))
    assert (results[0] == results[1]).all()


def test_no_windows_change_nothing():
    case = Case("3 x 3", np.float32)
    case.gpu.prepare((0, *case.x.shape[1:]), (0, *case.dy.shape[1:]))
    dw, db = case.gradients()
    assert (dw == case.w).all() and (db == case.b).all()
