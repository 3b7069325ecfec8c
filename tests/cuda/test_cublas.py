"""`engine: CUDNN`: InnerProduct by cuBLASLt where nvmath-python is installed, by our own kernels elsewhere.

If it is not installed, or the device is emulated, the tests use a stand-in, which checks how cuBLASLt is called and
computes in column-major order with NumPy.
"""

import ctypes
import enum
import importlib.util
import itertools
import sys
import types

import numpy as np
import pytest

import minicaffe
from helpers.nets import net_from_text
from minicaffe.cuda import context, cublas, ops
from minicaffe.cuda.memory import DeviceBuffer, copy_to_device, copy_to_host
from minicaffe.layers.cudnn.inner_product import CuBLASInnerProduct

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda_device")]

# Values of NVIDIA's headers: library_types.h, cublas_api.h, cublasLt.h.
DataType = enum.IntEnum("DataType", {"CUDA_R_32F": 0, "CUDA_R_64F": 1})
ComputeType = enum.IntEnum("ComputeType", {"COMPUTE_32F": 68, "COMPUTE_64F": 70, "COMPUTE_32F_FAST_TF32": 77})
Operation = enum.IntEnum("Operation", {"N": 0, "T": 1})
Attribute = enum.IntEnum("Attribute", {"TRANSA": 3, "TRANSB": 4, "EPILOGUE": 7, "BIAS_POINTER": 8})
Epilogue = enum.IntEnum("Epilogue", {"DEFAULT": 1, "RELU": 2, "BIAS": 4, "RELU_BIAS": 6})
Preference = enum.IntEnum("Preference", {"MAX_WORKSPACE_BYTES": 1})
SIZES = {"TRANSA": np.int32, "TRANSB": np.int32, "EPILOGUE": np.uint32, "BIAS_POINTER": np.int64}


class Result:
    """A MatmulHeuristicResult: 64 bytes of an algorithm first."""

    def __init__(self, size):
        self.bytes, self.workspace_size = np.zeros(96 * size, np.uint8), 256
        self.ptr = self.bytes.ctypes.data


class Library:
    """nvmath.bindings.cublasLt, computed by NumPy; descriptors are numbers."""

    MatmulDescAttribute, Epilogue, MatmulPreferenceAttribute = Attribute, Epilogue, Preference
    MatmulHeuristicResult = Result

    def __init__(self, algorithms=1):
        self.algorithms, self.made, self.products = algorithms, {}, []
        self._numbers = itertools.count(1)

    def _new(self, *what):
        number = next(self._numbers)
        self.made[number] = what
        return number

    def get_version(self):
        return 130000

    def create(self):
        return self._new("handle")

    def destroy(self, handle):
        assert self.made.pop(handle) == ("handle",)

    def matmul_desc_create(self, compute, scale):
        return self._new("operation", ComputeType(compute), DataType(scale), {})

    def matrix_layout_create(self, number, rows, columns, ld):
        assert ld == rows
        return self._new("layout", DataType(number), rows, columns)

    def matmul_preference_create(self):
        return self._new("preference")

    def matmul_desc_destroy(self, made):
        assert self.made.pop(made)[0] == "operation"

    def matrix_layout_destroy(self, made):
        assert self.made.pop(made)[0] == "layout"

    def matmul_preference_destroy(self, made):
        assert self.made.pop(made)[0] == "preference"

    def get_matmul_desc_attribute_dtype(self, attribute):
        return SIZES[attribute.name]

    def get_matmul_preference_attribute_dtype(self, attribute):
        return np.uint64

    def matmul_desc_set_attribute(self, operation, attribute, at, size):
        dtype = np.dtype(SIZES[attribute.name])
        assert size == dtype.itemsize
        self.made[operation][3][attribute.name] = int(np.frombuffer(ctypes.string_at(at, size), dtype)[0])

    def matmul_preference_set_attribute(self, preference, attribute, at, size):
        assert self.made[preference] == ("preference",) and size == 8

    def matmul_algo_get_heuristic(self, handle, operation, a, b, c, d, preference, wanted, results, count):
        assert wanted == 1 and self.made[preference] == ("preference",)
        ctypes.c_int32.from_address(count).value = self.algorithms

    def matmul(
        self, handle, operation, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout, algo, work, size,
        stream,
    ):  # fmt: skip
        assert self.made[handle] == ("handle",) and (c, c_layout) == (d, d_layout) and algo and size == 256 and work
        assert stream == int(context.stream().handle)
        _, compute, scale, attributes = self.made[operation]
        dtype = np.dtype(np.float64 if scale == DataType.CUDA_R_64F else np.float32)
        self.products.append((compute.name, Epilogue(attributes["EPILOGUE"]).name))
        first, second = self._read(a, a_layout, dtype), self._read(b, b_layout, dtype)
        first = first.T if attributes["TRANSA"] == Operation.T else first
        second = second.T if attributes["TRANSB"] == Operation.T else second
        alpha, beta = (dtype.type(np.frombuffer(ctypes.string_at(p, dtype.itemsize), dtype)[0]) for p in (alpha, beta))
        result = alpha * (first @ second)
        if beta:
            result = result + beta * self._read(c, c_layout, dtype)
        if "BIAS" in Epilogue(attributes["EPILOGUE"]).name:
            result = result + copy_to_host(np.empty(len(result), dtype), attributes["BIAS_POINTER"])[:, None]
        if "RELU" in Epilogue(attributes["EPILOGUE"]).name:
            result = np.maximum(result, 0)
        assert self.made[d_layout][2:] == result.shape
        copy_to_device(d, np.ascontiguousarray(result.T).astype(dtype))

    def _read(self, pointer, layout, dtype):
        _, _, rows, columns = self.made[layout]
        return copy_to_host(np.empty(rows * columns, dtype), pointer).reshape(columns, rows).T


