"""Blobs of a net in TEST whose buffers other blobs have taken, computed again when they are read.

This needs the inputs and the parameters of the last pass.  Inputs are copied before a script writes to them.  Before a
parameter is written to, all blobs are computed again, and the net shares no more.  So a blob always has the values of
the last pass.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from minicaffe.core.engine import Engine
from minicaffe.core.memory import Memory
from minicaffe.core.replay import Replay
from minicaffe.core.settings import settings
from minicaffe.core.sharing import DataPlan, DiffPlan, Plan, Sharing, known
from minicaffe.errors import BlobError
from minicaffe.proto import TEST

if TYPE_CHECKING:
    from minicaffe.core.blob import Blob
    from minicaffe.core.layer import Layer
    from minicaffe.core.net import Net

#: after so many blobs have been computed again because they were read, the sharing ends
_MOST_READ = 3


def plan_for(net: Net, sharing: Sharing) -> Plan | None:
    """The plan of a net; None where nothing is to be shared."""
    if sharing is Sharing.NEVER:
        return None
    if net.phase != TEST:
        return DiffPlan(net) if sharing is Sharing.FORGET else None
    if sharing is Sharing.FORGET:
        return DataPlan(net) if all(map(known, net.layers)) else None
    return RecomputingPlan(net) if all(map(repeatable, net.layers)) else None


def repeatable(layer: Layer) -> bool:
    """Whether forward of the layer, which is set up, gives the same again and changes nothing else."""
    return layer.phase == TEST and (known(layer) if layer.repeatable is None else layer.repeatable)


class RecomputingPlan(DataPlan):
    """The data of tops in TEST; what is read after the pass is computed again."""

    def __init__(self, net):
        super().__init__(net)
        self._engine: Engine = settings.engine
        self._inputs: list[_Values] | None = None  # what the sources held in the last pass, if they may have changed
        self._sources: dict[Memory, Blob] = {}
        self._parameters: set[Memory] = set()
        self._ran = False  # whether lost values can be computed again
        self._resized = False
        self._recomputed = 0
        self._steady = False  # whether a pass has run in the buffers that the blobs have now
        self._replay: Replay | None = None

    # -- passes ----------------------------------------------------------------------------------------------------

    def _possible(self):
        """Whether every write to sources and parameters will be noticed, and no layer overwrites a source."""
        net = self.net
        self._sources = {blob.data_memory: blob for blob in self.sources()}
        self._parameters = {blob.data_memory for layer in net.layers for blob in layer.blobs}
        layers = ((bottoms, tops) for bottoms, tops in zip(net.bottoms, net.tops) if bottoms)
        in_place = {blob.data_memory for bottoms, tops in layers for blob in tops if blob in bottoms}
        unnoticed = any(memory.held or memory.plan is not None for memory in self._parameters)
        return not unnoticed and in_place.isdisjoint(self._sources)

    def _planned(self, groups):
        planned = super()._planned(groups)
        if planned:
            self._engine = settings.engine
            self._inputs = self._values() if any(memory.held for memory in self._sources) else None
        return planned

    def _plan(self, slabs):
        super()._plan(slabs)
        for memory in (*self._sources, *self._parameters):
            memory.plan = self

    def _run(self, run):
        """Run a pass: as the calls that the last one consisted of, if the next one would consist of the same."""
        replay, self._replay = self._replay, None
        if replay is not None and replay.current:
            replay.run()
        elif self._steady and all(layer.replayable for layer in self._layers):
            replay = Replay(self.net.all_blobs, self._sources)
            with replay.recording():
                run()
        else:
            run()
        self._steady = True
        self._replay = replay if replay is not None and replay.complete else None

    def _buffers_change(self) -> None:
        """Forget the calls of the last pass: they are for other buffers or parameters."""
        self._steady, self._replay = False, None

    def _end_pass(self, done):
        super()._end_pass(done)
        ran_before, self._ran = self._ran, done
        if not done:
            memories = list(self.slabs.intervals) if ran_before else []
            with contextlib.suppress(Exception):  # the layer that failed will fail again
                self._recompute_all()
            interrupt(self.net, memories)

    def end(self, overwritten=False):
        if self._ran:
            self._recompute_all()
        else:  # no values are defined
            super().end(overwritten=True)

    def _unplan(self):
        self._buffers_change()
        for memory in (*self._sources, *self._parameters):
            memory.plan = None
        return super()._unplan()

    def _take_out(self, memory):
        self._buffers_change()
        super()._take_out(memory)

    def reshape(self, run):
        self._resized = False
        self._buffers_change()
        super().reshape(run)
        if self._resized:
            self._ran = False  # as in any net, the values are undefined

    def _check_not_lost(self, memory):
        if self._ran:
            super()._check_not_lost(memory)

    # -- called by memories ----------------------------------------------------------------------------------------

    def keeps_one_copy(self, memory):
        """Parameters do: converting is exact, and no other net reads them."""
        return self.running and memory in self._parameters

    def used(self, memory):
        if self.running or not self.shares(memory):
            return
        if memory.fresh or not self._ran:
            super().used(memory)
        elif self._recomputed < _MOST_READ:
            self._recompute_one(memory)
        else:
            self._recompute_all()

    def written(self, memory):
        if self.running:
            return
        if memory in self._parameters:
            self.end()
        elif memory in self._sources and self._ran and self._inputs is None:
            self._inputs = self._values()

    def resized(self, memory):
        self._resized = True
        self._buffers_change()
        self.used(memory)
        self.written(memory)

    # -- computing again -------------------------------------------------------------------------------------------

    def _recompute_one(self, memory: Memory) -> None:
        """Give a memory buffers of its own, and compute its values; all others that share have none after that."""
        with self.net.guard:
            self._recomputed += 1
            self._take_out(memory)
            writers = (i for i, tops in enumerate(self.net.tops) if any(b.data_memory is memory for b in tops))
            self._recompute(max(writers), self._values_of_tops())
            for other in self.slabs.intervals:
                other.fresh = 0

    def _recompute_all(self) -> None:
        """Share nothing any more, and compute the whole last pass again."""
        with self.net.guard:
            others = self._values_of_tops()
            for memory in self._unplan():
                memory.forget()
            self.net.plan = None
            self._recompute(len(self.net.layers) - 1, others)

    def _recompute(self, last: int, others: list[_Values]) -> None:
        """Run the layers with bottoms up to layer `last` as in the last pass; the values of `others` stay."""
        now = self._values() if self._inputs is not None else []
        engine, settings.engine = settings.engine, self._engine
        self.running = True
        try:
            _restore(self._inputs or [])
            with self.net.unobserved():
                for i, end in self._runs(last):
                    self.net.forward_layers(i, end, self._groups)
        finally:
            _restore([*now, *others])
            self.running = False
            settings.engine = engine

    def _runs(self, last: int) -> Iterator[tuple[int, int]]:
        """(first, last) of the layers with bottoms that follow one another, up to layer `last` or its group's end."""
        last = next((group.end for group in self._groups.values() if group.start <= last <= group.end), last)
        for has_bottoms, run in itertools.groupby(range(last + 1), lambda i: bool(self.net.bottoms[i])):
            if has_bottoms:
                layers = list(run)
                yield layers[0], layers[-1]

    def _values(self) -> list[_Values]:
        """What the sources hold."""
        return [_Values.of(blob) for blob in self._sources.values()]

    def _values_of_tops(self) -> list[_Values]:
        """What tops hold that share nothing: a script may have written to them."""
        found = {blob.data_memory: blob for blobs in self.net.tops for blob in blobs}
        own = (blob for memory, blob in found.items() if not self.shares(memory) and memory not in self._sources)
        return [_Values.of(blob) for blob in own if blob.data_memory.fresh]


