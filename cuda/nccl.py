"""NVIDIA's NCCL: operations of several processes on the memory of their GPUs, by ctypes on libnccl.so.2.

The library is that of the environment variable MINICAFFE_NCCL, or of the PyPI package nvidia-nccl-cu13 or
nvidia-nccl-cu12 (`pip install 'minicaffe[nccl]'`), or the system's.  Signatures and values are those of nccl.h 2.32;
they are the same since 2.10.  NVIDIA's own binding, nccl4py, is not used: it needs cuda-core, for nine functions.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from minicaffe.cuda import context
from minicaffe.cuda.accord import Accord
from minicaffe.cuda.graph import capturing
from minicaffe.errors import DeviceError
from minicaffe.parallel.group import Group

_FILE = "libnccl.so.2"
_PACKAGES = ("nvidia-nccl-cu13", "nvidia-nccl-cu12")
_OLDEST = 21000  #: version 2.10, the first with ncclAvg; operations can be captured since 2.9
_TYPES = {np.dtype(np.float32): 7, np.dtype(np.float64): 8}  # ncclDataType_t
_SUM, _AVERAGE = 0, 4  # ncclRedOp_t


class _UniqueId(ctypes.Structure):
    """ncclUniqueId, which is passed by value."""

    _fields_ = [("internal", ctypes.c_char * 128)]


_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_ARGUMENTS = {
    "ncclGetVersion": (ctypes.POINTER(_INT),),
    "ncclGetUniqueId": (ctypes.POINTER(_UniqueId),),
    "ncclCommInitRank": (ctypes.POINTER(_POINTER), _INT, _UniqueId, _INT),
    "ncclAllReduce": (_POINTER, _POINTER, _SIZE, _INT, _INT, _POINTER, _POINTER),
    "ncclBroadcast": (_POINTER, _POINTER, _SIZE, _INT, _INT, _POINTER, _POINTER),
    "ncclCommGetAsyncError": (_POINTER, ctypes.POINTER(_INT)),
    "ncclCommAbort": (_POINTER,),
}


class Library:
    """The NCCL library.  Raises DeviceError, with the reason, if there is none that can be used."""

    def __init__(self) -> None:
        self._library = _open()
        try:
            for name, arguments in _ARGUMENTS.items():
                getattr(self._library, name).argtypes = arguments
            self._library.ncclGetErrorString.restype = ctypes.c_char_p
        except AttributeError as error:
            raise DeviceError(f"NCCL cannot be used: its library is not complete ({error})") from None
        version = _INT()
        self.call("ncclGetVersion", ctypes.byref(version))
        if version.value < _OLDEST:
            raise DeviceError(f"NCCL cannot be used: 2.10 or newer is needed, the version code is {version.value}")

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function of NCCL; DeviceError if it fails."""
        self.check(function, getattr(self._library, function)(*arguments))

    def check(self, what: str, result: int) -> None:
        """Raise DeviceError for a result of NCCL other than success."""
        if result:
            text = self._library.ncclGetErrorString(result).decode(errors="replace")
            detail = self._last_error()
            raise DeviceError(f"NCCL failed: {what}: {text}{f' ({detail})' if detail else ''}")

    def _last_error(self) -> str:
        """Return NCCL's description of the last error in this thread; '' before 2.13, which has none."""
        try:
            function = self._library.ncclGetLastError
        except AttributeError:
            return ""
        function.argtypes, function.restype = (_POINTER,), ctypes.c_char_p
        return (function(None) or b"").decode(errors="replace").strip()


def reason_unavailable() -> str:
    """Return why NCCL cannot be used, as a sentence; '' if it can."""
    try:
        Library()
    except DeviceError as error:
        return str(error)
    return ""


def _open() -> ctypes.CDLL:
    error: OSError | None = None
    for path in _candidates():
        try:
            return ctypes.CDLL(path)
        except OSError as failure:
            error = error or failure
    raise DeviceError(f"NCCL cannot be used ({error}): pip install 'minicaffe[nccl]'")