@pytest.fixture
def library(cuda_device, monkeypatch):
    """cuBLASLt, or the stand-in, which is yielded; None for the real one."""
    real = cuda_device.name != "emulated GPU" and importlib.util.find_spec("nvmath")
    stand_in = None if real else Library()
    if stand_in:
        bindings = types.ModuleType("nvmath.bindings")
        bindings.cublasLt = stand_in
        bindings.cublas = types.SimpleNamespace(ComputeType=ComputeType, Operation=Operation)
        nvmath = types.ModuleType("nvmath")
        nvmath.CudaDataType, nvmath.bindings = DataType, bindings
        monkeypatch.setitem(sys.modules, "nvmath", nvmath)
        monkeypatch.setitem(sys.modules, "nvmath.bindings", bindings)
    cuda_device.cache.pop("cublaslt", None)
    cublas.reason_unavailable.cache_clear()
    yield stand_in
    cuda_device.cache.pop("cublaslt", None)
    cublas.reason_unavailable.cache_clear()


def device_array(array):
    buffer = DeviceBuffer(max(array.nbytes, 1))
    buffer.from_host(array)
    return buffer


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize(
    "beta, has_bias, slope", [(0, False, None), (1, False, None), (0, True, None), (0, True, 0.0), (0, True, 0.5)]
)
def test_products(library, trans_a, trans_b, beta, has_bias, slope, dtype):
    rng = np.random.default_rng(3)
    m, n, k = 5, 7, 11
    a, b, c, bias = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n), (m, n), (n,)))
    expected = 2 * (a @ b) + beta * c + (bias if has_bias else 0)
    expected = expected if slope is None else np.where(expected > 0, expected, slope * expected)
    stored = [device_array(np.ascontiguousarray(x)) for x in (a.T if trans_a else a, b.T if trans_b else b, c, bias)]
    if beta == 0:
        stored[2].from_host(np.full(c.shape, np.nan, dtype))
    products = cublas.Products()
    for _ in range(2):
        result = device_array(stored[2].to_host(np.empty_like(c)))
        ends = {"bias": stored[3] if has_bias else 0, "slope": slope}
        products.gemm(trans_a, trans_b, m, n, k, 2.0, *stored[:2], float(beta), result, dtype, **ends)
        np.testing.assert_allclose(result.to_host(np.empty_like(c)), expected, rtol=1e-5, atol=1e-5)
    if library and not slope:  # with a slope our own kernels compute
        epilogue = {(False, None): "DEFAULT", (True, None): "BIAS", (True, 0.0): "RELU_BIAS"}[has_bias, slope]
        assert library.products == [("COMPUTE_64F" if dtype == np.float64 else "COMPUTE_32F", epilogue)] * 2
        del products
        assert sorted(kind for kind, *_ in library.made.values()) == ["handle"]  # all descriptors are destroyed


