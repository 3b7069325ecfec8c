"""Blobs of a net that share buffers, and what a script finds in one whose buffer another blob has taken.

    TEST    the data of tops share buffers.  A blob that is read after a pass is computed again, and then has a buffer of
            its own (`Sharing.RECOMPUTE`, the default); or reading it is an error (`Sharing.FORGET`).
    TRAIN   nothing is shared by default.  With `Sharing.FORGET` the diffs of tops are.

Never shared are net inputs and other tops of layers without bottoms, net outputs, losses, parameters, and blobs that a
script holds a view of or has read before.  A net shares in passes over all its layers on the host; the first partial
pass, pass on a device, callback or (in TEST) backward pass ends it, and every blob has its own values again.

Computing again needs the inputs and the parameters of the pass.  Inputs are copied before a script writes to them, and
before a parameter is written to, all blobs are computed again and the sharing ends.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minicaffe.core.engine import Engine
from minicaffe.core.memory import HOST, Memory
from minicaffe.core.planner import Interval, Slabs, backward_intervals, forward_intervals
from minicaffe.core.settings import settings
from minicaffe.errors import BlobError
from minicaffe.proto.caffe_pb2 import TEST

if TYPE_CHECKING:
    from minicaffe.core.blob import Blob
    from minicaffe.core.layer import Layer
    from minicaffe.core.net import Net

Groups = Mapping[int, Any]  # fused layers by the index of their first layer
#: after so many blobs have been computed again because they were read, the sharing ends
_MOST_READ = 3


class Sharing(enum.Enum):
    """Whether blobs of a net share buffers, and what reading one gives whose buffer another blob has taken."""

    NEVER = "no blobs share buffers"
    RECOMPUTE = "data in TEST: its values, computed again"
    FORGET = "data in TEST, diffs in TRAIN: a BlobError"


def plan_for(net: Net, sharing: Sharing) -> Plan | None:
    """The plan of a net; None where nothing is to be shared."""
    if sharing is Sharing.NEVER:
        return None
    if net.phase != TEST:
        return DiffPlan(net) if sharing is Sharing.FORGET else None
    if sharing is Sharing.FORGET:
        return DataPlan(net)
    return RecomputingPlan(net) if all(map(_repeatable, net.layers)) else None


def _repeatable(layer: Layer) -> bool:
    own = type(layer).__module__.startswith("minicaffe.layers.")
    return layer.phase == TEST and (own if layer.repeatable is None else layer.repeatable)


class Plan:
    """Lets memories of one net share buffers; each of them has it as its `plan`.

    During a pass it gives out buffers.  Between passes a memory calls it before it is used.
    """

    def __init__(self, net: Net) -> None:
        self._net = weakref.ref(net)
        self.running = False
        self.slabs: Slabs | None = None
        self._groups: Groups = {}
        self._memories: list[Memory] = []  # of all blobs when the slabs were planned
        self._read: weakref.WeakSet[Blob] = weakref.WeakSet()  # blobs with buffers of their own

    @property
    def net(self) -> Net:
        net = self._net()
        if net is None:
            raise BlobError("the net of this blob is gone, and with it the values: keep the net, or copy the values")
        return net

    # -- passes ----------------------------------------------------------------------------------------------------

    def forward(self, start: int, end: int, groups: Groups) -> None:
        """Run layers start to end forward."""
        self.net._forward_layers(start, end, groups)

    def backward(self, start: int, end: int, groups: Groups) -> None:
        """Run layers start down to end backward."""
        self.net._backward_layers(start, end, groups)

    def reshape(self, run: Callable[[], None]) -> None:
        """Reshape the net outside of a pass."""
        self.running = True
        try:
            run()
        finally:
            self.running = False

    def _pass(self, run: Callable[[], None], whole: bool, groups: Groups) -> None:
        """Run a pass, in shared buffers if it can be."""
        changed = self.slabs is not None and groups is not self._groups
        if not whole or changed or settings.engine.place is not HOST:
            if self.slabs is not None:
                self.end()
            return run()
        if not self._planned(groups):
            return run()
        self.running, done = True, False
        try:
            run()
            done = True
        finally:
            self.running = False
            self._end_pass(done)

    def _planned(self, groups: Groups) -> bool:
        """Whether the blobs' memories have a plan; one is made if they are others than before."""
        memories = [self._memory(blob) for blob in self.net._blobs]
        if memories != self._memories:
            for memory in self._unplan():
                memory.forget()
            if not self._possible():
                return False
            self._groups, self._memories = groups, memories
            excluded = self._excluded()
            fitting = {m: i for m, i in self._intervals(groups).items() if m.count and m not in excluded}
            slabs = Slabs({m: i for m, i in fitting.items() if m.plan is None and not m.held})
            if slabs.shared:
                self._plan(slabs)
        return self.slabs is not None

    def _possible(self) -> bool:
        """Whether the net can share now."""
        return True

    def _plan(self, slabs: Slabs) -> None:
        """Let memories use these slabs in place of the buffers that they have."""
        self.slabs = slabs
        for memory in slabs.intervals:
            memory.forget()
            memory.plan = self

    def _unplan(self) -> list[Memory]:
        """Take the plan off all memories; return those that shared."""
        memories = list(self.slabs.intervals) if self.slabs is not None else []
        for memory in memories:
            memory.plan = None
        self.slabs, self._memories = None, []
        return memories

    def _end_pass(self, done: bool) -> None:
        """Mark the memories that have lost their values: after a pass that an error has ended, all."""
        for memory in self.slabs.overwritten() if done else self.slabs.intervals:
            memory.fresh = 0

    def end(self) -> None:
        """Share nothing any more; BlobError where values are gone."""
        for memory in self.slabs.intervals:
            self._check_not_lost(memory)
        self._unplan()
        self.net.plan = None

    # -- what to share ---------------------------------------------------------------------------------------------

    def _memory(self, blob: Blob) -> Memory:
        raise NotImplementedError

    def _intervals(self, groups: Groups) -> dict[Memory, Interval]:
        raise NotImplementedError

    def _excluded(self) -> set[Memory]:
        """Memories that do not share."""
        net = self.net
        blobs = [*self._read, *self.sources(), *(net._blob_dict[name] for name in net.outputs)]
        for layer, tops in zip(net.layers, net.tops):
            blobs += [*layer.blobs, *(tops if layer.has_loss or layer.always_reshape else ())]
        return {self._memory(blob) for blob in blobs}

    def sources(self) -> list[Blob]:
        """The tops of layers without bottoms."""
        return [blob for bottoms, tops in zip(self.net.bottoms, self.net.tops) if not bottoms for blob in tops]

    # -- called by memories ----------------------------------------------------------------------------------------

    def room(self, memory: Memory, nbytes: int) -> np.ndarray | None:
        """A buffer for a memory, whatever it holds; None where it is to have one of its own."""
        return self.slabs.room(memory, nbytes) if self.running and self.shares(memory) else None

    def shares(self, memory: Memory) -> bool:
        """Whether the values may be gone after the pass."""
        return self.slabs is not None and memory in self.slabs.intervals

    def used(self, memory: Memory) -> None:
        """A memory is about to be read, or to be written to, perhaps by a script: then it gets buffers of its own."""
        if not self.running and self.shares(memory):
            if self._net() is not None or not memory.fresh:
                self._check_not_lost(memory)
                self._take_out(memory)

    def written(self, memory: Memory) -> None:
        """A memory is about to get new values."""

    def resized(self, memory: Memory) -> None:
        """A blob with this memory is about to get another count."""
        self.used(memory)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _check_not_lost(self, memory: Memory) -> None:
        if not memory.fresh:
            raise BlobError(
                f"net '{self.net.name}': {self.what} of blob '{self._name(memory)}' are gone, another blob has taken "
                "its buffer: call net.share_memory(minicaffe.Sharing.NEVER) before the pass"
            )

    what = "the values"

    def _name(self, memory: Memory) -> str:
        return next((name for name, blob in self.net._blob_dict.items() if self._memory(blob) is memory), "")

    def _take_out(self, memory: Memory) -> None:
        """Give a memory buffers of its own, for good; what values it has it keeps."""
        memory.plan = None
        values = memory.host().copy() if memory.fresh else None
        self._read.update(blob for blob in self.net._blobs if self._memory(blob) is memory)
        self.slabs.leave_out(memory)
        memory.forget()
        if values is not None:
            memory.host_place()[:] = values
            memory.wrote_host()


