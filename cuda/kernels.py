"""Kernels by name: ``kernel("pooling", "max_forward", dtype)`` compiles ``pooling.cu`` on first use and caches it.

One source serves float and double: ``Dtype`` is a macro. Compiled code is cached on disk (`cache`) under the hash of
the text (`sources`), the options, the architecture and the compiler's version.

Environment: ``MINICAFFE_CACHE`` is the folder for compiled code (default ``$XDG_CACHE_HOME/minicaffe``, that is
``~/.cache/minicaffe``); ``MINICAFFE_NVCC`` is the compiler, a program that takes nvcc's arguments, or ``nvrtc`` for
NVIDIA's compiler library (default: nvcc in ``CUDA_HOME``, on the PATH or in /usr/local/cuda, else NVRTC, and of these
the first whose code the driver loads: `minicaffe.cuda.compilers`).
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.cuda import cache, compilers, context
from minicaffe.cuda.compilers import NVRTC_OPTIONS, OPTIONS, Compiler
from minicaffe.cuda.sources import FORMATS, HERE, SOURCES  # noqa: F401  (HERE: for scripts)
from minicaffe.errors import DataError, DeviceError, nearest
from minicaffe.text import printable

_OLDEST = 75  # the oldest architecture, sm_75
BLOCK = 256  # threads in a block of kernels that loop over elements
PACK = 4  # elements that threads of other kernels work on at a time, see `Kernel.packs`
_LONG_ROW = 1024  # as in threads.cuh
_MOST_BLOCKS = (1 << 31) - 1  # along x
_LIMITS = {"i": (1 << 31) - 1, "I": (1 << 32) - 1}  # the largest number of a format
_loading = threading.RLock()

define, source, signatures = SOURCES.define, SOURCES.text, SOURCES.signatures


def row_blocks(rows: int, length: int) -> tuple[int, int]:
    """Return the numbers of blocks, and of threads in one, for rows as threads.cuh divides them."""
    return (rows, BLOCK) if length > _LONG_ROW else (-(-rows // 4), 128)


# ---- compilers -------------------------------------------------------------------------------------------------------


def definitions(dtype: np.dtype) -> tuple[str, ...]:
    """The compiler's arguments that define Dtype."""
    return ("-DDtype=double", "-DDTYPE_BITS=64") if dtype == np.float64 else ("-DDtype=float", "-DDTYPE_BITS=32")


@functools.cache
def _chosen(driver: int) -> Compiler:
    return compilers.choose(driver)


def compiler() -> Compiler:
    """The compiler in use, which fits the driver if a device is in use; see the module's docstring for the choice."""
    return _chosen(context.driver_version())


def fitness() -> str:
    """Say in a sentence which compiler makes the kernels of the device in use, or what does not fit."""
    device, driver = context.current(), context.driver_version()
    if int(device.arch[3:]) < _OLDEST:
        return f"cannot be compiled: {device.name} is of {device.arch}, minicaffe needs sm_{_OLDEST} or newer"
    try:
        by = compiler()
    except DeviceError as error:
        return f"cannot be compiled: {error}"
    if reason := compilers.too_old(by, driver) or compilers.too_new(by, device.arch):
        return f"cannot be compiled: {reason}"
    release = ".".join(map(str, by.release)) or by.version.strip().splitlines()[-1]
    made = f"{driver // 1000}.{driver % 1000 // 10}"
    return f"compiled for {device.arch} by {by.name} {release}; the driver is made for CUDA {made}"


# ---- the cache on disk -----------------------------------------------------------------------------------------------


def cache_dir() -> Path:
    """The folder in which compiled kernels are kept."""
    base = os.environ.get("MINICAFFE_CACHE")
    if not base:
        base = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "minicaffe")
    return Path(base) / "kernels"


def compiled(stem: str, dtype: np.dtype, arch: str, options: tuple[str, ...] = (), by: Compiler | None = None) -> bytes:
    """The machine code of ``<stem>.cu`` for a dtype and an architecture, from the cache if it is there.

    by: the compiler; that in use unless given.
    """
    if "-DWGMMA" in options:  # instructions of one architecture alone
        arch += "a"
    text, defined, by = source(stem), (*definitions(dtype), *options), by or compiler()
    key = hashlib.sha256("\0".join((text, arch, *defined, *OPTIONS, *NVRTC_OPTIONS, by.version)).encode()).hexdigest()
    path = cache_dir() / f"{stem.replace('/', '-')}-{key[:40]}.cubin"
    kept = cache.load(path)
    if kept is not None:
        return kept
    code = by.compile(text, f"{stem}.cu", arch, defined)
    try:
        cache.store(path, code)
    except (OSError, DataError) as error:
        _warn_once(f"compiled kernels cannot be kept in {path.parent} ({error}); they are compiled again each time")
    return code


@functools.cache
def _warn_once(sentence: str) -> None:
    print(printable(sentence), file=sys.stderr)


# ---- kernels ---------------------------------------------------------------------------------------------------------