class InterruptedPlan(Plan):
    """The memories that have no values since an error has ended a pass, until the next whole pass."""

    def __init__(self, net: Net, memories: list[Memory]) -> None:
        super().__init__(net)
        self.active, self._lost = True, memories
        for memory in memories:
            memory.plan = self

    def _unplan(self):
        for memory in self._lost:
            memory.plan = None
        return super()._unplan()

    def _check(self) -> None:
        if any(not memory.fresh for memory in self._lost):
            raise BlobError(f"net '{self.net.name}': an error has ended its last pass: run forward on all layers first")

    def end(self, overwritten=False):
        if not overwritten:
            self._check()
        super().end(overwritten)

    def used(self, memory):
        if not self.running and not memory.fresh:
            self._check()

    def forward(self, start, end, groups):
        self.end(overwritten=(start, end) == (0, len(self.net.layers) - 1))
        try:
            self.net.forward_layers(start, end, groups)
        except BaseException:
            interrupt(self.net, self._lost)
            raise

    def backward(self, start, end, groups):
        self.end()
        self.net.backward_layers(start, end, groups)


def interrupt(net: Net, memories: Iterable[Memory]) -> None:
    """Have reading those of the memories that have no values raise an error until the next whole pass."""
    lost = [memory for memory in memories if not memory.fresh]
    net.plan = InterruptedPlan(net, lost) if lost else None


class _Values(NamedTuple):
    """The shape and the values of a blob at some time."""

    blob: Blob
    signature: tuple
    data: np.ndarray

    @classmethod
    def of(cls, blob: Blob) -> _Values:
        return cls(blob, blob.signature, blob.read_data().copy())


def _restore(values: list[_Values]) -> None:
    for blob, signature, data in values:
        blob.restore(signature)
        blob.data = data