def test_tensor_cores_only_on_request(library):
    if not library:
        pytest.skip("reads the stand-in's record")
    products, one = cublas.Products(), device_array(np.ones(1, np.float32))
    products.gemm(False, False, 1, 1, 1, 1.0, one, one, 0.0, device_array(np.zeros(1, np.float32)))
    context.set_math("tf32")
    try:
        products.gemm(False, False, 1, 1, 1, 1.0, one, one, 0.0, device_array(np.zeros(1, np.float32)))
    finally:
        context.set_math("float32")
    assert [compute for compute, _ in library.products] == ["COMPUTE_32F", "COMPUTE_32F_FAST_TF32"]


@pytest.mark.parametrize("why", ["no algorithm", "a slope"])
def test_our_own_kernels_compute_what_it_cannot(library, why, monkeypatch, log_lines):
    if why == "no algorithm":
        if not library:
            pytest.skip("needs the stand-in")
        library.algorithms = 0
    called = []
    monkeypatch.setattr(ops, "gemm", lambda *arguments, **ends: called.append(arguments))
    cublas.Products().gemm(False, False, 2, 3, 4, 1.0, 8, 8, 0.0, 8, slope=0.5 if why == "a slope" else None)
    assert len(called) == 1 and called[0][2:5] == (2, 3, 4)
    lines = [line for line in log_lines if "cuBLASLt" in line]
    assert len(lines) == (why == "no algorithm")
    if lines:
        assert "first (2 x 4) (4 x 3): its heuristics propose no algorithm" in lines[0]


NET = """
layer { name: "in" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 6 dim: 4 dim: 3 } shape { dim: 6 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" engine: "%s"
        inner_product_param { num_output: 5 %s weight_filler { type: "xavier" } bias_filler { type: "uniform" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
force_backward: true
"""


def passes(engine, more):
    minicaffe.set_random_seed(2)
    net = net_from_text(NET % (engine, more), 0)
    rng = np.random.default_rng(1)
    net.blobs["data"].data[...] = rng.standard_normal(net.blobs["data"].shape)
    net.blobs["label"].data[...] = rng.integers(0, 5, 6)
    net.clear_param_diffs()
    for _ in range(2):  # gradients of the parameters add up
        net.run_forward()
        net.run_backward()
    params = [blob.diff.copy() for blob in net.params["ip"]]
    return net, [net.blobs["ip"].data.copy(), net.blobs["data"].diff.copy(), *params]


@pytest.mark.parametrize("more", ["", "transpose: true", "bias_term: false"])
def test_layer(library, gpu_mode, more, monkeypatch):
    monkeypatch.setattr(minicaffe.cuda.cudnn, "reason_unavailable", lambda: "")
    net, got = passes("CUDNN", more)
    assert isinstance(net.layers[1], CuBLASInnerProduct) and isinstance(net.layers[1].products, cublas.Products)
    _, expected = passes("CAFFE", more)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    if library:
        assert len(library.products) == 6  # y, dw, dx of two passes


def test_without_nvmath_one_line_says_so(gpu_mode, monkeypatch, log_lines):
    monkeypatch.setattr(minicaffe.cuda.cudnn, "reason_unavailable", lambda: "")
    monkeypatch.setitem(sys.modules, "nvmath", None)
    cublas.reason_unavailable.cache_clear()
    try:
        _, got = passes("CUDNN", "")
        _, expected = passes("CAFFE", "")
    finally:
        cublas.reason_unavailable.cache_clear()
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    lines = [line for line in log_lines if "compute InnerProduct" in line]
    assert len(lines) == 1 and "nvmath-python (pip install 'minicaffe[cudnn]') is not there" in lines[0]
