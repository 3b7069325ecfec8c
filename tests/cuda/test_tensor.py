"""Convolution by tensor cores against the processor's in double precision, its factors rounded as by the kernels."""

import numpy as np
import pytest

from minicaffe.cuda import shares, tensor
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.cuda.tensor import TensorCorrelation
from minicaffe.errors import DeviceError
from minicaffe.layers.shared.correlation import Correlation
from minicaffe.layers.shared.window import Window

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda_device")]

# samples, channels, size, outputs, kernel, stride, pad, dilation, group
CASES = {
    "one element": (1, 1, (1, 1), 1, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "3 channels": (2, 3, (9, 8), 16, (5, 5), (2, 2), (2, 2), (1, 1), 1),
    "16 channels": (2, 16, (7, 6), 24, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "24 channels, unlike axes": (2, 24, (10, 7), 40, (3, 2), (2, 1), (0, 1), (1, 2), 1),
    "64 channels, 1x1": (3, 64, (7, 7), 70, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "70 channels, 1x1, stride 2": (1, 70, (6, 5), 64, (1, 1), (2, 2), (0, 0), (1, 1), 1),
    "140 outputs": (1, 72, (5, 4), 140, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "stride over kernel": (2, 8, (8, 7), 9, (2, 1), (3, 3), (0, 0), (1, 1), 1),
    "dilated, strided": (1, 10, (11, 12), 7, (3, 3), (2, 3), (2, 2), (2, 2), 1),
    "pad over kernel": (1, 5, (4, 4), 6, (2, 2), (1, 1), (3, 3), (1, 1), 1),
    "groups": (2, 32, (5, 5), 48, (3, 3), (1, 1), (1, 1), (1, 1), 2),
    "one axis": (3, 12, (17,), 10, (4,), (2,), (1,), (1,), 1),
    "three axes": (1, 9, (3, 4, 5), 8, (2, 3, 2), (1, 2, 2), (1, 0, 1), (1, 1, 2), 1),
    "inner product": (9, 5, (3, 2), 33, (3, 2), (1, 1), (0, 0), (1, 1), 1),
}


def rounded(array, math):
    """Rounded to the elements that are multiplied: bfloat16, ties to even, or TF32, ties away from zero."""
    bits = array.astype(np.float32).view(np.uint32)
    if math == "bf16":
        bits = bits + 0x7FFF + (bits >> 16 & 1) & np.uint32(0xFFFF0000)
    else:
        bits = bits + 0x1000 & np.uint32(0xFFFFE000)
    return bits.view(np.float32)


def last(array, math):
    """The device's array: channels last, padded to a multiple of 8."""
    moved = np.moveaxis(array, 1, -1)
    padded = np.zeros((*moved.shape[:-1], -(-moved.shape[-1] // 8) * 8), np.float32)
    padded[..., : moved.shape[-1]] = moved
    return (padded.view(np.uint32) >> 16).astype(np.uint16) if math == "bf16" else padded


def first(array, like, math):
    """The inverse of `last`; fails if channels of the padding are not zero."""
    if math == "bf16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    assert not array[..., like.shape[1] :].any()
    return np.moveaxis(array[..., : like.shape[1]], -1, 1)


def upload(array):
    buffer = DeviceBuffer(array.nbytes)
    buffer.from_host(np.ascontiguousarray(array))
    return buffer


class Case:
    """Random arrays of one case, rounded and not, and the products of the processor and of tensor cores."""

    def __init__(self, name, math, sizes=None):
        n, channels, size, outputs, kernel, stride, pad, dilation, group = sizes or CASES[name]
        rng = np.random.default_rng(3)
        window = Window(kernel, stride, pad, dilation)
        self.math = math
        self.x = rng.standard_normal((n, channels, *size)).astype(np.float32)
        self.w = rng.standard_normal((outputs, channels // group, *kernel)).astype(np.float32)
        self.y = rng.standard_normal((n, outputs, *window.output(size))).astype(np.float32)
        self.b = rng.standard_normal(outputs).astype(np.float32)
        if math == "bf16":
            self.x, self.y = rounded(self.x, math), rounded(self.y, math)  # as they are kept
        self.cpu = Correlation(window, group, np.dtype(np.float64))
        self.gpu = TensorCorrelation(window, group, math)
        self.gpu.prepare(self.x.shape, self.y.shape)
        self.packed = DeviceBuffer(self.gpu.packed_bytes)
        self.gpu.pack(upload(self.w), self.packed)

    def factors(self):
        return [rounded(array, self.math).astype(np.float64) for array in (self.x, self.w, self.y)]

    def forward(self, **options):
        like = last(self.y, self.math)
        y = DeviceBuffer(like.nbytes)
        self.gpu.forward(upload(last(self.x, self.math)), self.packed, y, upload(self.b), **options)
        return first(y.to_host(np.empty_like(like)), self.y, self.math)

    def data_gradient(self):
        like = last(self.x, self.math)
        dx = DeviceBuffer(like.nbytes)
        self.gpu.data_gradient(upload(last(self.y, self.math)), self.packed, dx)
        return first(dx.to_host(np.empty_like(like)), self.x, self.math)

    def weight_gradient(self):
        dw, db = upload(np.ones_like(self.w)), upload(np.ones_like(self.b))
        self.gpu.weight_gradient(upload(last(self.x, self.math)), upload(last(self.y, self.math)), dw, db)
        return dw.to_host(np.empty_like(self.w)), db.to_host(np.empty_like(self.b))

    def expected_forward(self):
        x, w, _ = self.factors()
        y = np.empty(self.y.shape)
        self.cpu.forward(x, w, y)
        return y + self.b.reshape(-1, *[1] * (y.ndim - 2))

    def expected_data_gradient(self):
        _, w, dy = self.factors()
        dx = np.empty(self.x.shape)
        self.cpu.data_gradient(dy, w, dx)
        return dx

    def expected_weight_gradient(self):
        x, _, dy = self.factors()
        dw = np.ones(self.w.shape)
        self.cpu.weight_gradient(x, dy, dw)
        return dw, 1 + dy.sum((0, *range(2, dy.ndim)))

    def check_stored(self, got, expected):
        """Sums are float32; results in bfloat16 have an error of half of the last of 8 bits."""
        error = np.abs(got - expected)
        assert (error <= 2e-5 * max(1, np.abs(expected).max()) + np.abs(expected) * (2**-8 if self.bf16 else 0)).all()

    @property
    def bf16(self):
        return self.math == "bf16"

    def check_sums(self, got, expected):
        assert np.abs(got - expected).max() <= 2e-5 * max(1, np.abs(expected).max())

    def check(self):
        self.check_stored(self.forward(), self.expected_forward())
        self.check_stored(self.data_gradient(), self.expected_data_gradient())
        for got, expected in zip(self.weight_gradient(), self.expected_weight_gradient()):
            self.check_sums(got, expected)


MATHS = pytest.mark.parametrize("math", ["bf16", "tf32"])


@pytest.mark.usefixtures("thread_order")
@MATHS
@pytest.mark.parametrize("name", CASES)
def test_against_the_processor(name, math):
    Case(name, math).check()


@pytest.fixture
def single_warps(monkeypatch):
    """On devices of sm_90 too, bfloat16 is multiplied by each warp alone."""
    monkeypatch.setattr(TensorCorrelation, "options", lambda self: ("-DBF16",) if self.math == "bf16" else ())


@pytest.mark.usefixtures("thread_order", "single_warps")
@pytest.mark.parametrize("name", CASES)
def test_bf16_by_single_warps(name):
    Case(name, "bf16").check()


def test_sm_90_multiplies_by_four_warps(monkeypatch, cuda_device):
    window = Window((1, 1), (1, 1), (0, 0), (1, 1))
    for arch, math, expected in (("sm_90", "bf16", True), ("sm_100", "bf16", False), ("sm_90", "tf32", False)):
        monkeypatch.setattr(cuda_device, "arch", arch)
        assert ("-DWGMMA" in TensorCorrelation(window, 1, math).options()) == expected
    monkeypatch.setattr(cuda_device, "arch", "sm_90")
    monkeypatch.setenv("MINICAFFE_WGMMA", "0")
    assert TensorCorrelation(window, 1, "bf16").options() == ("-DBF16",)


@pytest.mark.usefixtures("thread_order")
@MATHS
@pytest.mark.parametrize("count", [2, 3, 11])
@pytest.mark.parametrize("name", ["140 outputs", "groups", "dilated, strided", "3 channels"])
def test_shares_are_added(monkeypatch, name, count, math):
    case = Case(name, math)
    asked = []
    monkeypatch.setattr(shares, "choose", lambda *_: asked.append(_) or count)
    case.check()
    assert len(asked) == 3


@pytest.mark.parametrize("count", [5, 20])
def test_results_are_the_same_in_every_run(monkeypatch, count):
    case = Case("", "tf32", (4, 24, (9, 9), 32, (3, 3), (1, 1), (1, 1), (1, 1), 1))
    monkeypatch.setattr(shares, "choose", lambda *_: count)
    first_run = case.forward(), *case.weight_gradient()
    monkeypatch.setenv("EMU_REVERSE", "1")
    for before, after in zip(first_run, (case.forward(), *case.weight_gradient())):
        assert (before == after).all()


def test_shares_fill_the_device():
    assert shares.choose(264, 1000, 264) == 1  # all multiprocessors are busy
    assert shares.choose(1, 3, 264) == 1  # nothing to divide
    assert 8 <= shares.choose(16, 1000, 264) <= 33
    assert shares.choose(1, 1 << 20, 264) == 64


@MATHS
@pytest.mark.parametrize("outputs, channels", [(30, 8), (30, 48), (64, 40), (128, 16)])
def test_every_tile(math, outputs, channels):
    Case("", math, (2, channels, (9, 8), outputs, (3, 2), (1, 2), (1, 0), (1, 1), 1)).check()


@MATHS
@pytest.mark.parametrize("channels", [56, 128, 256])
def test_a_column_of_ones_beside_full_and_partial_tiles(math, channels):
    Case("", math, (1, channels, (5, 4), 12, (1, 1), (1, 1), (0, 0), (1, 1), 1)).check()


@MATHS
@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_relu_in_the_tail(math, slope):
    case = Case("16 channels", math)
    expected = case.expected_forward()
    case.check_stored(case.forward(slope=slope), np.where(expected < 0, slope * expected, expected))


MOMENTS = [
    (3, 16, (9, 7), 24, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (2, 72, (9, 11), 140, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (1, 32, (8, 6), 128, (3, 3), (1, 1), (1, 1), (1, 1), 2),
    (1, 24, (33, 4), 64, (3, 3), (1, 1), (1, 1), (1, 1), 1),
]


@pytest.mark.usefixtures("thread_order")
@MATHS
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("sizes", MOMENTS)
def test_moments_are_those_of_the_stored_output(monkeypatch, sizes, count, math):
    check_moments(monkeypatch, sizes, count, math)


@pytest.mark.usefixtures("thread_order", "single_warps")
@pytest.mark.parametrize("sizes", MOMENTS)
def test_moments_by_single_warps(monkeypatch, sizes):
    check_moments(monkeypatch, sizes, 1, "bf16")


def check_moments(monkeypatch, sizes, count, math):
    case = Case("", math, sizes)
    monkeypatch.setattr(shares, "choose", lambda *_: count)
    parts, length = case.gpu.moment_parts()
    got = np.full((sizes[3], parts, 2), np.nan, np.float32)
    buffer = upload(got)
    y = np.moveaxis(case.forward(moments=buffer), 1, -1).reshape(-1, sizes[3]).astype(np.float64)
    buffer.to_host(got)
    assert parts == -(-len(y) // length)
    for part in range(parts):
        rows = y[part * length : (part + 1) * length]
        np.testing.assert_allclose(got[:, part, 0], rows.mean(0), atol=1e-5)
        np.testing.assert_allclose(got[:, part, 1], ((rows - rows.mean(0)) ** 2).sum(0), rtol=1e-4)


@MATHS
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("slope", [None, 0.0])
def test_what_is_not_finite(slope, value, math):
    case = Case("16 channels", math)
    case.x[0, 2, 4, 3] = value
    with np.errstate(invalid="ignore"):
        expected = case.expected_forward()
        if slope is not None:
            expected = np.where(expected < 0, 0, expected)
    got = case.forward(slope=slope)
    assert (np.isnan(got) == np.isnan(expected)).all() and (np.isinf(got) == np.isinf(expected)).all()


def test_nan_with_all_bits_is_not_rounded_to_a_number():
    case = Case("16 channels", "tf32")
    case.x.view(np.uint32)[0, 2, 4, 3] = 0x7FFFFFFF
    assert np.isnan(case.forward()).any()
    assert np.isnan(case.weight_gradient()[0]).any()


@pytest.mark.parametrize("outputs", [20, 40, 140])
def test_blocks_fit_into_99_kb_where_there_is_no_more(monkeypatch, cuda_device, outputs):
    case = Case("", "bf16", (1, 8, (5, 4), outputs, (3, 3), (1, 1), (1, 1), (1, 1), 1))
    monkeypatch.setattr(cuda_device, "arch", "sm_89")
    asked = []
    monkeypatch.setattr(tensor.ops, "launch_shares", lambda kernel, tile, *_: asked.append(tile.shared))
    case.gpu.forward(0, 0, 0)
    case.gpu.data_gradient(0, 0, 0)
    case.gpu.weight_gradient(0, 0, 0)
    assert len(asked) == 3 and max(asked) + 1024 <= 99 << 10


def test_other_shapes_and_back():
    case = Case("16 channels", "bf16")
    before = case.forward()
    for n in range(1, 30):
        case.gpu.prepare((n, *case.x.shape[1:]), (n, *case.y.shape[1:]))
    assert len(case.gpu._plans) <= tensor._KEPT
    case.gpu.prepare(case.x.shape, case.y.shape)
    assert (case.forward() == before).all()


@pytest.mark.parametrize(
    "kernel, group, channels, outputs, reason",
    [
        ((3, 3), 1, 3, 5, ""),
        ((3, 3), 2, 16, 32, ""),
        ((3, 3), 2, 12, 32, "expected groups of a multiple of 8 channels, got 6 and 16"),
        ((16, 16), 1, 3, 5, "expected a kernel of at most 30 elements, added over its axes, got 33"),
        ((1, 1, 1, 1), 1, 8, 8, "expected at most 3 spatial axes, got 4"),
    ],
)
def test_what_is_left_to_other_kernels(kernel, group, channels, outputs, reason):
    ones = (1,) * len(kernel)
    got = TensorCorrelation.unfit(Window(kernel, ones, (0,) * len(kernel), ones), group, channels, outputs)
    assert got == (reason and f"tensor cores: {reason}")


def test_arrays_that_kernels_cannot_count():
    window = Window((1, 1), (1, 1), (0, 0), (1, 1))
    with pytest.raises(DeviceError, match="at most 2147483647 chunks of 16 bytes in an array, got 2147483648"):
        TensorCorrelation(window, 1, "bf16").prepare((1 << 15, 8, 1 << 8, 1 << 8), (1 << 15, 8, 1 << 8, 1 << 8))
