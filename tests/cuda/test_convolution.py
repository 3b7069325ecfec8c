"""The device's convolution against the processor's, at shapes that are no multiples of a tile."""

import numpy as np
import pytest

from minicaffe.cuda import context, convolution
from minicaffe.cuda.convolution import CudaCorrelation
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.errors import DeviceError, UsageError
from minicaffe.layers.shared import correlation
from minicaffe.layers.shared.window import Window
from minicaffe.testing import computing_with

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda_device")]

# samples, channels, size, outputs, kernel, stride, pad, dilation, group
CASES = {
    "one element": (1, 1, (1, 1), 1, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "as cifar10_full": (3, 3, (11, 11), 32, (5, 5), (1, 1), (2, 2), (1, 1), 1),
    "33 channels": (2, 7, (9, 6), 33, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "65 channels, 1x1": (1, 70, (5, 5), 65, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "140 channels": (2, 130, (9, 8), 140, (1, 2), (1, 1), (0, 1), (1, 1), 1),
    "stride 2": (2, 5, (12, 11), 9, (3, 3), (2, 2), (1, 1), (1, 1), 1),
    "stride over kernel": (2, 5, (11, 12), 9, (2, 1), (3, 3), (0, 0), (1, 1), 1),
    "unlike axes": (2, 6, (10, 13), 8, (3, 5), (2, 1), (0, 3), (2, 1), 1),
    "dilated, strided": (1, 6, (14, 14), 7, (3, 3), (2, 3), (2, 2), (2, 2), 1),
    "pad over kernel": (1, 5, (4, 4), 6, (2, 2), (1, 1), (3, 3), (1, 1), 1),
    "groups": (2, 12, (7, 7), 18, (3, 3), (1, 1), (1, 1), (1, 1), 3),
    "depthwise": (2, 6, (8, 9), 6, (3, 3), (2, 2), (1, 1), (1, 1), 6),
    "few outputs": (2, 9, (6, 6), 2, (3, 3), (1, 1), (0, 0), (1, 1), 1),
    "one axis": (3, 6, (17,), 10, (4,), (2,), (1,), (1,), 2),
    "three axes": (2, 5, (5, 6, 7), 8, (2, 3, 2), (1, 2, 2), (1, 0, 1), (1, 1, 2), 1),
    "many windows": (20, 5, (12, 12), 6, (3, 3), (1, 1), (1, 1), (1, 1), 1),
}


class Case:
    """Random arrays of one case, and the correlations of CPU and GPU."""

    def __init__(self, name, dtype):
        n, channels, size, outputs, kernel, stride, pad, dilation, group = CASES[name]
        rng = np.random.default_rng(3)
        window = Window(kernel, stride, pad, dilation)
        self.dtype = np.dtype(dtype)
        self.x = rng.standard_normal((n, channels, *size)).astype(dtype)
        self.w = rng.standard_normal((outputs, channels // group, *kernel)).astype(dtype)
        self.y = rng.standard_normal((n, outputs, *window.output(size))).astype(dtype)
        self.b = rng.standard_normal(outputs).astype(dtype)
        self.cpu = correlation.Correlation(window, group, self.dtype)
        self.gpu = CudaCorrelation(window, group, self.dtype)
        self.gpu.prepare(self.x.shape, self.y.shape)

    def check(self, got, expected, precision=1.0):
        tolerance = {4: 3e-5, 8: 1e-12}[self.dtype.itemsize] * precision
        assert np.abs(got - expected).max() <= tolerance * max(1, np.abs(expected).max())


def upload(array):
    buffer = DeviceBuffer(array.nbytes)
    buffer.from_host(array)
    return buffer


def download(buffer, like):
    return buffer.to_host(np.empty_like(like))


def forward(case):
    y = DeviceBuffer(case.y.nbytes)
    case.gpu.forward(upload(case.x), upload(case.w), y, upload(case.b))
    return download(y, case.y)


def data_gradient(case):
    dx = DeviceBuffer(case.x.nbytes)
    case.gpu.data_gradient(upload(case.y), upload(case.w), dx)
    return download(dx, case.x)


def weight_gradient(case):
    dw = upload(np.ones_like(case.w))
    case.gpu.weight_gradient(upload(case.x), upload(case.y), dw)
    return download(dw, case.w)


def expected(case, what):
    if what is forward:
        out = np.empty_like(case.y)
        case.cpu.forward(case.x, case.w, out)
        return out + case.b.reshape(-1, *[1] * (out.ndim - 2))
    if what is data_gradient:
        out = np.empty_like(case.x)
        case.cpu.data_gradient(case.y, case.w, out)
        return out
    out = np.ones_like(case.w)
    case.cpu.weight_gradient(case.x, case.y, out)
    return out


WHATS = pytest.mark.parametrize("what", [forward, data_gradient, weight_gradient], ids=lambda f: f.__name__)


@pytest.mark.usefixtures("thread_order")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@WHATS
@pytest.mark.parametrize("name", CASES)
def test_against_the_processor(name, what, dtype):
    case = Case(name, dtype)
    case.check(what(case), expected(case, what))


@pytest.mark.parametrize("name", ["33 channels", "140 channels"])
@pytest.mark.parametrize("rows", [32, 64, 128])
@WHATS
def test_every_tile(monkeypatch, what, rows, name):
    case = Case(name, np.float32)
    monkeypatch.setattr(CudaCorrelation, "_tile", lambda *_: (rows, 1))
    case.check(what(case), expected(case, what))


@pytest.mark.parametrize("name", ["33 channels", "dilated, strided", "stride over kernel", "groups", "three axes"])
@pytest.mark.parametrize("shares", [2, 5])
@pytest.mark.parametrize("rows", [32, 64])
def test_taps_in_shares(monkeypatch, name, rows, shares):
    case = Case(name, np.float32)
    monkeypatch.setattr(CudaCorrelation, "_tile", lambda *_: (rows, shares))
    for what in (forward, data_gradient):
        case.check(what(case), expected(case, what))


@pytest.mark.parametrize("name", ["groups", "depthwise", "one axis", "140 channels", "stride 2", "unlike axes"])
@WHATS
def test_only_x_has_many_blocks(monkeypatch, what, name):
    monkeypatch.setenv("EMU_GRID_LIMIT", "1")
    case = Case(name, np.float32)
    case.check(what(case), expected(case, what))


@pytest.mark.parametrize(
    "kernel, shapes, message",
    [
        ((1, 1), [(1 << 16, 1, 1 << 8, 1 << 7)] * 2, "at most 2147483647 windows in a batch, got 2147483648"),
        ((1, 1), [(1, 1 << 8, 1 << 12, 1 << 11)] * 2, "at most 2147483647 numbers in a sample, got 2147483648"),
        ((40_000, 1), [(1, 1, 40_000, 1), (1, 1, 1, 1)], "at most 32767 rows or planes from one end .*, got 39999"),
    ],
)
def test_shapes_that_kernels_cannot_count(kernel, shapes, message):
    window = Window(kernel, (1, 1), (0, 0), (1, 1))
    with pytest.raises(DeviceError, match=f"convolution on the GPU: expected {message}"):
        CudaCorrelation(window, 1, np.float32).prepare(*shapes)


def test_few_windows_share_their_taps_out():
    case = Case("65 channels, 1x1", np.float32)
    plan = case.gpu._forward
    assert case.gpu._tile(plan, 1) == (64, 1)
    assert case.gpu._tile(plan._replace(windows=25, channels=20, depth=1000), 1)[1] > 1


def test_the_gradient_of_the_weights_is_the_same_in_every_run():
    case = Case("many windows", np.float32)
    first = weight_gradient(case)
    assert all((weight_gradient(case) == first).all() for _ in range(3))


def test_bias_gradient():
    case = Case("groups", np.float64)
    db = upload(np.ones_like(case.b))
    case.gpu.bias_gradient(upload(case.y), case.y.shape, db)
    case.check(download(db, case.b), 1 + case.y.sum((0, 2, 3)))


@WHATS
@pytest.mark.parametrize("name", ["33 channels", "dilated, strided"])
def test_tf32_rounds_the_factors(name, what):
    case = Case(name, np.float32)
    precise = expected(case, what)
    with computing_with(math="tf32"):
        got = what(case)
    case.check(got, precise, precision=100)
    for array in (case.x, case.w, case.y):
        array[...] = ((array.view(np.uint32) + 0x1000) & 0xFFFFE000).view(np.float32)
    case.check(got, expected(case, what))
    assert not np.array_equal(got, precise)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("slope, math", [(None, "float32"), (0.0, "float32"), (0.5, "float32"), (0.0, "tf32")])
def test_what_is_not_finite(slope, math, value):
    case = Case("33 channels", np.float32)
    case.x[0, 2, 4, 3] = value
    y = DeviceBuffer(case.y.nbytes)
    with computing_with(math=math):
        case.gpu.forward(upload(case.x), upload(case.w), y, upload(case.b), slope)
    with np.errstate(invalid="ignore"):
        wanted = expected(case, forward)
        if slope is not None:
            wanted = np.where(wanted < 0, wanted * slope if slope else 0, wanted)
    got = download(y, case.y)
    assert (np.isnan(got) == np.isnan(wanted)).all() and (np.isinf(got) == np.isinf(wanted)).all()


def test_tf32_leaves_double_alone():
    case = Case("groups", np.float64)
    with computing_with(math="tf32"):
        case.check(forward(case), expected(case, forward))


def test_set_math_knows_three_kinds():
    with pytest.raises(UsageError, match='expected "float32", "tf32" or "bf16", got \'half\''):
        context.set_math("half")


def test_plans_are_kept_for_a_few_shapes_only():
    case = Case("groups", np.float32)
    for n in range(1, 30):
        case.gpu.prepare((n, *case.x.shape[1:]), (n, *case.y.shape[1:]))
    assert len(case.gpu._plans) <= convolution._KEPT