class Kernel:
    """A compiled kernel. ``kernel(n, *args)`` loops over n elements; ``kernel.launch`` takes the geometry."""

    __slots__ = ("name", "_function", "_types", "_parameters", "_device", "_most_blocks", "_shared")

    def __init__(self, name: str, function: Any, types: str, parameters: Sequence[str], device: context.Device) -> None:
        self.name = name
        self._function = function.prepare(types)
        self._types, self._parameters = types, parameters
        self._device = device
        self._most_blocks = 32 * device.multiprocessors
        self._shared = 48 << 10

    def __call__(self, n: int, *arguments: Any) -> None:
        """Queue the kernel over n elements, with n as its first argument: a grid-stride loop. No-op when n is 0."""
        if n:
            self.launch((min(-(-n // BLOCK), self._most_blocks), 1), (BLOCK, 1, 1), n, *arguments)

    def packs(self, n: int, *arguments: Any) -> None:
        """As `__call__`, for a kernel whose threads work on PACK elements at a time (packs.cuh)."""
        if n:
            self.launch((min(-(-n // (PACK * BLOCK)), self._most_blocks), 1), (BLOCK, 1, 1), n, *arguments)

    def launch(self, grid: tuple[int, ...], block: tuple[int, ...] | int, *arguments: Any, shared: int = 0) -> None:
        """Queue the kernel with an explicit grid, block (threads) and bytes of dynamic shared memory.

        No-op for a grid of no blocks. A grid may have 2^31 - 1 blocks along x, but 65535 along y and z. Raises
        DeviceError when there are more, or when a number is too large for the kernel's parameter.
        """
        if 0 in grid:
            return
        device = context.current()
        if isinstance(block, int):
            block = (block, 1, 1)
        if shared > self._shared:  # more than 48 KB must be requested
            attribute = device.driver.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._function.set_attribute(attribute, shared)
            self._shared = shared
        try:
            self._function.prepared_async_call(grid, block, context.stream(), *arguments, shared_size=shared)
        except device.driver.Error as error:
            reason = self._misfit(grid, arguments) or f"failed with grid {grid} and block {block}: {error}"
            raise DeviceError(f"kernel {self.name} {reason}") from error
        except Exception as error:  # PyCUDA packs numbers with a `struct` of its own, whose error has no public name
            reason = self._misfit(grid, arguments)
            if not reason:
                raise
            raise DeviceError(f"kernel {self.name} {reason}") from error

    def _misfit(self, grid: tuple[int, ...], arguments: tuple) -> str:
        """Describe the number that exceeds the range of its type, or of a grid; '' if none does."""
        limited = [
            (parameter, _LIMITS[kind], value)
            for kind, parameter, value in zip(self._types, self._parameters, arguments)
            if kind in _LIMITS
        ]
        for what, most, value in (*limited, ("a number of blocks", _MOST_BLOCKS, max(grid))):
            if value > most:
                return f"takes {what} of at most {most}, got {value}: a blob is too large for the GPU engine"
        return ""


def kernel(stem: str, name: str, dtype: Any = np.float32, options: tuple[str, ...] = ()) -> Kernel:
    """The kernel ``name`` of ``cuda/<stem>.cu`` (also ``extensions/<stem>``) for float32 or float64.

    options: more arguments for the compiler, such as ``-DBF16``.

    Its argument types come from its signature: pointers, Dtype, int, unsigned, long long, unsigned long long, size_t,
    float, double, bool. Raises DeviceError when the file or the kernel does not exist or does not compile.
    """
    device = context.current()
    dtype = np.dtype(dtype)
    key = (stem, name, dtype.num, options)
    found = device.cache.get(key)
    if found is None:
        with _loading:
            found = device.cache[key] = device.cache.get(key) or _load(device, stem, name, dtype, options)
    return found


def _load(device: context.Device, stem: str, name: str, dtype: np.dtype, options: tuple[str, ...]) -> Kernel:
    if dtype not in (np.float32, np.float64):
        raise DeviceError(f"kernels compute in float32 or float64, not {dtype}")
    known = signatures(stem)
    if name not in known:
        raise DeviceError(f"cuda/{stem}.cu has no kernel {name}{nearest(name, known)}")
    module = device.cache.get((stem, dtype.num, options))
    if module is None:
        code = compiled(stem, dtype, device.arch, options)
        try:
            module = device.driver.module_from_buffer(code)
        except device.driver.Error as error:
            number = context.driver_version()
            reason = compilers.too_old(compiler(), number) or (
                f"the driver, made for CUDA {number // 1000}.{number % 1000 // 10}, does not load it ({error})"
            )
            raise DeviceError(f"cuda/{stem}.cu was compiled, but {reason}") from error
        device.cache[stem, dtype.num, options] = module
    formats = {**FORMATS, "Dtype": "d" if dtype == np.float64 else "f"}
    parameters = [parameter.split()[-1].lstrip("*") for parameter in SOURCES.parameters(stem)[name]]
    types = "".join(formats[found] for found in known[name])
    return Kernel(f"{stem}.{name}", module.get_function(name), types, parameters, device)
