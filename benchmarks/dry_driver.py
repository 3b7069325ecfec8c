"""A stand-in for PyCUDA that does nothing: it records what a step would launch, on any machine and without compiling.

`install` puts it in place of `pycuda`, before minicaffe's GPU engine starts. Memory has addresses and no contents;
kernels are not compiled, so any architecture and number of multiprocessors can be given. Values read back are zeros.
`recorded` returns the launches of a call, with the arguments by name, and for each launch the product that it is part
of, if any: the sizes with which `CudaCorrelation`, `TensorCorrelation` or `ops.gemm_batched` was called.
"""

from __future__ import annotations

import bisect
import contextlib
import math
import os
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sass import precision

_MEMORY = 80 << 30


@dataclass
class Launch:
    """A launch: kernel, geometry, arguments by name; bytes of the buffer behind each pointer, from the pointer on."""

    stem: str
    name: str
    double: bool
    options: tuple[str, ...]
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared: int
    arguments: dict[str, Any]
    bytes: dict[str, int]
    work: Work | None = None
    scratch: frozenset[str] = frozenset()  # the pointers to the device's scratch memory

    @property
    def kernel(self) -> str:
        return f"{self.stem}.{self.name}"

    @property
    def math(self) -> str:
        """The precision that it is compiled for: "float32", "float64", or a tensor cores' one."""
        return precision(self.stem, self.double, self.options)

    @property
    def blocks(self) -> int:
        return math.prod(self.grid)

    @property
    def threads(self) -> int:
        return math.prod(self.block)


@dataclass
class Work:
    """A matrix product: rows x columns x depth, `batch` times; kind: "forward", "data", "weights", "gemm"."""

    kind: str
    rows: int
    columns: int
    depth: int
    batch: int = 1


@dataclass
class Driver:
    """The recorder: allocations, launches, fills and copies so far."""

    multiprocessors: int
    capability: tuple[int, int]
    version: int = 13000
    launches: list[Launch] = field(default_factory=list)
    fills: int = 0
    copies: int = 0
    starts: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    work: Work | None = None
    scratch: set[int] = field(default_factory=set)  # its addresses so far
    compile: Callable = bytes  # `kernels.compiled`, which compiles
    _next: int = 1 << 40

    def allocate(self, size: int) -> _Allocation:
        """Return fresh addresses; nothing is used twice."""
        address, self._next = self._next, self._next + (size + 511) // 512 * 512
        self.starts.append(address)
        self.sizes.append(size)
        return _Allocation(address)

    def behind(self, address: int) -> int:
        """Return the bytes from an address to the end of its buffer; 0 for none."""
        at = bisect.bisect(self.starts, address) - 1
        if at < 0:
            return 0
        return max(0, self.starts[at] + self.sizes[at] - address)


class _Allocation(int):
    def free(self) -> None:
        pass


