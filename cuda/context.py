"""The CUDA device in use: its primary context, one stream that computes and one that copies.

Every function makes the context current in the calling thread, so several threads may use the device; what they queue
runs in one order on the computing stream. The streams are ordinary ("blocking") ones: a synchronous copy waits for both
of them.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import platform
import threading
from collections.abc import Iterator
from typing import Any

from minicaffe import forks
from minicaffe.core.settings import PerThread
from minicaffe.errors import DeviceError, UsageError

_MISSING = (
    "no GPU can be used: PyCUDA is not installed: pip install 'minicaffe[gpu]' compiles it, after g++ and CUDA's "
    "headers are there; docs/gpu.md has the commands for both, with CUDA's toolkit and without"
)


class _Here(threading.local):
    """State of one thread: the context that it has made current, and the stream that it captures, if any."""

    current: _Current | None = None
    recorded: Any = None


_here = _Here()


class Device:
    """One device: ``.index``, ``.name``, ``.arch`` ("sm_90"), ``.multiprocessors``; streams ``.compute``, ``.copy``.

    ``.lock`` is held by a thread that captures, and by one that queues work with the device's scratch memory.
    """

    def __init__(self, driver: Any, index: int) -> None:
        self.driver = driver
        self.index = index
        handle = driver.Device(index)
        self.name = handle.name()
        self.arch = "sm_" + "".join(map(str, handle.compute_capability()))
        self.multiprocessors = handle.multiprocessor_count
        self.address = f"{platform.node()} {handle.pci_bus_id()}"  # the same for all processes that use it
        self.context = handle.retain_primary_context()
        self.context.push()
        self.compute = driver.Stream()
        self.copy = driver.Stream()
        self.recorded = driver.Stream()  # for captures, which do not include what other threads queue on `compute`
        self.lock = threading.RLock()
        self.cache: dict = {}  # objects that are valid as long as this context: kernels, pools
        self.connections: list = []  # to other processes' GPUs (nccl.py); each is closed before the context is left
        self.context.pop()


class _Current:
    """Keeps a context current in one thread until the thread (or the program) ends."""

    def __init__(self, device: Device) -> None:
        self.device: Device | None = device
        self._to_the_end = threading.current_thread() is threading.main_thread()
        device.context.push()

    def release(self) -> None:
        """Pop the context from this thread's stack; no-op after the first call."""
        device, self.device = self.device, None
        if device is not None:
            device.context.pop()

    def __del__(self) -> None:  # runs in the thread that ends, before PyCUDA checks its context stack
        if not self._to_the_end:
            self.release()


