"""Capture of a step of many kernels into a CUDA graph, and replay of the graph with one launch.

PyCUDA has no graphs; NVIDIA's cuda-bindings has them, and works on PyCUDA's streams in the same context. While a stream
is captured, its work is recorded instead of executed. Therefore a captured step must not synchronize, allocate, or copy
from the host, and values that change from step to step must be in device memory. Python code of the step does not run
during a replay; actions that must run each time are registered with ``before_replay``. ``MINICAFFE_GRAPH=0`` disables
capture: all steps run without a graph.

A graph contains addresses. Therefore a captured step holds references to all buffers used while it was recorded,
including those that a layer has replaced since, so that the pool does not reuse memory that the graph may write.
Several threads may capture and compute at the same time: a recording contains the work of one thread.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from minicaffe.core.memory import Memory
from minicaffe.core.places import Place, observed
from minicaffe.cuda import channels_last, context
from minicaffe.cuda.memory import GPU, DeviceBuffer
from minicaffe.errors import DeviceError
from minicaffe.text import printable


class NotCapturable(DeviceError):
    """Raised for an operation that cannot be captured in a CUDA graph; the message names it."""


def capturing() -> bool:
    """Whether this thread is capturing a step: work that it queues is recorded, not executed."""
    return observed.observer is not None and observed.observer.recording


def forbid(reason: str) -> None:
    """Raise NotCapturable, with `reason` as its message, if this thread is capturing a step."""
    if capturing():
        raise NotCapturable(reason)


def before_replay(action: Callable[[], None]) -> None:
    """Register a callback to run before each replay of the step being captured; no-op if none is being captured."""
    if observed.observer is not None:
        observed.observer.before_replay(action)


def calls_before(owner: object) -> int:
    """Return how often this has been called for `owner` in the run of a step; 0 outside of one.

    What the replays of a step prepare on the host is prepared for all of its calls before the first of them runs.
    """
    return observed.observer.calls_before(owner) if isinstance(observed.observer, Recording) else 0


class Recording:
    """The memory read and written, device buffers, and `before_replay` actions of one run of a step.

    recording: True if the run is captured, False if it is executed.
    uploaded: for a captured run, the memory that has been copied to the device before it.
    """

    def __init__(self, recording: bool, uploaded: Iterable[Memory] = ()) -> None:
        self.recording = recording
        self.uploaded = set(map(id, uploaded))
        self.actions: list[Callable[[], None]] = []
        self.read: dict[int, Memory] = {}
        self.written: dict[int, Memory] = {}
        self.buffers: dict[int, DeviceBuffer] = {}
        self._calls: Counter[int] = Counter()

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Record what this thread uses inside the `with` block."""
        before, observed.observer = observed.observer, self
        try:
            yield
        finally:
            observed.observer = before

    # Callbacks of Memory, DeviceBuffer and fused groups.

    def reads(self, memory: Memory, place: Place) -> bool:
        """Record a read; return True if the device copy is up to date although a script holds a view of the host's."""
        if id(memory) in self.written:  # of what the step itself has computed
            return False
        self.read[id(memory)] = memory
        return id(memory) in self.uploaded

    def wrote(self, memory: Memory, place: Place) -> None:
        """Record a write."""
        self.written[id(memory)] = memory

    def used_buffer(self, buffer: DeviceBuffer) -> None:
        """Record the use of a device buffer's address."""
        self.buffers[id(buffer)] = buffer

    def before_replay(self, action: Callable[[], None]) -> None:
        """During a capture, register a callback to run before each replay."""
        if self.recording:
            self.actions.append(action)

    def calls_before(self, owner: object) -> int:
        """Return how often this has been called for `owner`."""
        self._calls[id(owner)] += 1
        return self._calls[id(owner)] - 1

    def used_on_host(self, memory: Memory) -> None:
        """Raise NotCapturable during a capture."""
        if self.recording:
            raise NotCapturable("a layer, or a callback, uses a blob on the host")

    def ran(self, call: Callable[[], None]) -> None:
        """Do nothing: a layer that computes on the host has used a blob there."""

    def kept(self) -> None:
        """Do nothing, as in `ran`."""

    def upload(self) -> None:
        """Copy the recorded memory whose host copy is newer to the device."""
        for memory in self.read.values():
            memory.read(GPU)

    def forget_conversions(self, read: bool = False) -> None:
        """Let memory that the step writes to, or has `read`, too, be converted again when it is read next."""
        for memory in (*self.written.values(), *(self.read.values() if read else ())):
            channels_last.forget_conversions(memory)


class _Graph:
    """An executable CUDA graph, with the Recording that keeps the buffers used by it alive."""

    def __init__(self, recording: Recording, graph: Any) -> None:
        self._recording = recording
        self._marks = [channels_last.Marks(memory) for memory in recording.written.values()]
        self._copies = [(memory, dict(memory.copies)) for memory in {**recording.read, **recording.written}.values()]
        self._handle = _call("cuGraphInstantiate", graph, 0)
        weakref.finalize(self, _call, "cuGraphExecDestroy", self._handle).atexit = False
        _call("cuGraphDestroy", graph)

    @property
    def in_place(self) -> bool:
        """Whether all blobs have the device memory that the graph uses."""
        return all([memory.copies == copies for memory, copies in self._copies])

    def replay(self) -> None:
        """Run the registered actions, upload host values, launch the graph, and mark its results as newest."""
        for action in self._recording.actions:
            action()
        self._recording.upload()
        with context.current().lock:  # the graph uses the device's scratch memory
            _call("cuGraphLaunch", self._handle, int(context.stream().handle))
        for marks in self._marks:
            marks.restore()


