"""A step of many kernels, captured once into a CUDA graph and replayed with one launch.

PyCUDA has no graphs; NVIDIA's cuda-bindings has, and works on PyCUDA's streams in the same context. While a stream is
captured its work is recorded instead of done, so what a step may not do is wait, allocate, or copy from the host:
numbers that change from step to step must lie in device memory. Python code of the step does not run in a replay; what
of it must happen each time is left with ``before_replay``. ``MINICAFFE_GRAPH=0`` runs all steps plainly.

A graph holds addresses. So a captured step keeps all memory that it was given while it was recorded, also what a layer
has replaced since: that memory is not handed out again while the graph may write it. Threads capture and compute beside
each other: a recording holds the work of one thread.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from minicaffe.core.memory import Memory, Place, observed
from minicaffe.cuda import context
from minicaffe.cuda.memory import GPU, DeviceBuffer
from minicaffe.errors import DeviceError


class NotCapturable(DeviceError):
    """A step does something that a graph cannot hold; says what."""


def capturing() -> bool:
    """Whether this thread captures a step: what it queues now is recorded, not done."""
    return observed.observer is not None and observed.observer.recording


def forbid(reason: str) -> None:
    """For code that a graph cannot hold: raises NotCapturable while a step is captured, else does nothing."""
    if capturing():
        raise NotCapturable(reason)


def before_replay(action: Callable[[], None]) -> None:
    """Have `action` called before each replay of the step that is being captured; nothing when none is."""
    if observed.observer is not None:
        observed.observer.before_replay(action)


class Recording:
    """What one run of a step used: memory that it read and wrote, device buffers, what it left with `before_replay`.

    recording: whether the run is captured, rather than done.
    uploaded: in a captured run, memory that is copied to the device before the run, if the host's copy is newer.
    """

    def __init__(self, recording: bool, uploaded: Iterable[Memory] = ()) -> None:
        self.recording = recording
        self.uploaded = set(map(id, uploaded))
        self.actions: list[Callable[[], None]] = []
        self.read: dict[int, Memory] = {}
        self.written: dict[int, Memory] = {}
        self.buffers: dict[int, DeviceBuffer] = {}

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Note what this thread uses inside."""
        before, observed.observer = observed.observer, self
        try:
            yield
        finally:
            observed.observer = before

    # Memory, DeviceBuffer and fused groups call these.

    def reads(self, memory: Memory, place: Place) -> bool:
        """Whether the host's copy, which a script holds a view of, has been copied to the device before this run."""
        self.read[id(memory)] = memory
        return id(memory) in self.uploaded

    def wrote(self, memory: Memory, place: Place) -> None:
        self.written[id(memory)] = memory

    def used_buffer(self, buffer: DeviceBuffer) -> None:
        self.buffers[id(buffer)] = buffer

    def before_replay(self, action: Callable[[], None]) -> None:
        if self.recording:
            self.actions.append(action)

    def used_on_host(self, memory: Memory) -> None:
        if self.recording:
            raise NotCapturable("a layer, or a callback, uses a blob on the host")

    def upload(self) -> None:
        """Copy to the device what has been written on the host since."""
        for memory in self.read.values():
            memory.read(GPU)


class _Graph:
    """An executable graph, and what was used while it was recorded, which lives as long as the graph."""

    def __init__(self, recording: Recording, graph: Any) -> None:
        self._recording = recording
        self._handle = _call("cuGraphInstantiate", graph, 0)
        weakref.finalize(self, _call, "cuGraphExecDestroy", self._handle).atexit = False
        _call("cuGraphDestroy", graph)

    def replay(self) -> None:
        for action in self._recording.actions:
            action()
        self._recording.upload()
        with context.current().lock:  # the graph uses the device's scratch memory
            _call("cuGraphLaunch", self._handle, int(context.stream().handle))
        for memory in self._recording.written.values():
            memory.wrote(GPU)


class CapturedStep:
    """A callable that does `work`: plainly at first, then as the replay of a graph.

    The first call runs `work` as it is, so that everything is compiled, allocated and copied to the device; the second
    captures it; from then on calls are replays. Where it cannot be captured, one line says why and all calls are plain:
    the numbers are the same either way.

    work: does one step on the computing stream, always the same kernels on the same memory.
    obstacle: a reason, known beforehand, why `work` cannot be captured (a Python layer, say); '' for none.
    report: called with the line to log.
    """

    def __init__(
        self, work: Callable[[], Any], obstacle: str = "", report: Callable[[str], None] | None = None
    ) -> None:
        self.work = work
        self._report = report or (lambda line: print(line, file=sys.stderr))
        self._warm: Recording | None = None
        self._plain = False
        self._graph: _Graph | None = None
        if os.environ.get("MINICAFFE_GRAPH") == "0":
            obstacle = obstacle or "MINICAFFE_GRAPH is 0"
        if obstacle:
            self._give_up(obstacle)

    @property
    def captured(self) -> bool:
        """Whether calls are replays by now."""
        return self._graph is not None

    @property
    def plain(self) -> bool:
        """Whether it cannot be captured, so that all calls are plain."""
        return self._plain

    def __call__(self) -> None:
        """Do one step."""
        if self._plain:
            self.work()
            return
        if self._warm is None and self._graph is None:
            warm = Recording(False)
            with warm.watch():
                self.work()
            self._warm = warm
            return
        if self._graph is None:
            try:
                self._graph = self._capture(self._warm)
            except DeviceError as error:
                self._give_up(str(error))
                self.work()
                return
            finally:
                self._warm = None
        self._graph.replay()

    def invalidate(self) -> None:
        """Forget the graph: memory or shapes have changed. The next call is plain, the one after captures anew."""
        self._graph = self._warm = None

    def _give_up(self, reason: str) -> None:
        self._plain = True
        self._report(f"The step runs without a CUDA graph: {reason}")

    def _capture(self, warm: Recording) -> _Graph:
        """Record `work`. What it does on the host (counters of random streams) happens in the replay that follows."""
        warm.upload()  # what the host has written since the first call is copied now, not in the graph
        recording = Recording(True, warm.read.values())
        with context.recording() as stream, _without_collection():
            graph = self._record(recording, int(stream.handle))
        return _Graph(recording, graph)

    def _record(self, recording: Recording, stream: int) -> Any:
        """The graph of `work`; raises DeviceError where it cannot be captured."""
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
    """End the capture, however it went; a capture that a mistake has broken has no graph to give back."""
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
    """Leave garbage where it is: what a collection might free, a capture may forbid to free."""
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
    """Call a function of the CUDA driver through cuda-bindings; raises DeviceError with the error's name."""
    result, *values = getattr(_driver(), function)(*arguments)
    if int(result):
        raise DeviceError(f"{function} failed: {result.name}")
    return values[0] if values else None