class Runtime:
    """The devices of this process, and the one in use; `RUNTIME` below is the only instance.

    A lock is held while a device is chosen, started or left; state of a thread is in `_Here`.
    """

    def __init__(self) -> None:
        self._lock = forks.renewed(threading.RLock())
        self._here = _Here()
        self._device: Device | None = None
        self._parents: Device | None = None  # in a forked process: the device of its parent, which it may not use
        self._chosen = 0
        self._failure = ""  # why no GPU can be used, once that is known
        self._guards_forks = False

    # -- which device ----------------------------------------------------------------------------------------------

    def current(self) -> Device:
        """The device in use, made current in this thread. Raises DeviceError where there is none."""
        device = self._device
        if device is None:
            device = self._start()
        held = self._here.current
        if held is None or held.device is not device:
            if held is not None:
                held.release()
            self._here.current = _Current(device)
        return device

    def _start(self) -> Device:
        """The chosen device, started by the first thread that needs it."""
        with self._lock:
            if self._device is None:
                driver = self._initialise()
                _check_index(driver, self._chosen)
                self._device = Device(driver, self._chosen)
                atexit.register(self._leave)
            return self._device

    def _initialise(self) -> Any:
        """Import and start PyCUDA's driver once; raises DeviceError with the reason when that fails."""
        if self._failure:
            raise DeviceError(self._failure)
        try:
            import pycuda.driver as driver
        except ImportError as error:
            installed = "pycuda" != getattr(error, "name", "")
            self._failure = f"no GPU can be used: the CUDA driver cannot be loaded ({error})" if installed else _MISSING
            raise DeviceError(self._failure) from error
        try:
            driver.init()
            self._guard_forks()
            count = driver.Device.count()
        except driver.Error as error:
            self._failure = f"no GPU can be used: the CUDA driver reports {error}"
            raise DeviceError(self._failure) from error
        if count == 0:
            self._failure = "no GPU can be used: the CUDA driver finds no device"
            raise DeviceError(self._failure)
        return driver

    def require(self, index: int) -> None:
        """Choose GPU ``index`` for all that follows; raises DeviceError, naming the reason, when it cannot be used.

        Memory of another device must not be used afterwards.
        """
        with self._lock:
            if self._device is not None and self._device.index == index:
                return
            _check_index(self._initialise(), index)
            if self._device is not None:
                self._leave()
            self._chosen = index
        self.current()

    def check(self, index: int) -> None:
        """Raise DeviceError, naming the reason, if there is no GPU ``index``; no device is chosen or started."""
        with self._lock:
            _check_index(self._initialise(), index)

    def available(self) -> bool:
        """Whether a GPU can be used here."""
        return not self.reason_unavailable()

    def reason_unavailable(self) -> str:
        """Why no GPU can be used, in a sentence; '' when one can."""
        try:
            self.current()
        except DeviceError as error:
            return str(error)
        return ""

    def driver_version(self) -> int:
        """The CUDA version that the driver is made for (12040: 12.4); 0 as long as no device is in use."""
        device = self._device
        return device.driver.get_driver_version() if device is not None else 0

    def device_count(self) -> int:
        """How many GPUs there are; 0 where none can be used."""
        try:
            with self._lock:
                return self._initialise().Device.count()
        except DeviceError:
            return 0

    # -- the end of a process, and forks ---------------------------------------------------------------------------

    def _leave(self) -> None:
        """Free the objects of the context and leave it: at exit, and when another device is chosen."""
        forked = self._device is None
        device, self._device = self._device or self._parents, None
        if device is None:
            return
        try:
            device.context.synchronize()
        except device.driver.Error:
            pass  # a context that has failed is left as well
        for connection in () if forked else tuple(device.connections):
            connection.close()
        if "pool" in device.cache:
            pool = device.cache["pool"]
            pool.free_held()
            pool.allocate(1)  # with a block held, buffers can be freed into it without a context
        device.cache.clear()
        if self._here.current is not None:
            self._here.current.release()

    def _guard_forks(self) -> None:
        """Let processes that are forked from now on report that they have no GPU."""
        if not self._guards_forks and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._lose)
            self._guards_forks = True

    def _lose(self) -> None:
        """In a forked process: refuse the GPU, as CUDA does not work there and memory on it is the parent's."""
        self._failure = (
            "no GPU can be used in a process that was forked from one which has used a GPU: start processes by spawn "
            "or forkserver, or fork before the first use of the GPU"
        )
        self._parents, self._device = self._device or self._parents, None

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Allow memory to be freed in this block: the garbage collector may run in a thread without the context."""
        device = self._device
        if device is None or self._here.current is not None:
            yield
            return
        device.context.push()
        try:
            yield
        finally:
            device.context.pop()

    # -- streams ---------------------------------------------------------------------------------------------------

    def stream(self) -> Any:
        """The stream on which this thread's work is queued (a pycuda.driver.Stream).

        It is the computing stream, or in `recording` the one that is captured.
        """
        device = self.current()
        return self._here.recorded or device.compute

    @contextlib.contextmanager
    def recording(self) -> Iterator[Any]:
        """Queue this thread's work on the stream for captures, and yield that stream; one thread at a time."""
        device, here = self.current(), self._here
        with device.lock:
            here.recorded, before = device.recorded, here.recorded
            try:
                yield device.recorded
            finally:
                here.recorded = before

    def copy_stream(self) -> Any:
        """The stream for copies that overlap with computing; order it against ``stream()`` with events."""
        return self.current().copy

    def synchronize(self) -> None:
        """Wait until the device has done all its work. Raises DeviceError when a kernel failed."""
        device = self.current()
        try:
            with device.lock:  # CUDA forbids to wait for a context in which a stream is captured
                device.context.synchronize()
        except device.driver.Error as error:
            raise DeviceError(f"GPU {device.index} ({device.name}) failed: {error}") from error

    def event(self) -> Any:
        """A new event: ``e.record(stream)``, ``stream.wait_for_event(e)``, ``e.time_since(earlier)`` (milliseconds)."""
        return self.current().driver.Event()


def _check_index(driver: Any, index: int) -> None:
    count = driver.Device.count()
    if not 0 <= index < count:
        raise DeviceError(f"there is no GPU {index}: this machine has {count}, numbered from 0")


RUNTIME = Runtime()
current = RUNTIME.current
require = RUNTIME.require
check = RUNTIME.check
available = RUNTIME.available
reason_unavailable = RUNTIME.reason_unavailable
driver_version = RUNTIME.driver_version
device_count = RUNTIME.device_count
entered = RUNTIME.entered
stream = RUNTIME.stream
recording = RUNTIME.recording
copy_stream = RUNTIME.copy_stream
synchronize = RUNTIME.synchronize
event = RUNTIME.event


# ---- arithmetic ----

MATHS = ("float32", "tf32", "bf16")
_TENSOR_CORES = 80  # sm_80 is the first that multiplies TF32 and bfloat16


class _Arithmetic:
    math = PerThread("float32")


_arithmetic = _Arithmetic()


def set_math(math: str) -> None:
    """Choose how this thread computes products of float32 matrices, and so convolutions, from now on.

    math: "float32", as in Caffe (the default), or how far tensor cores may round each factor, on devices from sm_80 on;
        they add in float32. "tf32": to 10 bits of fraction, a relative error of up to 5e-4. "bf16": to 7 bits, up to
        4e-3; nets that are built from now on keep blobs between layers of engine TENSOR in bfloat16. Parameters, their
        updates and losses are float32 in any case.

    Raises UsageError for anything else.
    """
    if math not in MATHS:
        raise UsageError(f'set_math: expected "float32", "tf32" or "bf16", got {math!r}')
    _arithmetic.math = math


def math() -> str:
    """This thread's setting, "float32", "tf32" or "bf16"."""
    return _arithmetic.math


def allows_tf32() -> bool:
    """Whether factors may be rounded to TF32, or further, for tensor cores."""
    return _arithmetic.math != "float32"


def has_tensor_cores() -> bool:
    """Whether the device multiplies TF32 and bfloat16."""
    return int(current().arch[3:]) >= _TENSOR_CORES


def uses_tensor_cores() -> bool:
    """Whether products of float32 matrices are computed by tensor cores: the math mode and the device allow it."""
    return allows_tf32() and has_tensor_cores()
