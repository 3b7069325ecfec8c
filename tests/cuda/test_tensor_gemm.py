"""Products of matrices by tensor cores in TF32 against numpy's in double precision, with rounded factors."""

import numpy as np
import pytest

from minicaffe.cuda import ops, shares
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.testing import computing_with

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda_device")]

SIZES = {
    "one element": (1, 1, 1),
    "lines of 16 bytes": (40, 68, 44),
    "several tiles": (132, 136, 64),
    "odd": (67, 33, 45),
    "odd k": (20, 8, 7),
    "odd, several tiles": (129, 130, 33),
    "long k": (8, 12, 1000),
}


def rounded(array):
    return (array.view(np.uint32) + 0x1000 & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)


def upload(array):
    buffer = DeviceBuffer(array.nbytes)
    buffer.from_host(np.ascontiguousarray(array))
    return buffer


class Case:
    """Random matrices; op(A) is (m, k), op(B) is (k, n)."""

    def __init__(self, sizes, trans_a=False, trans_b=False, batch=1):
        self.m, self.n, self.k = sizes
        self.trans, self.batch = (trans_a, trans_b), batch
        rng = np.random.default_rng(1)
        self.a, self.b, self.c = (
            rng.standard_normal((batch, *shape)).astype(np.float32)
            for shape in ((self.m, self.k), (self.k, self.n), (self.m, self.n))
        )

    def stored(self):
        a, b = (x.swapaxes(1, 2) if flip else x for x, flip in zip((self.a, self.b), self.trans))
        return upload(a), upload(b), upload(self.c)

    def product(self):
        return rounded(self.a) @ rounded(self.b)

    def compute(self, alpha=1.0, beta=0.0, **ends):
        a, b, c = self.stored()
        with computing_with(math="tf32"):
            ops.gemm(*self.trans, self.m, self.n, self.k, alpha, a, b, beta, c, **ends)
        return c.to_host(np.empty_like(self.c))


def check(got, expected):
    assert np.abs(got - expected).max() <= 2e-5 * max(1, np.abs(expected).max())


@pytest.mark.usefixtures("thread_order")
@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("name", SIZES)
def test_against_numpy(name, trans_a, trans_b):
    case = Case(SIZES[name], trans_a, trans_b)
    check(case.compute(), case.product())
    check(case.compute(0.5, 2.0), 0.5 * case.product() + 2 * case.c)


@pytest.mark.parametrize("processors", [1, 132])
@pytest.mark.parametrize("name", ["several tiles", "odd, several tiles"])
@pytest.mark.parametrize("trans_a, trans_b", [(False, False), (True, False), (False, True), (True, True)])
def test_both_tiles(monkeypatch, cuda_device, name, trans_a, trans_b, processors):
    monkeypatch.setattr(cuda_device, "multiprocessors", processors)
    case = Case(SIZES[name], trans_a, trans_b)
    check(case.compute(), case.product())


@pytest.mark.usefixtures("thread_order")
@pytest.mark.parametrize("count", [2, 11])
@pytest.mark.parametrize("name", ["long k", "odd"])
def test_shares_of_k(monkeypatch, name, count):
    monkeypatch.setattr(shares, "choose", lambda *_: count)
    case = Case(SIZES[name])
    check(case.compute(2.0, 1.0), 2 * case.product() + case.c)


@pytest.mark.parametrize("slope", [None, 0.0, 0.25])
@pytest.mark.parametrize("name", ["lines of 16 bytes", "odd"])
def test_bias_and_relu_in_the_tail(name, slope):
    case = Case(SIZES[name], trans_b=True)
    bias = np.linspace(-1, 1, case.n, dtype=np.float32)
    expected = case.product() + bias
    if slope is not None:
        expected = np.where(expected < 0, slope * expected, expected)
    check(case.compute(bias=upload(bias), slope=slope), expected)


@pytest.mark.parametrize("sizes", [(40, 64, 44), (40, 60, 44), (33, 45, 67), (130, 128, 7)])
def test_sums_of_rows(sizes):
    case = Case(sizes, trans_a=True)
    sums = upload(np.ones(case.m, np.float32))
    check(case.compute(row_sums=sums), case.product())
    check(sums.to_host(np.empty(case.m, np.float32)), 1 + rounded(case.a)[0].sum(1))


@pytest.mark.parametrize("trans_a, trans_b", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("sizes", [(20, 12, 36), (9, 7, 5)])
def test_batches(sizes, trans_a, trans_b):
    case = Case(sizes, trans_a, trans_b, batch=3)
    a, b, c = case.stored()
    m, n, k = sizes
    with computing_with(math="tf32"):
        ops.gemm_batched(trans_a, trans_b, m, n, k, 1.0, a, b, 0.0, c, np.float32, 3, m * k, k * n, m * n)
    check(c.to_host(np.empty_like(case.c)), case.product())


def test_matrices_that_do_not_begin_at_16_bytes():
    case = Case((20, 12, 36))
    a, b = DeviceBuffer(case.a.nbytes + 4), upload(case.b)
    a.from_host(case.a, 4)
    c = upload(case.c)
    with computing_with(math="tf32"):
        ops.gemm(False, False, 20, 12, 36, 1.0, a.ptr + 4, b, 0.0, c)
    check(c.to_host(np.empty_like(case.c)), case.product())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("trans_a", [False, True])
def test_what_is_not_finite(trans_a, value):
    case = Case((20, 12, 36), trans_a)
    case.a[0, 3, 5] = value
    got = case.compute()
    assert not np.isfinite(got[0, 3]).any() and np.isfinite(np.delete(got[0], 3, 0)).all()


def test_no_sum_is_zero():
    case = Case((5, 6, 0))
    assert not case.compute().any()


def test_double_is_not_rounded():
    case = Case((20, 12, 36))
    a, b = upload(case.a.astype(np.float64)), upload(case.b.astype(np.float64))
    c = DeviceBuffer(case.c.nbytes * 2)
    with computing_with(math="tf32"):
        ops.gemm(False, False, 20, 12, 36, 1.0, a, b, 0.0, c, np.float64)
    expected = case.a.astype(np.float64) @ case.b
    assert np.abs(c.to_host(np.empty(case.c.shape)) - expected).max() < 1e-12
