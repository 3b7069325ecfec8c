"""A pass over a net, run again as the list of calls of an engine that it consisted of.

Between two primitives a layer's code finds the shapes, layouts and memory for the next one.  They are the same in each
pass until a parameter is written to or a blob is reshaped; but after a convolution neither the code nor its data are in
the processor's cache, so that it takes several times as long as in a loop of its own.  Therefore a pass is recorded
once, and its calls are repeated: they compute the same from what the inputs hold then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from minicaffe.core.blob import Blob
from minicaffe.core.memory import Memory
from minicaffe.core.places import Place, observed


class Replay:
    """The calls of one pass, which begins with inputs in the state that they have now.

    blobs: all of the net.  sources: those that the pass reads and does not write.
    The owner drops it when a parameter is written to, or a blob gets or loses a buffer.
    """

    def __init__(self, blobs: Iterable[Blob], sources: Iterable[Memory]) -> None:
        self._blobs = list(blobs)
        self._signatures = [blob.signature for blob in self._blobs]
        self._sources = [(memory, memory.fresh) for memory in sources]
        self._calls: list[Callable[[], None]] = []
        self._results: list[tuple[Memory, int]] = []
        self.complete = False  #: whether the calls are the whole pass

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record the pass that runs inside the `with` block."""
        before, observed.observer = observed.observer, self
        self.complete = True
        try:
            yield
        finally:
            observed.observer = before
        self.complete &= self._signatures == [blob.signature for blob in self._blobs]
        sources = {memory for memory, _ in self._sources}
        memories = dict.fromkeys(blob.data_memory for blob in self._blobs)
        self._results = [(memory, memory.fresh) for memory in memories if memory not in sources]

    @property
    def current(self) -> bool:
        """Whether the next pass would consist of the same calls: shapes and memory are the same, inputs as fresh."""
        return all(memory.fresh & fresh == fresh for memory, fresh in self._sources) and self._signatures == [
            blob.signature for blob in self._blobs
        ]

    def run(self) -> None:
        """Repeat the calls; the memories are then as the pass has left them."""
        for call in self._calls:
            call()
        for memory, fresh in self._results:
            memory.replayed(fresh)

    # -- called while the pass is recorded, see `Observer` ---------------------------------------------------------

    def ran(self, call: Callable[[], None]) -> None:
        """Record a call."""
        self._calls.append(call)

    def kept(self) -> None:
        """Values are kept: the next pass will write to other memory than this one."""
        self.complete = False

    def used_on_host(self, memory: Memory) -> None:
        """Nothing: where layers compute on the host, the pass is not recorded (`Layer.replayable`)."""

    def reads(self, memory: Memory, place: Place) -> bool:
        """Nothing: the calls refer to the memory that they read."""
        return False

    def wrote(self, memory: Memory, place: Place) -> None:
        """Nothing, as for reads."""

    def before_replay(self, action: Callable[[], None]) -> None:
        """Nothing: marks that the pass leaves in layers are still there."""
