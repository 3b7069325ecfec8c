"""libdnnl.so.3 through ctypes: finding it, its constants, its errors, its threads.

oneDNN keeps its C interface stable through version 3, so any libdnnl.so.3 will do: the one of the PyPI wheel
`onednn-cpu-gomp` (a dependency on x86-64 Linux), one installed by the system, or the file named by the environment
variable MINICAFFE_ONEDNN.  Nothing is loaded until somebody asks; where there is no library `available()` is False and
`reason()` says why.

Source: the oneDNN developer guide, https://uxlfoundation.github.io/oneDNN/ (constants from oneapi/dnnl/dnnl_types.h).
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import os
import threading
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_uint, c_void_p

from minicaffe.errors import MinicaffeError


class OneDNNError(MinicaffeError):
    """The library answered a call with an error."""


class Unsupported(OneDNNError):
    """oneDNN has no implementation for this shape, layout or algorithm: the caller falls back on numpy."""


class Prop:
    """dnnl_prop_kind_t: what a primitive computes."""

    TRAINING = 64
    INFERENCE = 96
    BACKWARD = 128
    BACKWARD_DATA = 160


class Alg:
    """dnnl_alg_kind_t: how it computes it (the values used here)."""

    CONVOLUTION_DIRECT = 0x1
    CONVOLUTION_AUTO = 0x3
    RELU = 0x20
    TANH = 0x21
    ELU = 0x22
    SQUARE = 0x23
    ABS = 0x24
    SQRT = 0x25
    LINEAR = 0x26
    SOFT_RELU = 0x27
    LOGISTIC = 0x29
    EXP = 0x2A
    SWISH = 0x2C
    LOG = 0x2D
    CLIP_V2 = 0x2F
    POW = 0x30
    RELU_FROM_DST = 0x100
    TANH_FROM_DST = 0x101
    ELU_FROM_DST = 0x102
    LOGISTIC_FROM_DST = 0x104
    EXP_FROM_DST = 0x105
    CLIP_V2_FROM_DST = 0x106
    POOLING_MAX = 0x1FF
    POOLING_AVG_WITH_PADDING = 0x2FF
    POOLING_AVG_WITHOUT_PADDING = 0x3FF
    LRN_ACROSS = 0xAFF
    LRN_WITHIN = 0xBFF
    ADD = 0x1FFF0
    MUL = 0x1FFF1
    MAX = 0x1FFF2
    SUB = 0x1FFF5
    GREATER_EQUAL = 0x1FFF6
    LESS = 0x1FFF9
    REDUCE_SUM = 0x2FFF4
    SOFTMAX = 0x30000


class Arg:
    """DNNL_ARG_*: the names of a primitive's arguments."""

    SRC = 1
    SRC_1 = 2
    DST = 17
    WEIGHTS = 33
    BIAS = 41
    MEAN = 49
    VARIANCE = 50
    SCALE = 51
    SHIFT = 52
    WORKSPACE = 64
    SCRATCHPAD = 80
    DIFF_SRC = 129
    DIFF_DST = 145
    DIFF_WEIGHTS = 161
    DIFF_BIAS = 169
    DIFF_SCALE = 255
    DIFF_SHIFT = 256
    MULTIPLE_SRC = 1024
    POST_OP = 32768


class Flags:
    """dnnl_normalization_flags_t of batch normalisation."""

    GLOBAL_STATS = 1
    SCALE = 2
    SHIFT = 4
    RELU = 8


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


F32 = 3
_UNIMPLEMENTED = (3, 4)
_STATUS = {
    1: "out of memory",
    2: "invalid arguments",
    3: "unimplemented",
    4: "no implementation left",
    5: "runtime error",
    6: "not required",
}
_OPENMP = 2
_PACKAGES = ("onednn-cpu-gomp", "onednn", "onednn-cpu-iomp")
# Between two layers a worker waits some microseconds; libgomp's default is to burn milliseconds before it sleeps, which
# starves every other process on the machine.  This bound covers the gap between layers and no more.
_SPIN_COUNT = "1000"
_SIZED_RESULTS = {
    "dnnl_memory_desc_get_size": c_size_t,
    "dnnl_primitive_desc_query_md": c_void_p,
    "dnnl_version": POINTER(_Version),
}