def _candidates() -> Iterator[str]:
    """Yield paths and names to try in order; MINICAFFE_NCCL alone if it is set."""
    if os.environ.get("MINICAFFE_NCCL"):
        yield os.environ["MINICAFFE_NCCL"]
        return
    for package in _PACKAGES:
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        yield from (os.path.realpath(file.locate()) for file in files if file.name == _FILE)
    yield _FILE


def connection(group: Group) -> Communicator:
    """Return the Communicator of a group; at the first call, which all ranks make together, it is made."""
    return made(group) or Communicator(group)


def made(group: Group) -> Communicator | None:
    """Return the Communicator that `connection` has made for a group; None if it has made none."""
    return next((each for each in context.current().connections if each.group is group), None)


class Communicator:
    """A connection between the GPUs of all ranks of a group, one GPU for each.

    Every rank makes one at the same time, and calls its operations in the same order, with the same counts and dtypes.
    An operation is queued on the thread's stream, and can be captured: then all ranks must capture it.
    Raises DeviceError if NCCL cannot be used, or cannot connect the GPUs.
    """

    def __init__(self, group: Group) -> None:
        self._library, self._handle = Library(), _POINTER()
        self.group, self._device = group, context.current()
        unique = _UniqueId()
        if group.root:
            self._library.call("ncclGetUniqueId", ctypes.byref(unique))
        unique = _UniqueId.from_buffer_copy(bytes.fromhex(group.share(bytes(unique).hex())))
        self._library.call("ncclCommInitRank", ctypes.byref(self._handle), group.size, unique, group.rank)
        self.accord = Accord(group)  # about captures of operations
        self._ending = threading.Lock()
        self._steps: weakref.WeakSet[Any] = weakref.WeakSet()
        self._device.connections.append(self)

    def sum(self, ptr: int, count: int, dtype: np.dtype) -> None:
        """Replace `count` numbers at a device address by their sums over the ranks."""
        self._all_reduce(ptr, count, dtype, _SUM)

    def average(self, ptr: int, count: int, dtype: np.dtype) -> None:
        """Replace `count` numbers at a device address by their means over the ranks."""
        self._all_reduce(ptr, count, dtype, _AVERAGE)

    def broadcast(self, ptr: int, count: int, dtype: np.dtype) -> None:
        """Replace `count` numbers at a device address by those of rank 0."""
        self._call("ncclBroadcast", ptr, count, dtype, 0)

    def check(self) -> None:
        """Raise DeviceError if an operation that was queued has failed, such as after the loss of a rank."""
        error = _INT()
        self._library.call("ncclCommGetAsyncError", self._open_handle(), ctypes.byref(error))
        self._library.check("an operation of several ranks", error.value)

    def uses(self, step: Any) -> None:
        """Register a step that may capture operations: `close` invalidates it."""
        self._steps.add(step)

    def close(self) -> None:
        """Drop the graphs with operations of this connection, for which NCCL waits, and end it as `abort` does."""
        for step in self._steps:
            step.invalidate()
        self.abort()

    def abort(self) -> None:
        """End the connection: this rank's operations that wait for others return, and the others' fail.

        Afterwards no operation can be queued, and graphs with operations must not be replayed.  Another thread may call
        this, to end a wait.  ncclCommDestroy is not used: it waits for the other ranks, which may have ended.
        """
        with self._ending:
            handle, self._handle = self._handle, _POINTER()
        if handle:
            self._library.call("ncclCommAbort", handle)
            self._device.connections.remove(self)

    def _all_reduce(self, ptr: int, count: int, dtype: np.dtype, op: int) -> None:
        self._call("ncclAllReduce", ptr, count, dtype, op)

    def _call(self, function: str, ptr: int, count: int, dtype: np.dtype, detail: int) -> None:
        """Queue an operation in place, or capture it together with the others; detail: its operator, or its root."""
        if capturing():
            self.accord.reach()
        handle, stream = self._open_handle(), int(context.stream().handle)
        self._library.call(function, int(ptr), int(ptr), count, _TYPES[np.dtype(dtype)], detail, handle, stream)

    def _open_handle(self) -> Any:
        if not self._handle:
            raise DeviceError("the connection of the GPUs has been ended, after an error")
        return self._handle
