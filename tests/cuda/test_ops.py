"""The linear algebra of minicaffe.cuda.ops against numpy."""

import numpy as np
import pytest

from minicaffe.cuda import ops, split
from minicaffe.cuda.memory import DeviceBuffer

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("thread_order")]

DTYPES = [np.float32, np.float64]
SHAPES = [(1, 1, 1), (3, 5, 2), (64, 64, 16), (4, 6, 10), (65, 63, 17), (130, 129, 9), (1, 200, 33), (200, 1, 70)]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def upload(array):
    buffer = DeviceBuffer(array.nbytes)
    buffer.from_host(array)
    return buffer


def download(buffer, shape, dtype):
    return buffer.to_host(np.empty(shape, dtype))


def divide(monkeypatch, share):
    """Give each block of a product ``share`` steps."""

    def choose(tile, count, steps, *_):
        return split.Choice(share, -(-count * steps // share), 0.0)

    monkeypatch.setattr(ops, "choose", choose)


def close(got, expected, dtype):
    tolerance = 1e-12 if dtype == np.float64 else 2e-6
    scale = max(1.0, np.abs(expected).max())
    assert np.abs(got - expected).max() <= tolerance * scale * 10


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("trans_a, trans_b", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("m, n, k", SHAPES)
def test_gemm(rng, m, n, k, trans_a, trans_b, dtype):
    a, b, c = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n), (m, n)))
    stored_a, stored_b = a.T.copy() if trans_a else a, b.T.copy() if trans_b else b
    out = upload(c)
    ops.gemm(trans_a, trans_b, m, n, k, 0.5, upload(stored_a), upload(stored_b), 2.0, out, dtype)
    close(download(out, (m, n), dtype), 0.5 * a @ b + 2 * c, dtype)


