"""A step of many kernels, captured once into a CUDA graph and replayed with one launch.

PyCUDA has no graphs; NVIDIA's cuda-bindings has, and works on PyCUDA's streams in the same context. While a stream is
captured its work is recorded instead of done, so what a step may not do is wait, allocate, or copy from the host:
numbers that change from step to step must lie in device memory. Python code of the step does not run in a replay; what
of it must happen each time is left with ``before_replay``. ``MINICAFFE_GRAPH=0`` runs all steps plainly.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from minicaffe.cuda import context
from minicaffe.errors import DeviceError
from minicaffe.memory import GPU, Memory

_recording: CapturedStep | None = None


class NotCapturable(DeviceError):
    """A step does something that a graph cannot hold; says what."""


def capturing() -> bool:
    """Whether a step is being captured: what is queued now is recorded, not done."""
    return _recording is not None


def forbid(reason: str) -> None:
    """For code that a graph cannot hold: raises NotCapturable while a step is captured, else does nothing."""
    if _recording is not None:
        raise NotCapturable(reason)


def before_replay(action: Callable[[], None]) -> None:
    """Have `action` called before each replay of the step that is being captured; nothing when none is."""
    if _recording is not None:
        _recording.actions.append(action)


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
        self.actions: list[Callable[[], None]] = []
        self.reads: dict[int, Memory] = {}
        self.writes: dict[int, Memory] = {}
        self._report = report or (lambda line: print(line, file=sys.stderr))
        self._warm = False
        self._plain = False
        self._graph: Any = None
        self._thread = 0
        if os.environ.get("MINICAFFE_GRAPH") == "0":
            obstacle = obstacle or "MINICAFFE_GRAPH is 0"
        if obstacle:
            self._give_up(obstacle)

    @property
    def captured(self) -> bool:
        """Whether calls are replays by now."""
        return self._graph is not None

    def __call__(self) -> None:
        """Do one step."""
        if self._plain:
            self.work()
            return
        if not self._warm:
            self._watched(self.work)
            self._warm = True
            return
        if self._graph is None:
            try:
                self._capture()
            except DeviceError as error:
                self._give_up(str(error))
                self.work()
                return
        self._replay()

    def invalidate(self) -> None:
        """Forget the graph: memory or shapes have changed. The next call is plain, the one after captures anew."""
        if self._graph is not None:
            _call("cuGraphExecDestroy", self._graph)
        self._graph, self._warm = None, False

    def _give_up(self, reason: str) -> None:
        self._plain = True
        self._report(f"The step runs without a CUDA graph: {reason}")

    def _capture(self) -> None:
        """Record `work`. What it does on the host (counters of random streams) happens in the replay that follows."""
        global _recording
        driver = _driver()
        device = context.current()
        stream = int(device.compute.handle)
        device.compute.synchronize()
        for memory in self.reads.values():
            memory.gpu()  # what the host has written since the first call is copied now, not in the graph
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        collecting = gc.isenabled()
        gc.disable()  # what it might free, a capture may forbid to free
        _call("cuStreamBeginCapture", stream, mode)
        self.actions, _recording = [], self
        failure: Exception | None = None
        try:
            self._watched(self.work)
        except DeviceError as error:
            failure = error
        except device.driver.Error as error:
            failure = NotCapturable(f"it does what cannot be captured ({error})")
            failure.__cause__ = error
        finally:
            _recording = None
            graph = self._end(stream, failure)
            if collecting:
                gc.enable()
        if failure is not None:
            raise failure
        self._graph = _call("cuGraphInstantiate", graph, 0)
        _call("cuGraphDestroy", graph)

    def _watched(self, work: Callable[[], Any]) -> None:
        """Do the work and note which blobs it reads and writes on the device."""
        self.reads, self.writes, self._thread = {}, {}, threading.get_ident()
        Memory.watcher = self
        try:
            work()
        finally:
            Memory.watcher = None

    @staticmethod
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

    def _replay(self) -> None:
        for action in self.actions:
            action()
        for memory in self.reads.values():
            memory.gpu()  # somebody may have written it on the host since
        _call("cuGraphLaunch", self._graph, int(context.current().compute.handle))
        for memory in self.writes.values():
            memory.fresh = GPU

    # Memory tells these while a step is captured; what other threads do (prefetching) is no part of the step.

    def read_on_gpu(self, memory: Memory) -> None:
        if threading.get_ident() == self._thread:
            self.reads[id(memory)] = memory

    def wrote_on_gpu(self, memory: Memory) -> None:
        if threading.get_ident() == self._thread:
            self.writes[id(memory)] = memory

    def used_on_host(self, memory: Memory) -> None:
        if self is _recording and threading.get_ident() == self._thread:
            raise NotCapturable("a layer, or a callback, uses a blob on the host")


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