_lock = threading.Lock()
_library: ctypes.CDLL | None = None
_failure: str | None = None
_threads: int | None = None


def _candidates() -> list[str]:
    """Paths and names to try, the user's own first."""
    if os.environ.get("MINICAFFE_ONEDNN"):
        return [os.environ["MINICAFFE_ONEDNN"]]
    found = []
    for package in _PACKAGES:
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found += [str(file.locate().resolve()) for file in files if file.name == "libdnnl.so.3"]
    return found + ["libdnnl.so.3"]


def _bound_the_spinning() -> None:
    """Make OpenMP's workers sleep soon, unless the user has said how they should wait (see _SPIN_COUNT)."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = _SPIN_COUNT


def _open() -> ctypes.CDLL:
    _bound_the_spinning()
    tried = []
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)
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
        return library
    raise OneDNNError(f"no usable libdnnl.so.3 (pip install onednn-cpu-gomp): {'; '.join(tried)}")


def load() -> ctypes.CDLL:
    """The library, opened once. Raises OneDNNError with every place that was tried."""
    global _library, _failure
    with _lock:
        if _library is None:
            if _failure is None:
                try:
                    _library = _open()
                except OneDNNError as error:
                    _failure = str(error)
            if _failure is not None:
                raise OneDNNError(_failure)
    return _library


def available() -> bool:
    """Whether the oneDNN engine can be used here."""
    try:
        load()
    except OneDNNError:
        return False
    return True


def reason() -> str | None:
    """Why `available()` is False; None where it is True."""
    return None if available() else _failure


def version() -> str:
    """The library's version, "3.2.0" for example."""
    found = load().dnnl_version().contents
    return f"{found.major}.{found.minor}.{found.patch}"


def check(status: int, action: str) -> None:
    """Turn a dnnl_status_t into an exception that says what was tried."""
    if status in _UNIMPLEMENTED:
        raise Unsupported(f"oneDNN cannot do {action}")
    if status:
        raise OneDNNError(f"oneDNN failed at {action}: {_STATUS.get(status, status)}")


def call(name: str, *args) -> None:
    """Call `dnnl_<name>` and check what it returns."""
    check(getattr(load(), "dnnl_" + name)(*args), name)


def dims(values) -> ctypes.Array | None:
    """Numbers as a dnnl_dims_t (always 12 long); None stays NULL."""
    return None if values is None else (c_int64 * 12)(*values)


def set_threads(count: int | None) -> None:
    """Compute with `count` threads from now on, in every Python thread; None: what OMP_NUM_THREADS or the machine says.

    Call it before nets are built: primitives split their work for the number of threads they were created under."""
    global _threads, _local
    _threads = count
    _local = None


def wanted_threads() -> int | None:
    """What `set_threads` was given last; None, the default, before."""
    return _threads


def threads() -> int:
    """How many threads a primitive uses in this Python thread."""
    local()
    return _openmp().omp_get_max_threads()


def _openmp() -> ctypes.CDLL:
    load()
    return ctypes.CDLL("libgomp.so.1")


@functools.cache
def _default_threads() -> int:
    """What OpenMP would use if nobody said anything: asked once, in the first thread that computes."""
    return _openmp().omp_get_max_threads()


class _Local(threading.local):
    """What one Python thread needs: a stream, its number of OpenMP threads, one scratch buffer for all primitives."""

    def __init__(self):
        self.stream = c_void_p()
        call("stream_create", byref(self.stream), engine(), 1)
        self.scratch = None
        _openmp().omp_set_num_threads(int(_threads or _default_threads()))

        self._free = load().dnnl_stream_destroy  # kept here: modules may be gone at exit

    def __del__(self):
        if hasattr(self, "_free"):
            self._free(self.stream)


_engine = c_void_p()
_local = None


def engine() -> c_void_p:
    """The CPU engine (dnnl_engine_t), one per process."""
    library = load()
    with _lock:
        if not _engine:
            check(library.dnnl_engine_create(byref(_engine), 1, c_size_t(0)), "engine_create")
    return _engine


def local() -> _Local:
    """This thread's stream and scratch memory."""
    global _local
    if _local is None:
        _local = _Local()
    return _local