class CapturedStep:
    """A callable that runs `work`, and from the second call on replays it as a CUDA graph.

    The first call runs `work` directly, so that kernels are compiled and memory is allocated and copied to the device;
    the second captures it and replays the graph; later calls are replays. If `work` cannot be captured, the reason is
    reported once and all calls run it directly. The results are the same in both cases.

    work: callable that runs one step on the compute stream, always the same kernels on the same memory.
    obstacle: a reason why `work` cannot be captured, such as a Python layer; '' (default) if none is known.
    report: callable that logs a line; by default it is printed to stderr.
    agree: callable that is given a reason against a graph, '' for none, once the step is set up and after each capture,
        and returns the one that counts (`minicaffe.cuda.accord`); by default it is the same.
    """

    def __init__(
        self,
        work: Callable[[], Any],
        obstacle: str = "",
        report: Callable[[str], None] | None = None,
        agree: Callable[[str], str] = str,
    ) -> None:
        self.work, self._agree = work, agree
        self._report = report or (lambda line: print(printable(line), file=sys.stderr))
        self._warm: Recording | None = None
        self._plain = False
        self._graph: _Graph | None = None
        if os.environ.get("MINICAFFE_GRAPH") == "0":
            obstacle = obstacle or "MINICAFFE_GRAPH is 0"
        if obstacle := agree(obstacle):
            self._give_up(obstacle)

    @property
    def captured(self) -> bool:
        """Whether the step has been captured, so that calls are replays."""
        return self._graph is not None

    @property
    def in_place(self) -> bool:
        """Whether all blobs have the device memory that the graph uses, if there is one."""
        return self._graph is None or self._graph.in_place

    @property
    def plain(self) -> bool:
        """Whether the step cannot be captured, so that all calls run it directly."""
        return self._plain

    def __call__(self) -> None:
        """Run or replay one step."""
        if self._plain:
            self.work()
            return
        if self._graph is not None:
            self._graph.replay()
            return
        if self._warm is None:
            warm = Recording(False)
            with warm.watch():
                self.work()
            self._warm = warm
            return
        graph = self._captured_by_all(self._warm)
        if graph is None:
            self.work()
        else:
            self._graph = graph
            graph.replay()

    def invalidate(self) -> None:
        """Discard the graph, after memory or shapes have changed; the second call from now captures a new one."""
        self._graph = self._warm = None

    def _captured_by_all(self, warm: Recording) -> _Graph | None:
        """Capture `work`; if that fails, or is not agreed to, report the reason and return None."""
        recording, reason = Recording(True, warm.read.values()), ""
        graph: _Graph | None = None
        try:
            try:
                graph = self._capture(warm, recording)
            except DeviceError as error:
                reason = str(error)
            if reason := self._agree(reason):
                graph = None
                self._give_up(reason)
        finally:
            self._warm = None
            if graph is None:
                recording.forget_conversions(read=True)  # they have been recorded, but not executed
        return graph

    def _give_up(self, reason: str) -> None:
        self._plain = True
        self._report(f"The step runs without a CUDA graph: {reason}")

    def _capture(self, warm: Recording, recording: Recording) -> _Graph:
        """Capture `work`; its registered actions, such as advancing random streams, run in the replay that follows."""
        warm.forget_conversions()  # the capture includes what each step makes of its own results
        warm.upload()  # values written on the host since the first call must not be copied inside the graph
        with context.recording() as stream, _without_collection():
            graph = self._record(recording, int(stream.handle))
        return _Graph(recording, graph)

    def _record(self, recording: Recording, stream: int) -> Any:
        """Return the captured graph of `work`; raise DeviceError if it cannot be captured."""
        mode = _driver().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        _call("cuStreamBeginCapture", stream, mode)
        failure: Exception | None = None
        try:
            with recording.watch():
                self.work()
        except DeviceError as error:
            failure = error
        except context.current().driver.Error as error:
            failure = NotCapturable(f"it does what cannot be captured ({error})")
            failure.__cause__ = error
        finally:
            graph = _end(stream, failure)
        if failure is not None:
            raise failure
        return graph


def _end(stream: int, failure: Exception | None) -> Any:
    """End the capture and return its graph; after an error, destroy the graph and return None."""
    try:
        graph = _call("cuStreamEndCapture", stream)
    except DeviceError:
        if failure is None and sys.exc_info()[1] is None:
            raise
        return None
    if failure is not None and graph is not None:
        _call("cuGraphDestroy", graph)
    return graph


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Disable garbage collection: it might free device memory, which can be forbidden during a capture."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _driver() -> Any:
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise NotCapturable(f"cuda-bindings is not installed ({error})") from error
    return driver


def _call(function: str, *arguments: Any) -> Any:
    """Call a function of the CUDA driver through cuda-bindings; raise DeviceError with the name of its error code."""
    result, *values = getattr(_driver(), function)(*arguments)
    if int(result):
        raise DeviceError(f"{function} failed: {result.name}")
    return values[0] if values else None
