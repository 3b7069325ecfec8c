"""oneDNN's library through ctypes: loading, errors, threads and forks.

oneDNN keeps its C interface stable through version 3, so any libdnnl.so.3, or dnnl.dll of that version, will do: the
one of a PyPI wheel (a dependency on x86-64 Linux and Windows), one installed by the system, or the file named by the
environment variable MINICAFFE_ONEDNN; `platforms.py` has the names.  The library is loaded on first use; where none is
found `available()` is False and `reason()` returns the cause.

Source: the oneDNN developer guide, https://uxlfoundation.github.io/oneDNN/.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_uint, c_void_p
from typing import Any

import numpy as np

from minicaffe import forks
from minicaffe.errors import MinicaffeError
from minicaffe.onednn.constants import Alg, Arg, Flags, Prop  # noqa: F401  (imported from here elsewhere)
from minicaffe.onednn.platforms import CURRENT
from minicaffe.threads import THREADS


class OneDNNError(MinicaffeError):
    """No usable library was found, or a call of it failed."""


class Unsupported(OneDNNError):
    """oneDNN has no implementation for this shape, layout or algorithm: the caller falls back on numpy."""


class ExecArg(ctypes.Structure):
    """dnnl_exec_arg_t: one argument of dnnl_primitive_execute."""

    _fields_ = [("arg", c_int), ("memory", c_void_p)]


class _Version(ctypes.Structure):
    _fields_ = [
        ("major", c_int),
        ("minor", c_int),
        ("patch", c_int),
        ("hash", c_char_p),
        ("cpu_runtime", c_uint),
        ("gpu_runtime", c_uint),
    ]


F32, BF16 = 3, 2  # dnnl_data_type_t
_HAS_BF16 = 0xE7  # dnnl_cpu_isa_avx512_core_bf16; those with AMX include it
MOST_AXES = 12  #: DNNL_MAX_NDIMS
_OUT_OF_MEMORY = 1
_UNIMPLEMENTED = (3, 4)
_STATUS = {
    2: "invalid arguments",
    3: "unimplemented",
    4: "no implementation left",
    5: "runtime error",
    6: "not required",
}
_OPENMP = 2
_PAUSE_SOFT = 1  # omp_pause_resource_t
# OpenMP workers spin while they wait for work, between two layers for some microseconds. By libgomp's default they spin
# for milliseconds before they sleep, which takes the cores from other processes. This bound covers the time between two
# layers.
_SPIN_COUNT = "1000"
_SIZED_RESULTS = {
    "dnnl_memory_desc_get_size": c_size_t,
    "dnnl_primitive_desc_query_md": c_void_p,
    "dnnl_version": POINTER(_Version),
}


def _limit_spinning() -> None:
    """Limit how long OpenMP's workers spin (see _SPIN_COUNT), unless the user has set how they wait."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = _SPIN_COUNT


def _open() -> ctypes.CDLL:
    _limit_spinning()
    tried = []
    for path in CURRENT.candidates():
        try:
            library = CURRENT.open(path)
        except OSError as error:
            tried.append(str(error))
            continue
        for name, result in _SIZED_RESULTS.items():
            getattr(library, name).restype = result
        version = library.dnnl_version().contents
        if version.major != 3 or version.cpu_runtime != _OPENMP:
            found = f"version {version.major}.{version.minor}, runtime {version.cpu_runtime}"
            tried.append(f"{path}: {found}; needed 3.x with OpenMP")
            continue
        library.dnnl_set_primitive_cache_capacity(0)  # primitives belong to their users, see primitives.py
        return library
    raise OneDNNError(f"no usable {CURRENT.file} ({CURRENT.advice}): {'; '.join(tried)}")


def check(status: int, action: str) -> None:
    """Raise OneDNNError, Unsupported or MemoryError for a dnnl_status_t other than success; it names `action`."""
    if status == _OUT_OF_MEMORY:
        raise MemoryError(f"oneDNN has no room for {action}")
    if status in _UNIMPLEMENTED:
        raise Unsupported(f"oneDNN cannot do {action}")
    if status:
        raise OneDNNError(f"oneDNN failed at {action}: {_STATUS.get(status, status)}")


def dims(values) -> ctypes.Array | None:
    """Return numbers as a dnnl_dims_t, an array of MOST_AXES; None, which is passed as NULL, for None."""
    return None if values is None else (c_int64 * MOST_AXES)(*values)


