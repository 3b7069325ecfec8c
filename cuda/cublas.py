"""Products of matrices by NVIDIA's cuBLASLt for `engine: CUDNN`, through nvmath-python.

The extra `cudnn` installs both: `pip install 'minicaffe[cudnn]'`. Matrices are row-major here and column-major there. A
row-major matrix is its own transpose read column-major, so cuBLASLt computes C^T = op(B)^T op(A)^T, and a bias for each
column of C is one for each row of its result.

Where cuBLASLt has no algorithm, minicaffe's own kernels run. Factors are rounded for tensor cores only where
`set_math` allows it. Algorithms are those that the heuristics propose first; their sums do not change from run to run.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import numpy as np

from minicaffe.cuda import context, graph, ops
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.tables import Plans
from minicaffe.errors import DeviceError

log = logging.getLogger("minicaffe")

_WORKSPACE = 32 << 20  # bytes, at most
_KEPT = 64  # plans that a layer keeps


@functools.cache
def reason_unavailable() -> str:
    """Why cuBLASLt cannot be used, as a sentence; '' when it can."""
    try:
        from nvmath.bindings import cublasLt

        cublasLt.get_version()
    except Exception as error:  # it loads libraries and raises exceptions of many types
        return f"cuBLASLt cannot be used: nvmath-python (pip install 'minicaffe[cudnn]') is not there ({_line(error)})"
    return ""


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


class _Library:
    """cuBLASLt's handle for the current device."""

    def __init__(self) -> None:
        from nvmath.bindings import cublasLt

        self.bindings, self.handle = cublasLt, cublasLt.create()

    def __del__(self) -> None:
        self.bindings.destroy(self.handle)


def _library() -> _Library:
    device = context.current()
    with device.lock:
        if "cublaslt" not in device.cache:
            device.cache["cublaslt"] = _Library()
        return device.cache["cublaslt"]


class _Plan:
    """A product of given sizes: descriptors and algorithm. Raises DeviceError where cuBLASLt has none."""

    def __init__(
        self, library: _Library, trans_a: bool, trans_b: bool, m: int, n: int, k: int, dtype: np.dtype, ends: tuple
    ) -> None:
        import nvmath
        from nvmath.bindings import cublas

        self._library, lt = library, library.bindings
        double, (has_bias, relu) = dtype == np.float64, ends
        types, compute = nvmath.CudaDataType, cublas.ComputeType
        number = types.CUDA_R_64F if double else types.CUDA_R_32F
        rounded = compute.COMPUTE_32F_FAST_TF32 if context.allows_tf32() else compute.COMPUTE_32F
        self._scalar = np.dtype(dtype)
        self._made: list[tuple[Any, int]] = []  # (destructor, descriptor)
        self._operation = self._keep("matmul_desc", compute.COMPUTE_64F if double else rounded, number)
        epilogue = "RELU_BIAS" if has_bias and relu else "BIAS" if has_bias else "RELU" if relu else "DEFAULT"
        operations = cublas.Operation
        self._set("TRANSA", operations.T if trans_b else operations.N)
        self._set("TRANSB", operations.T if trans_a else operations.N)
        self._set("EPILOGUE", lt.Epilogue[epilogue])
        self._b = self._layout(number, *((k, n) if trans_b else (n, k)))
        self._a = self._layout(number, *((m, k) if trans_a else (k, m)))
        self._c = self._layout(number, n, m)
        self._choose()

    def _keep(self, kind: str, *arguments: Any) -> int:
        """A new descriptor, destroyed together with the plan."""
        lt = self._library.bindings
        made = getattr(lt, f"{kind}_create")(*arguments)
        self._made.append((getattr(lt, f"{kind}_destroy"), made))
        return made

    def _layout(self, number: Any, rows: int, columns: int) -> int:
        return self._keep("matrix_layout", number, rows, columns, rows)

    def _set(self, name: str, value: int) -> None:
        lt = self._library.bindings
        attribute = lt.MatmulDescAttribute[name]
        stored = np.array([value], lt.get_matmul_desc_attribute_dtype(attribute))
        lt.matmul_desc_set_attribute(self._operation, attribute, stored.ctypes.data, stored.nbytes)

    def _choose(self) -> None:
        lt, count = self._library.bindings, np.zeros(1, np.int32)
        preference = self._keep("matmul_preference")
        attribute = lt.MatmulPreferenceAttribute.MAX_WORKSPACE_BYTES
        most = np.array([_WORKSPACE], lt.get_matmul_preference_attribute_dtype(attribute))
        lt.matmul_preference_set_attribute(preference, attribute, most.ctypes.data, most.nbytes)
        self._chosen = lt.MatmulHeuristicResult(1)
        tensors = self._b, self._a, self._c, self._c
        found = self._chosen.ptr, count.ctypes.data
        lt.matmul_algo_get_heuristic(self._library.handle, self._operation, *tensors, preference, 1, *found)
        if not count[0]:
            raise DeviceError("its heuristics propose no algorithm")
        self._workspace = int(self._chosen.workspace_size)

    def __call__(self, alpha: float, a: Any, b: Any, beta: float, c: Any, bias: Any) -> None:
        scalars = np.array([alpha, beta], self._scalar)
        at = scalars.ctypes.data
        if bias:
            self._set("BIAS_POINTER", int(bias))
        inputs = at, int(b), self._b, int(a), self._a, at + self._scalar.itemsize
        outputs = int(c), self._c, int(c), self._c
        with ops.scratch(max(self._workspace, 1)) as workspace:
            ends = self._chosen.ptr, int(workspace), self._workspace, int(context.stream().handle)
            self._library.bindings.matmul(self._library.handle, self._operation, *inputs, *outputs, *ends)

    def __del__(self) -> None:
        for destroy, made in getattr(self, "_made", ()):
            destroy(made)