class DiffPlan(Plan):
    """The diffs of tops in training; their values are gone after the backward pass."""

    what = "the diffs"

    def _memory(self, blob):
        return blob.diff_memory

    def _intervals(self, groups):
        return backward_intervals(self.net, groups)

    def _excluded(self):
        """Also those that code of others is to write."""
        others = (i for i, layer in enumerate(self.net.layers) if not _writes_diffs(layer))
        return super()._excluded().union(blob.diff_memory for i in others for blob in self.net.bottoms[i])

    def backward(self, start, end, groups):
        whole = (start, end) == (len(self.net.layers) - 1, 0) and not self.net.observed
        self._pass(lambda: self.net._backward_layers(start, end, groups), whole, groups)


def _writes_diffs(layer: Layer) -> bool:
    return type(layer).__module__.startswith("minicaffe.layers.") and layer.type != "Python"


class DataPlan(Plan):
    """The data of tops in TEST; their values are gone after the forward pass."""

    def __init__(self, net):
        super().__init__(net)
        self._kept_blobs = [layer.kept_blobs for layer in net.layers]

    def _memory(self, blob):
        return blob.data_memory

    def _intervals(self, groups):
        return forward_intervals(self.net, groups)

    def _plan(self, slabs):
        super()._plan(slabs)
        for layer in self.net.layers:  # what only a backward pass needs
            layer.kept_blobs = None

    def _unplan(self):
        for layer, kept in zip(self.net.layers, self._kept_blobs):
            layer.kept_blobs = kept
        return super()._unplan()

    def forward(self, start, end, groups):
        whole = (start, end) == (0, len(self.net.layers) - 1) and not self.net.observed
        self._pass(lambda: self.net._forward_layers(start, end, groups), whole, groups)

    def backward(self, start, end, groups):
        if self.slabs is not None:
            self.end()
        self.net._backward_layers(start, end, groups)


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

    def _end_pass(self, done):
        super()._end_pass(done)
        self._ran = done
        if not done:
            self._recompute_all()

    def end(self):
        if self._ran:  # else no values are defined
            self._recompute_all()
        else:
            self._unplan()
            self.net.plan = None

    def _unplan(self):
        for memory in (*self._sources, *self._parameters):
            memory.plan = None
        return super()._unplan()

    def reshape(self, run):
        self._resized = False
        super().reshape(run)
        if self._resized:
            self._ran = False  # as in any net, the values are undefined

    def _check_not_lost(self, memory):
        if self._ran:
            super()._check_not_lost(memory)

    # -- called by memories ----------------------------------------------------------------------------------------

    def used(self, memory):
        if self.running or not self.shares(memory):
            return
        if memory.fresh or not self._ran:
            super().used(memory)
        elif self._recomputed < _MOST_READ:
            self._recomputed += 1
            self._take_out(memory)
            writers = (i for i, tops in enumerate(self.net.tops) if any(b.data_memory is memory for b in tops))
            self._recompute(max(writers), self._values_of_tops())
            for other in self.slabs.intervals:
                other.fresh = 0
        else:
            self._recompute_all()

    def written(self, memory):
        if self.running or self._net() is None:
            return
        if memory in self._parameters:
            self.end()
        elif memory in self._sources and self._ran and self._inputs is None:
            self._inputs = self._values()

    def resized(self, memory):
        self._resized = True
        self.used(memory)
        self.written(memory)

    # -- computing again -------------------------------------------------------------------------------------------

    def _recompute_all(self) -> None:
        """Share nothing any more, and compute the whole last pass again."""
        others = self._values_of_tops()
        for memory in self._unplan():
            memory.forget()
        self.net.plan = None
        with contextlib.suppress(Exception):  # of a pass that an error has ended before
            self._recompute(len(self.net.layers) - 1, others)

    def _recompute(self, last: int, others: list[_Values]) -> None:
        """Run the layers with bottoms up to layer `last` as in the last pass; the values of `others` stay."""
        now = self._values() if self._inputs is not None else []
        engine, settings.engine = settings.engine, self._engine
        self.running = True
        try:
            with self.net.guard:
                _restore(self._inputs or [])
                for i, end in self._runs(last):
                    self.net._forward_layers(i, end, self._groups)
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