class _Local(threading.local):
    """State of one Python thread: a stream, its number of OpenMP threads, one scratch buffer for all primitives."""

    def __init__(self, runtime: Runtime) -> None:
        if runtime.stranded:
            raise OneDNNError(
                "this process was forked from one that computed with several threads, after which an OpenMP library "
                "older than GCC 9 cannot compute: set OMP_NUM_THREADS=1, or start processes by spawn"
            )
        library = runtime.load()
        self.stream = c_void_p()
        check(library.dnnl_stream_create(byref(self.stream), runtime.engine(), 1), "stream_create")
        self.scratch: np.ndarray | None = None
        library.omp_set_num_threads(THREADS.count())
        self._free = library.dnnl_stream_destroy  # kept here: modules may be gone at exit

    def __del__(self) -> None:
        if hasattr(self, "_free"):
            self._free(self.stream)


class Runtime:
    """The library in this process, and the objects that all its users share; `RUNTIME` below is the only instance.

    lock: held while a shared object is looked up or made: the library, its engine, descriptors, primitives.  A fork
        waits for it.
    descs, primitives: those in use, by description (tensors.py, primitives.py); guarded by `lock`.
    stranded: whether this process was forked and cannot compute.
    """

    def __init__(self) -> None:
        self.lock = forks.held(threading.RLock())
        self.descs: weakref.WeakValueDictionary[tuple, Any] = weakref.WeakValueDictionary()
        self.primitives: weakref.WeakValueDictionary[tuple, Any] = weakref.WeakValueDictionary()
        self.loaded: ctypes.CDLL | None = None
        self.stranded = False
        self._failure: str | None = None
        self._engine = c_void_p()
        self._local: _Local | None = None

    # -- the library -----------------------------------------------------------------------------------------------

    def load(self) -> ctypes.CDLL:
        """Return the library, opened once. Raises OneDNNError, with all paths that were tried, if none can be used."""
        return self.loaded or self._open()

    def _open(self) -> ctypes.CDLL:
        with self.lock:
            if self.loaded is None:
                if self._failure is None:
                    try:
                        self.loaded = _open()
                    except OneDNNError as error:
                        self._failure = str(error)
                if self.loaded is None:
                    raise OneDNNError(self._failure)
                if hasattr(os, "register_at_fork"):
                    os.register_at_fork(before=self._end_workers, after_in_child=self._after_fork_in_child)
            return self.loaded

    def available(self) -> bool:
        """Whether the oneDNN engine can be used here."""
        try:
            self.load()
        except OneDNNError:
            return False
        return True

    def reason(self) -> str | None:
        """Why `available()` is False; None where it is True."""
        return None if self.available() else self._failure

    def version(self) -> str:
        """The library's version, "3.2.0" for example."""
        found = self.load().dnnl_version().contents
        return f"{found.major}.{found.minor}.{found.patch}"

    def has_bf16(self) -> bool:
        """Whether the processor multiplies in bfloat16 (AVX512_BF16 or AMX); elsewhere oneDNN would emulate it."""
        return self.load().dnnl_get_effective_cpu_isa() & _HAS_BF16 == _HAS_BF16

    def engine(self) -> c_void_p:
        """The CPU engine (dnnl_engine_t), one per process."""
        library = self.load()
        with self.lock:
            if not self._engine:
                check(library.dnnl_engine_create(byref(self._engine), 1, c_size_t(0)), "engine_create")
        return self._engine

    # -- forks: the process that forks and the child can both compute afterwards -----------------------------------

    def _end_workers(self) -> None:
        """End the OpenMP workers of the thread that forks: the child, which has none, would wait for them forever.

        The next computation starts them again.  Other threads' workers do not matter, as those threads are not
        in the child.
        """
        library = self.load()
        if hasattr(library, "omp_pause_resource_all"):
            library.omp_pause_resource_all(_PAUSE_SOFT)

    def _after_fork_in_child(self) -> None:
        library = self.load()
        if not hasattr(library, "omp_pause_resource_all") and library.omp_get_max_threads() > 1:
            self._local, self.stranded = None, True

    # -- threads ---------------------------------------------------------------------------------------------------

    def local(self) -> _Local:
        """This thread's stream and scratch memory."""
        local = self._local
        if local is None:
            local = self._local = _Local(self)
        return local

    def renew_locals(self) -> None:
        """Give every Python thread a new stream and scratch memory, and the number of threads that is set now."""
        self._local = None

    def threads(self) -> int:
        """How many threads a primitive uses in this Python thread."""
        self.local()
        return self.load().omp_get_max_threads()


RUNTIME = Runtime()
load = RUNTIME.load
available = RUNTIME.available
reason = RUNTIME.reason
version = RUNTIME.version
has_bf16 = RUNTIME.has_bf16
engine = RUNTIME.engine
local = RUNTIME.local
threads = RUNTIME.threads


def call(name: str, *args) -> None:
    """Call `dnnl_<name>`; raises OneDNNError, or Unsupported, if it fails."""
    check(getattr(load(), "dnnl_" + name)(*args), name)
