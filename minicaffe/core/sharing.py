"""Blobs of a net that share buffers, and what a script finds in one whose buffer another blob has taken.

    TEST    the data of tops share buffers.  A blob that is read after a pass is computed again (recompute.py), and then
            has a buffer of its own: `Sharing.RECOMPUTE`, the default.  With `Sharing.FORGET` reading it is an error.
    TRAIN   nothing is shared by default.  With `Sharing.FORGET` the diffs of tops are.

Never shared are net inputs and other tops of layers without bottoms, net outputs, losses, parameters, and blobs that a
script holds a view of or has read before.  A net shares in passes over all its layers on the host.  The first partial
pass, pass on a device, pass with callbacks or (in TEST) backward pass ends it: every blob has its own values again.
"""

from __future__ import annotations

import enum
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from minicaffe.core.memory import Memory
from minicaffe.core.places import HOST
from minicaffe.core.planner import Interval, Slabs, backward_intervals, forward_intervals
from minicaffe.core.settings import settings
from minicaffe.errors import BlobError

if TYPE_CHECKING:
    from minicaffe.core.blob import Blob
    from minicaffe.core.layer import Layer
    from minicaffe.core.net import Net

Groups = Mapping[int, Any]  # fused layers by the index of their first layer


class Sharing(enum.Enum):
    """Whether blobs of a net share buffers, and what reading one gives whose buffer another blob has taken."""

    NEVER = "no blobs share buffers"
    RECOMPUTE = "data in TEST: its values, computed again"
    FORGET = "data in TEST, diffs in TRAIN: a BlobError"


def known(layer: Layer) -> bool:
    """Whether the layer's code is of this package: it keeps no views, and overwrites what it computes."""
    return type(layer).__module__.startswith("minicaffe.layers.") and not layer.keeps_views


class Plan:
    """Lets memories of one net share buffers; each of them has it as its `plan`.

    During a pass it gives out buffers.  Between passes a memory calls it before it is used.
    """

    def __init__(self, net: Net) -> None:
        self._net = weakref.ref(net)
        self._layers = net.layers
        self._candidates = self._sharing_blobs(net)
        self.running = False
        self.slabs = Slabs({})
        self.active = False  # whether memories share
        self._groups: Groups = {}
        self._memories: list[Memory] = []  # of the candidates when the slabs were planned
        self._read: weakref.WeakSet[Blob] = weakref.WeakSet()  # blobs with buffers of their own

    @property
    def net(self) -> Net:
        net = self._net()
        assert net is not None  # it calls `close` before it goes
        return net

    def close(self) -> None:
        """End with the net: blobs that outlive it have values, or raise BlobError."""
        for memory in self._unplan():
            memory.plan = None if memory.fresh else _GONE

    # -- passes ----------------------------------------------------------------------------------------------------

    def forward(self, start: int, end: int, groups: Groups) -> None:
        """Run layers start to end forward."""
        self.net.forward_layers(start, end, groups)

    def backward(self, start: int, end: int, groups: Groups) -> None:
        """Run layers start down to end backward."""
        self.net.backward_layers(start, end, groups)

    def reshape(self, run: Callable[[], None]) -> None:
        """Reshape the net outside of a pass."""
        self.running = True
        try:
            run()
        finally:
            self.running = False

    def _pass(self, run: Callable[[], None], whole: bool, groups: Groups) -> None:
        """Run a pass, in shared buffers if it can be."""
        changed = self.active and groups is not self._groups
        if not whole or changed or self.net.observed or settings.engine.place is not HOST:
            if self.active:
                self.end(overwritten=whole)
            return run()
        if not self._planned(groups):
            return run()
        self.running, done = True, False
        try:
            self._run(run)
            done = True
        finally:
            self.running = False
            self._end_pass(done)

    def _run(self, run: Callable[[], None]) -> None:
        """Run a pass in shared buffers."""
        run()

    def _planned(self, groups: Groups) -> bool:
        """Whether the blobs' memories have a plan; one is made if they are others than before."""
        memories = [self._memory(blob) for blob in self._candidates]
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
        return self.active

    def _possible(self) -> bool:
        """Whether the net can share now."""
        return True

    def _plan(self, slabs: Slabs) -> None:
        """Let memories use these slabs in place of the buffers that they have."""
        self.slabs, self.active = slabs, True
        for memory in slabs.intervals:
            memory.forget()
            memory.plan = self

    def _unplan(self) -> list[Memory]:
        """Take the plan off all memories, and let layers forget the buffers; return the memories that shared."""
        memories = list(self.slabs.intervals)
        for memory in memories:
            memory.plan = None
        for layer in self._layers if memories else ():
            layer.forget_buffers()
        self.slabs, self.active, self._memories = Slabs({}), False, []
        return memories

    def _end_pass(self, done: bool) -> None:
        """Mark the memories that have lost their values: after a pass that an error has ended, all."""
        for memory in self.slabs.overwritten() if done else self.slabs.intervals:
            memory.fresh = 0

    def end(self, overwritten: bool = False) -> None:
        """Share nothing any more; BlobError where values are gone, unless a pass is about to overwrite all of them."""
        if not overwritten:
            for memory in self.slabs.intervals:
                self._check_not_lost(memory)
        self.net.plan = None
        for memory in self._unplan():
            if overwritten:
                memory.forget()

    # -- what to share ---------------------------------------------------------------------------------------------

    def _sharing_blobs(self, net: Net) -> list[Blob]:
        """The blobs that may share: the plan is another one once one of them has other memory."""
        each = zip(net.layers, net.bottoms, net.tops)
        varying = {top for layer, bottoms, tops in each if bottoms and layer.always_reshape for top in tops}
        return [blob for blob in net.all_blobs if blob not in varying]

    def _memory(self, blob: Blob) -> Memory:
        raise NotImplementedError

    def _intervals(self, groups: Groups) -> dict[Memory, Interval]:
        raise NotImplementedError

    def _excluded(self) -> set[Memory]:
        """Memories that do not share."""
        net = self.net
        blobs = [*self._read, *self.sources(), *(net.blobs[name] for name in net.outputs)]
        for layer, tops in zip(net.layers, net.tops):
            blobs += [*layer.blobs, *(tops if layer.has_loss or layer.always_reshape else ())]
        return {self._memory(blob) for blob in blobs}

    def sources(self) -> list[Blob]:
        """The tops of layers without bottoms."""
        return [blob for bottoms, tops in zip(self.net.bottoms, self.net.tops) if not bottoms for blob in tops]

    # -- called by memories ----------------------------------------------------------------------------------------

    def room(self, memory: Memory, nbytes: int) -> np.ndarray | None:
        """A buffer of at least so many bytes, whatever it holds; None where the memory is to have one of its own."""
        return self.slabs.room(memory, nbytes) if self.running and self.shares(memory) else None

    def shares(self, memory: Memory) -> bool:
        """Whether the values may be gone after the pass."""
        return memory in self.slabs.intervals

    def keeps_one_copy(self, memory: Memory) -> bool:
        """Whether a memory lets go of the host's copy once the values are in a layout of an engine's."""
        return False

    def used(self, memory: Memory) -> None:
        """A memory is about to be read, or to be written to, perhaps by a script: then it gets buffers of its own."""
        if not self.running and self.shares(memory):
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
        return next((name for name, blob in self.net.blobs.items() if self._memory(blob) is memory), "")

    def _take_out(self, memory: Memory) -> None:
        """Give a memory buffers of its own, for good; what values it has it keeps."""
        memory.plan = None
        values = memory.host().copy() if memory.fresh else None
        self._read.update(blob for blob in self.net.all_blobs if self._memory(blob) is memory)
        self.slabs.leave_out(memory)
        memory.forget()
        if values is not None:
            memory.host_place()[:] = values
            memory.wrote_host()


