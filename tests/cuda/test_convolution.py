"""The device's convolution against the processor's, at shapes that are no multiples of a tile."""

import numpy as np
import pytest

from minicaffe.cuda import context, convolution, split
from minicaffe.cuda.convolution import CudaCorrelation
from minicaffe.cuda.kernels import Kernel
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.errors import DeviceError, UsageError
from minicaffe.layers.shared import correlation
from minicaffe.layers.shared.window import Window

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
    "1x1, 16 bytes at once": (3, 19, (6, 6), 40, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "1x1, 16 to 16 channels": (2, 16, (4, 5), 16, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "1x1, strided": (2, 9, (8, 8), 12, (1, 1), (2, 2), (0, 0), (1, 1), 1),
    "as ResNet-20": (3, 16, (8, 8), 16, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "as ResNet-20, strided": (2, 16, (8, 8), 32, (3, 3), (2, 2), (1, 1), (1, 1), 1),
    "16 channels in groups": (2, 64, (5, 4), 32, (3, 3), (1, 1), (1, 1), (1, 1), 2),
    "much padding, one axis": (2, 5, (50,), 8, (40,), (1,), (38,), (1,), 1),
    "much padding": (1, 1, (20, 20), 6, (19, 18), (1, 1), (17, 17), (1, 1), 1),
    "49 phases": (1, 2, (16, 15), 8, (7, 7), (7, 7), (0, 0), (1, 1), 1),
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


@pytest.mark.parametrize("name", ["33 channels", "140 channels", "1x1, 16 bytes at once", "as ResNet-20"])
@pytest.mark.parametrize("rows", [16, 32, 64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("what", [forward, data_gradient], ids=lambda f: f.__name__)
def test_every_tile(monkeypatch, what, rows, name, dtype):
    case = Case(name, dtype)
    monkeypatch.setattr(case.gpu, "_tile", lambda _: (rows, convolution._TILES[case.dtype.itemsize][rows]))
    case.check(what(case), expected(case, what))


@pytest.mark.usefixtures("thread_order")
@pytest.mark.parametrize(
    "name",
    ["33 channels", "dilated, strided", "stride over kernel", "groups", "three axes", "as ResNet-20", "49 phases"],
)
@pytest.mark.parametrize("share", [1, 2, 5])
def test_steps_of_tiles_are_divided(monkeypatch, name, share):
    case = Case(name, np.float32)
    monkeypatch.setattr(split, "choose", lambda *_: split.Choice(share, 0, 0.0))
    moments = DeviceBuffer(8 * case.y.shape[1] * max(case.gpu.moment_parts()[0], 1))
    for what in (forward, data_gradient):
        case.check(what(case), expected(case, what))
    if case.gpu.moment_parts()[0]:
        y = DeviceBuffer(case.y.nbytes)
        case.gpu.forward(upload(case.x), upload(case.w), y, moments=moments)
        check_moments(case, download(y, case.y), moments)


@pytest.mark.parametrize(
    "name, kernels",
    {
        "as cifar10_full": ["gathered_32", "correlate_each"],
        "140 channels": ["gathered_64", "gathered_64"],
        "1x1, 16 bytes at once": ["pointwise_64", "pointwise_32"],
        "1x1, 16 to 16 channels": ["pointwise_16", "pointwise_16"],
        "1x1, strided": ["gathered_16", "gathered_16"],
        "as ResNet-20": ["channels_16", "channels_16"],
        "as ResNet-20, strided": ["gathered_32", "channels_16"],
        "16 channels in groups": ["channels_16", "gathered_32"],
        "depthwise": ["correlate_each", "correlate_each"],
    }.items(),
)
def test_the_kernel_fits_the_shape_and_is_the_only_launch(monkeypatch, name, kernels):
    case, launched = Case(name, np.float32), []
    launch = Kernel.launch
    monkeypatch.setattr(Kernel, "launch", lambda k, *a, **b: (launched.append(k.name), launch(k, *a, **b))[1])
    for what in (forward, data_gradient):
        case.check(what(case), expected(case, what))
    assert launched == [f"convolution.{kernel}" for kernel in kernels]


@pytest.mark.parametrize("name", ["1x1, 16 bytes at once", "as ResNet-20"])
@pytest.mark.parametrize("what", [forward, data_gradient], ids=lambda f: f.__name__)
def test_arrays_at_any_address(name, what, monkeypatch):
    """Blobs may be parts of others: copies and stores of 16 bytes are for addresses that allow them."""
    case = Case(name, np.float32)
    wanted, whole = expected(case, what), np.empty(case.x.size + case.y.size + 1, np.float32)

    def moved(array):
        return upload(np.concatenate([np.zeros(1, np.float32), array.ravel()]))

    image, w, bias = case.x if what is forward else case.y, upload(case.w), upload(case.b)
    product = case.gpu.forward if what is forward else case.gpu.data_gradient
    for far_in, far_out in ((4, 0), (0, 4), (4, 4)):
        source, out = moved(image) if far_in else upload(image), upload(whole)
        product(int(source) + far_in, w, int(out) + far_out, bias if what is forward else 0)
        got = out.to_host(np.empty_like(whole))[far_out // 4 :][: wanted.size]
        case.check(got.reshape(wanted.shape), wanted)


def check_moments(case, y, moments):
    parts, length = case.gpu.moment_parts()
    got = moments.to_host(np.empty((y.shape[1], parts, 2), case.dtype))
    values = np.moveaxis(y.reshape(*y.shape[:2], -1), 1, 0).reshape(y.shape[1], -1).astype(np.float64)
    for part in range(parts):
        piece = values[:, part * length : (part + 1) * length]
        np.testing.assert_allclose(got[:, part, 0], piece.mean(1), atol=1e-5)
        np.testing.assert_allclose(got[:, part, 1], ((piece - piece.mean(1, keepdims=True)) ** 2).sum(1), rtol=1e-4)


@pytest.mark.usefixtures("thread_order")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "name",
    ["as ResNet-20", "33 channels", "140 channels", "1x1, 16 bytes at once", "three axes", "16 channels in groups"],
)
def test_moments_of_the_results(name, bias, dtype):
    case = Case(name, dtype)
    case.x += 10
    parts, length = case.gpu.moment_parts()
    windows = case.y.shape[0] * int(np.prod(case.y.shape[2:]))
    assert 0 <= parts * length - windows < length
    y, moments = DeviceBuffer(case.y.nbytes), DeviceBuffer(2 * case.dtype.itemsize * case.y.shape[1] * parts)
    case.gpu.forward(upload(case.x), upload(case.w), y, upload(case.b) if bias else 0, moments=moments)
    check_moments(case, download(y, case.y), moments)


def test_what_makes_no_moments():
    assert Case("depthwise", np.float32).gpu.moment_parts() == (0, 0)
    assert Case("much padding, one axis", np.float32).gpu.moment_parts() == (0, 0)


@pytest.mark.parametrize("slope", [0.0, 0.25])
@pytest.mark.parametrize(
    "name", ["as ResNet-20", "33 channels", "dilated, strided", "1x1, 16 bytes at once", "groups", "depthwise"]
)
def test_the_gradient_goes_on_through_a_relu(name, slope):
    case = Case(name, np.float32)
    top = np.maximum(case.x, 0)
    dx = DeviceBuffer(case.x.nbytes)
    mask = upload(top)
    case.gpu.data_gradient(upload(case.y), upload(case.w), dx, mask=mask, mask_slope=slope)
    case.check(download(dx, case.x), expected(case, data_gradient) * np.where(top > 0, 1, slope))


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
    ],
)
def test_shapes_that_kernels_cannot_count(kernel, shapes, message):
    window = Window(kernel, (1, 1), (0, 0), (1, 1))
    with pytest.raises(DeviceError, match=f"convolution on the GPU: expected {message}"):
        CudaCorrelation(window, 1, np.float32).prepare(*shapes)


def test_a_kernel_that_is_longer_than_16_bits_count():
    window = Window((40_000, 1), (1, 1), (0, 0), (1, 1))
    gpu = CudaCorrelation(window, 1, np.float32)
    gpu.prepare((1, 1, 40_000, 1), (1, 8, 1, 1))
    x, w = np.arange(40_000, dtype=np.float32) / 40_000, np.ones((8, 40_000), np.float32)
    y = DeviceBuffer(32)
    gpu.forward(upload(x), upload(w), y)
    np.testing.assert_allclose(y.to_host(np.empty(8, np.float32)), x.sum(), rtol=1e-5)


def test_the_gradient_of_the_weights_is_the_same_in_every_run():
    case = Case("many windows", np.float32)
    first = weight_gradient(case)
    assert all((weight_gradient(case) == first).all() for _ in range(3))


def test_bias_gradient():
    case = Case("groups", np.float64)
    db = upload(np.ones_like(case.b))
    case.gpu.bias_gradient(upload(case.y), case.y.shape, db)
    case.check(download(db, case.b), 1 + case.y.sum((0, 2, 3)))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("slope", [None, 0.0, 0.5])
def test_what_is_not_finite(slope, value):
    case = Case("33 channels", np.float32)
    case.x[0, 2, 4, 3] = value
    y = DeviceBuffer(case.y.nbytes)
    case.gpu.forward(upload(case.x), upload(case.w), y, upload(case.b), slope)
    with np.errstate(invalid="ignore"):
        wanted = expected(case, forward)
        if slope is not None:
            wanted = np.where(wanted < 0, wanted * slope if slope else 0, wanted)
    got = download(y, case.y)
    assert (np.isnan(got) == np.isnan(wanted)).all() and (np.isinf(got) == np.isinf(wanted)).all()


def test_set_math_knows_three_kinds():
    with pytest.raises(UsageError, match='expected "float32", "tf32" or "bf16", got \'half\''):
        context.set_math("half")


def test_plans_are_kept_for_a_few_shapes_only():
    case = Case("groups", np.float32)
    for n in range(1, 30):
        case.gpu.prepare((n, *case.x.shape[1:]), (n, *case.y.shape[1:]))
    assert len(case.gpu._plans) <= convolution._KEPT