class _Nothing:
    """Takes any call."""

    handle = 0

    def __init__(self, *arguments: Any, **more: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **more: 0.0


class _Function:
    """A kernel's handle; `Kernel.launch` is replaced, so only its preparation is called."""

    def prepare(self, types: str) -> _Function:
        return self

    def set_attribute(self, what: Any, value: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return 0


class _Module:
    def get_function(self, name: str) -> _Function:
        return _Function()


def _modules(state: Driver) -> dict[str, types.ModuleType]:  # noqa: C901  (a module, as one table)
    """Return the modules pycuda, pycuda.driver and pycuda.tools."""

    class Device:
        multiprocessor_count = state.multiprocessors

        def __init__(self, index: int) -> None:
            self.index = index

        count = staticmethod(lambda: 1)

        def name(self) -> str:
            return f"dry driver, {state.multiprocessors} multiprocessors"

        def compute_capability(self) -> tuple[int, int]:
            return state.capability

        def pci_bus_id(self) -> str:
            return "0000:00:00.0"

        def total_memory(self) -> int:
            return _MEMORY

        def get_attribute(self, what: Any) -> int:
            return 0

        def retain_primary_context(self) -> _Nothing:
            return _Nothing()

    class Error(Exception):
        pass

    def filled(*arguments: Any) -> None:
        state.fills += 1

    def copied(*arguments: Any) -> None:
        state.copies += 1

    def to_host(array: np.ndarray, address: int, stream: Any = None) -> None:
        array[...] = 0

    driver = types.ModuleType("pycuda.driver")
    vars(driver).update(
        init=lambda: None, Device=Device, Stream=_Nothing, Event=_Nothing, Error=Error, MemoryError=MemoryError,
        LogicError=Error, mem_alloc=state.allocate, mem_get_info=lambda: (_MEMORY, _MEMORY),
        memcpy_htod_async=lambda *a: None, memcpy_htod=lambda *a: None, memcpy_dtoh_async=to_host,
        memcpy_dtod_async=copied, memset_d8_async=filled, memset_d32_async=filled,
        pagelocked_empty=np.empty, module_from_buffer=lambda code: _Module(), get_driver_version=lambda: state.version,
        get_version=lambda: (state.version // 1000, 0, 0), function_attribute=_Nothing(), device_attribute=_Nothing(),
        jit_option=_Nothing(), host_alloc_flags=_Nothing(),
    )  # fmt: skip
    tools = types.ModuleType("pycuda.tools")

    class DeviceMemoryPool:
        allocate = staticmethod(state.allocate)
        active_bytes = managed_bytes = 0

        def free_held(self) -> None:
            pass

    vars(tools)["DeviceMemoryPool"] = DeviceMemoryPool
    package = types.ModuleType("pycuda")
    vars(package).update(driver=driver, tools=tools, __path__=[])
    return {"pycuda": package, "pycuda.driver": driver, "pycuda.tools": tools}


def install(multiprocessors: int = 132, capability: tuple[int, int] = (9, 0)) -> Driver:
    """Put the driver in place for the rest of this process; call before anything has used the GPU engine."""
    state = Driver(multiprocessors, capability)
    sys.modules.update(_modules(state))
    os.environ["MINICAFFE_GRAPH"] = "0"
    from minicaffe.cuda import convolution, kernels, ops

    state.compile = kernels.compiled
    kernels.compiled = lambda *arguments: b""
    kernels._load = _loading(kernels._load)
    kernels.Kernel = _kernel_class(state, kernels)
    _annotate_products(state, convolution.CudaCorrelation, ops)
    with contextlib.suppress(ImportError):
        from minicaffe.cuda.tensor import TensorCorrelation

        _annotate_correlation(state, TensorCorrelation)
    return state


def _loading(load: Callable) -> Callable:
    """`kernels._load`, that leaves in the kernel what it was loaded from."""

    def loaded(device: Any, stem: str, name: str, dtype: np.dtype, options: tuple[str, ...]) -> Any:
        kernel = load(device, stem, name, dtype, options)
        kernel.origin = stem, name, dtype == np.float64, tuple(options)
        return kernel

    return loaded


def _kernel_class(state: Driver, kernels: types.ModuleType) -> type:
    class Recorded(kernels.Kernel):
        """A Kernel whose launches are recorded."""

        __slots__ = ("origin",)

        def launch(self, grid: tuple, block: Any, *arguments: Any, shared: int = 0) -> None:
            if 0 in grid:
                return
            stem, name, double, options = self.origin
            names = self._parameters
            if len(arguments) != len(names):
                raise TypeError(f"{stem}.{name} takes {len(names)} arguments, got {len(arguments)}")
            values: dict[str, Any] = {}
            behind: dict[str, int] = {}
            for parameter, kind, value in zip(names, self._types, arguments, strict=True):
                value = int(value) if kind in "PiIqQ" else value
                values[parameter] = value
                if kind == "P":
                    behind[parameter] = state.behind(value)
            grid = tuple(int(n) for n in (*grid, 1, 1)[:3])
            block = (block, 1, 1) if isinstance(block, int) else tuple(int(n) for n in block)
            scratch = frozenset(parameter for parameter in behind if values[parameter] in state.scratch)
            state.launches.append(
                Launch(stem, name, double, options, grid, block, shared, values, behind, state.work, scratch)
            )

    return Recorded


@contextlib.contextmanager
def _within(state: Driver, work: Work | None) -> Iterator[None]:
    before, state.work = state.work, work
    try:
        yield
    finally:
        state.work = before


def _annotate_correlation(state: Driver, cls: type) -> None:
    """Let launches inside of the methods of a correlation name the product."""
    prepare, begin = cls.prepare, cls.__init__

    def started(self: Any, window: Any, group: int, *more: Any, **named: Any) -> None:
        self.dry_window, self.dry_group = window, group
        begin(self, window, group, *more, **named)

    def prepared(self: Any, x_shape: tuple, y_shape: tuple, *more: Any, **named: Any) -> Any:
        result = prepare(self, x_shape, y_shape, *more, **named)
        places_x, places_y = math.prod(x_shape[2:]), math.prod(y_shape[2:])
        group, samples = self.dry_group, y_shape[0]
        c, o = x_shape[1] // group, y_shape[1] // group
        window = self.dry_window
        taps, steps = math.prod(window.kernel), math.prod(window.stride)
        phases = math.prod(map(min, window.kernel, window.stride))  # of the data's gradient, those that have taps
        self.dry_work = {
            "forward": Work("forward", o, samples * places_y, c * taps, group),
            "data_gradient": Work("data", c, -(-samples * places_x // steps), round(o * taps / phases), group * phases),
            "weight_gradient": Work("weights", o, c * taps, samples * places_y, group),
        }
        return result

    cls.__init__, cls.prepare = started, prepared  # type: ignore[misc]
    for name in ("forward", "data_gradient", "weight_gradient"):
        method = getattr(cls, name)

        def annotated(self: Any, *arguments: Any, _method: Callable = method, _name: str = name, **more: Any) -> Any:
            with _within(state, self.dry_work[_name]):
                return _method(self, *arguments, **more)

        setattr(cls, name, annotated)


def _annotate_products(state: Driver, correlation: type, ops: types.ModuleType) -> None:
    _annotate_correlation(state, correlation)
    batched = ops.gemm_batched

    def gemm_batched(trans_a: bool, trans_b: bool, m: int, n: int, k: int, *more: Any, **named: Any) -> Any:
        batch = named.get("batch", more[6] if len(more) > 6 else 1)
        with _within(state, Work("gemm", m, n, k, batch)):
            return batched(trans_a, trans_b, m, n, k, *more, **named)

    ops.gemm_batched = gemm_batched
    if hasattr(ops, "_gemm"):  # what both `gemm` and `gemm_batched` call
        plain = ops._gemm

        def _gemm(trans_a: bool, trans_b: bool, sizes: tuple, *more: Any) -> Any:
            with _within(state, Work("gemm", *sizes, more[-2])):
                return plain(trans_a, trans_b, sizes, *more)

        ops._gemm = _gemm
    lent = ops.scratch

    @contextlib.contextmanager
    def scratch(nbytes: int) -> Iterator[Any]:
        with lent(nbytes) as buffer:
            state.scratch.add(int(buffer))
            yield buffer

    ops.scratch = scratch


def recorded(state: Driver, call: Callable[[], Any]) -> list[Launch]:
    """Return the launches of a call."""
    first = len(state.launches)
    call()
    return state.launches[first:]