@pytest.mark.parametrize("tile", ops._TILES)
@pytest.mark.parametrize("trans_a, trans_b", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("dtype, n, k", [(np.float32, 140, 40), (np.float32, 139, 37), (np.float64, 140, 40)])
@pytest.mark.parametrize("share", [0, 2])
def test_gemm_with_every_tile(rng, monkeypatch, tile, trans_a, trans_b, dtype, n, k, share):
    """Also with a share of two steps, with which most tiles have parts in three blocks."""
    monkeypatch.setattr(ops, "_tile", lambda *_: (tile, ops._TILES[tile]))
    if share:
        divide(monkeypatch, share)
    a, b = rng.standard_normal((152, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    bias, sums = rng.standard_normal(n).astype(dtype), rng.standard_normal(152).astype(dtype)
    stored_a, stored_b = a.T.copy() if trans_a else a, b.T.copy() if trans_b else b
    out, row_sums = DeviceBuffer(152 * n * a.itemsize), upload(sums)
    ends = {"bias": upload(bias), "slope": 0.25, "row_sums": row_sums if trans_a else 0}
    for _ in range(2):
        ops.gemm(trans_a, trans_b, 152, n, k, 1.0, upload(stored_a), upload(stored_b), 0.0, out, dtype, **ends)
    expected = a @ b + bias
    close(download(out, (152, n), dtype), np.where(expected < 0, expected / 4, expected), dtype)
    close(download(row_sums, 152, dtype), sums + 2 * trans_a * a.sum(1), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gemm_batched_with_a_shared_operand(rng, dtype):
    a, b = rng.standard_normal((7, 9)).astype(dtype), rng.standard_normal((3, 9, 11)).astype(dtype)
    out = DeviceBuffer(3 * 7 * 11 * a.itemsize)
    ops.gemm_batched(False, False, 7, 11, 9, 1.0, upload(a), upload(b), 0.0, out, dtype, 3, 0, 99, 77)
    close(download(out, (3, 7, 11), dtype), a @ b, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("trans_a, trans_b", [(False, True), (True, False)])
@pytest.mark.parametrize("k", [512, 1031])
@pytest.mark.parametrize("share", [1, 2, 5])
def test_gemm_with_a_divided_k(rng, monkeypatch, k, trans_a, trans_b, dtype, share):
    """One tile in up to 65 parts: more than are added at a time."""
    divide(monkeypatch, share)
    a, b, c = (rng.standard_normal(s).astype(dtype) for s in ((5, k), (k, 7), (5, 7)))
    stored_a, stored_b = a.T.copy() if trans_a else a, b.T.copy() if trans_b else b
    results = []
    for _ in range(2):
        out = upload(c)
        ops.gemm(trans_a, trans_b, 5, 7, k, 0.5, upload(stored_a), upload(stored_b), 2.0, out, dtype)
        results.append(download(out, (5, 7), dtype))
    close(results[0], 0.5 * a @ b + 2 * c, dtype)
    assert (results[0] == results[1]).all()


def test_gemm_of_nothing_gives_zeros_or_nothing(rng):
    out = upload(np.ones((2, 3), np.float32))
    ops.gemm(False, False, 2, 3, 0, 1.0, 0, 0, 0.0, out)
    assert (download(out, (2, 3), np.float32) == 0).all()
    ops.gemm(False, False, 0, 3, 4, 1.0, 0, 0, 0.0, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("trans", [False, True])
@pytest.mark.parametrize("m, n", [(1, 1), (3, 100), (40, 33), (5, 1000), (1000, 5)])
def test_gemv(rng, m, n, trans, dtype):
    a, x = rng.standard_normal((m, n)).astype(dtype), rng.standard_normal(m if trans else n).astype(dtype)
    y = rng.standard_normal(n if trans else m).astype(dtype)
    out = upload(y)
    ops.gemv(trans, m, n, 0.5, upload(a), upload(x), -1.0, out, dtype)
    close(download(out, y.shape, dtype), 0.5 * (a.T if trans else a) @ x - y, dtype)


ELEMENTWISE = {
    "axpy": (lambda n, x, y, t: ops.axpy(n, 3.0, x, y, t), lambda x, y: y + 3 * x),
    "axpby": (lambda n, x, y, t: ops.axpby(n, 3.0, x, 0.25, y, t), lambda x, y: 3 * x + 0.25 * y),
    "axpby onto anything": (lambda n, x, y, t: ops.axpby(n, 3.0, x, 0.0, y, t), lambda x, y: 3 * x),
    "scale": (lambda n, x, y, t: ops.scale(n, -2.0, x, y, t), lambda x, y: -2 * x),
    "scale in place": (lambda n, x, y, t: ops.scale(n, -2.0, y, dtype=t), lambda x, y: -2 * y),
    "fill": (lambda n, x, y, t: ops.fill(n, 1.5, y, t), lambda x, y: np.full_like(y, 1.5)),
    "fill with zeros": (lambda n, x, y, t: ops.fill(n, 0, y, t), lambda x, y: np.zeros_like(y)),
    "copy": (lambda n, x, y, t: ops.copy(n, x, y, t), lambda x, y: x),
    "add": (lambda n, x, y, t: ops.add(n, x, y, y, t), lambda x, y: x + y),
    "sub": (lambda n, x, y, t: ops.sub(n, x, y, y, t), lambda x, y: x - y),
    "mul": (lambda n, x, y, t: ops.mul(n, x, y, y, t), lambda x, y: x * y),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 255, 20000])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(rng, name, n, dtype):
    run, formula = ELEMENTWISE[name]
    x, y = rng.standard_normal(n).astype(dtype), rng.standard_normal(n).astype(dtype)
    device_x, device_y = upload(x), upload(y)
    run(n, device_x, device_y, dtype)
    got = download(device_y, n, dtype)
    np.testing.assert_allclose(got, formula(x, y), rtol=1e-6)
    assert (download(device_x, n, dtype) == x).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 31, 257, 70001])
def test_sums(rng, n, dtype):
    x, y = rng.standard_normal(n).astype(dtype), rng.standard_normal(n).astype(dtype)
    a, b = upload(x), upload(y)
    precise = [x.astype(np.float64).sum(), np.abs(x.astype(np.float64)).sum(), (x.astype(np.float64) * y).sum()]
    got = [ops.sum(n, a, dtype), ops.asum(n, a, dtype), ops.dot(n, a, b, dtype)]
    np.testing.assert_allclose(got, precise, rtol=1e-5, atol=1e-5 * max(1, n) ** 0.5)
    assert got == [ops.sum(n, a, dtype), ops.asum(n, a, dtype), ops.dot(n, a, b, dtype)]


def test_a_sum_may_stay_on_the_device(rng):
    x = rng.standard_normal(1000).astype(np.float32)
    out = DeviceBuffer(4)
    assert ops.sum(1000, upload(x), out=out, alpha=0.5) is None
    np.testing.assert_allclose(download(out, 1, np.float32)[0], x.sum() / 2, rtol=1e-5)