class _Gone:
    """The plan of memories that had no values when their net was deleted."""

    def room(self, memory: Memory, nbytes: int) -> None:
        return None

    def shares(self, memory: Memory) -> bool:
        return False

    keeps_one_copy = shares

    def used(self, memory: Memory) -> None:
        raise BlobError(
            "this blob shared its buffer with other blobs of a net that is deleted: keep the net, or copy the values "
            "while it exists"
        )

    resized = used

    def written(self, memory: Memory) -> None:
        memory.plan = None


_GONE = _Gone()


class DiffPlan(Plan):
    """The diffs of tops in training; their values are gone after the backward pass."""

    what = "the diffs"

    def _sharing_blobs(self, net):
        """The bottoms that get a gradient."""
        needed = zip(net.bottoms, net.bottom_need_backward)
        return list(dict.fromkeys(blob for bottoms, needs in needed for blob, need in zip(bottoms, needs) if need))

    def _memory(self, blob):
        return blob.diff_memory

    def _intervals(self, groups):
        return backward_intervals(self.net, groups)

    def _excluded(self):
        """Also those of bottoms and tops of losses, which leave some as they are, and of layers of other packages."""
        others = [i for i, layer in enumerate(self.net.layers) if layer.has_loss or not known(layer)]
        blobs = (blob for i in others for blob in (*self.net.bottoms[i], *self.net.tops[i]))
        return super()._excluded().union(map(self._memory, blobs))

    def backward(self, start, end, groups):
        whole = (start, end) == (len(self.net.layers) - 1, 0)
        self._pass(lambda: self.net.backward_layers(start, end, groups), whole, groups)


class DataPlan(Plan):
    """The data of tops in TEST; their values are gone after the forward pass."""

    def _memory(self, blob):
        return blob.data_memory

    def _intervals(self, groups):
        return forward_intervals(self.net, groups)

    def _plan(self, slabs):
        super()._plan(slabs)
        for layer in self._layers:
            layer.keeps = False

    def _unplan(self):
        for layer in self._layers:
            layer.keeps = True
        return super()._unplan()

    def forward(self, start, end, groups):
        whole = (start, end) == (0, len(self.net.layers) - 1)
        self._pass(lambda: self.net.forward_layers(start, end, groups), whole, groups)

    def backward(self, start, end, groups):
        if self.active:
            self.end()
        self.net.backward_layers(start, end, groups)