class Products:
    """The products of one layer, with `ops.gemm`'s arguments; keeps a plan for each size and setting of `set_math`."""

    def __init__(self) -> None:
        self._plans: Plans[_Plan | None] = Plans(_KEPT)

    def gemm(
        self, trans_a: bool, trans_b: bool, m: int, n: int, k: int, alpha: float, a: Any, b: Any, beta: float, c: Any,
        dtype: Any = np.float32, *, bias: Any = 0, slope: float | None = None, row_sums: Any = 0,
    ) -> None:  # fmt: skip
        """Compute what `ops.gemm` does with these arguments."""
        plan = self._plan(trans_a, trans_b, m, n, k, np.dtype(dtype), bool(bias), slope)
        if plan is None:
            ends: dict[str, Any] = {"bias": bias, "slope": slope, "row_sums": row_sums}
            ops.gemm(trans_a, trans_b, m, n, k, alpha, a, b, beta, c, dtype, **ends)
            return
        plan(alpha, a, b, beta, c, bias)
        if row_sums:
            kernel("inner_product", "bias_gradient", dtype)(m, k, a, row_sums)

    def _plan(
        self, trans_a: bool, trans_b: bool, m: int, n: int, k: int, dtype: np.dtype, has_bias: bool, slope: float | None
    ) -> _Plan | None:
        """The plan for a product; None where cuBLASLt has none, or where there is nothing to compute."""
        key = (trans_a, trans_b, m, n, k, dtype, has_bias, slope, context.allows_tf32())
        return self._plans.get(key, lambda: self._make(trans_a, trans_b, m, n, k, dtype, has_bias, slope))

    @staticmethod
    def _make(
        trans_a: bool, trans_b: bool, m: int, n: int, k: int, dtype: np.dtype, has_bias: bool, slope: float | None
    ) -> _Plan | None:
        graph.forbid("cuBLASLt makes a plan")
        if 0 in (m, n, k) or slope:  # its ReLU has no slope
            return None
        try:
            return _Plan(_library(), trans_a, trans_b, m, n, k, dtype, (has_bias, slope is not None))
        except Exception as error:  # nvmath raises many types
            sentence = "engine CUDNN: minicaffe's own kernels do what cuBLASLt has no algorithm for, first %s: %s"
            log.info(sentence, f"({m} x {k}) ({k} x {n})", _line(error), extra={"once": sentence})
            return None
