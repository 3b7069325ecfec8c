"""Layers that work in place: what they overwrite, and copies of it for backward passes that still need it.

A layer states what its backward pass reads (`Layer.backward_reads`).  By then a blob may be overwritten: by the layer
itself, by a layer that works in place behind it, or through another blob of the same memory (behind a Split or a
Flatten).  `Overwrites` finds this out when a net is built.  A layer to which this applies has `KeptBlobs`: its
forward pass copies what will be overwritten, and its backward pass gets the copies in place of the blobs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.memory import Memory
from minicaffe.core.places import HOST
from minicaffe.core.settings import settings
from minicaffe.errors import LayerError

if TYPE_CHECKING:
    from minicaffe.core.layer import Layer


# -- copies ------------------------------------------------------------------------------------------------------------


class KeptBlobs:
    """Copies of some bottoms and tops of one layer, by index, with the values of its last forward pass.

    last: index in the net of the last layer that overwrites one of them after the forward pass of this layer.
    """

    def __init__(self, bottoms: Iterable[int], tops: Iterable[int], last: int, dtype: np.dtype) -> None:
        self.bottoms = {i: Blob((), dtype) for i in bottoms}
        self.tops = {i: Blob((), dtype) for i in tops}
        self.last = last
        self._leases: dict[Blob, Any] = {}  # objects that protect an engine's memory of a copy

    def before_forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> Sequence[Blob]:
        """Keep bottoms.  Returns the bottoms to compute from: the kept ones where a top is about to replace them."""
        inputs = list(bottom)
        for i, kept in self.bottoms.items():
            replaced = is_in_place(bottom, top, i)
            self._keep(bottom[i], kept)
            if replaced:
                inputs[i] = kept
        return inputs

    def after_forward(self, top: Sequence[Blob]) -> None:
        """Keep tops."""
        for i, kept in self.tops.items():
            self._keep(top[i], kept)

    def for_backward(self, top: Sequence[Blob], bottom: Sequence[Blob]) -> tuple[Sequence[Blob], Sequence[Blob]]:
        """(tops, bottoms) of a backward pass: the kept data, with the diffs of the blobs themselves."""
        tops, bottoms = list(top), list(bottom)
        for i, kept in self.tops.items():
            _share_diff(top[i], kept)
            tops[i] = kept
            if is_in_place(bottom, top, i):
                bottoms[i] = kept
        for i, kept in self.bottoms.items():
            _share_diff(bottom[i], kept)
            bottoms[i] = kept
        return tops, bottoms

    def _keep(self, blob: Blob, kept: Blob) -> None:
        """Copy the data of a blob at the place of their newest copy, or else where the engine computes."""
        _share_diff(blob, kept)
        place = blob.data_memory.newest()
        self._leases[kept] = (settings.engine.place if place is HOST else place).keep(blob, kept)


def _share_diff(blob: Blob, kept: Blob) -> None:
    kept.reshape(blob.shape)
    kept.share_diff(blob)


# -- who overwrites what -----------------------------------------------------------------------------------------------


class Overwrites:
    """Which layers change memory in place that others read; for layers in order, with their blobs.

    Raises `LayerError` where a layer would read other numbers than those its bottom stands for.
    """

    def __init__(
        self, layers: Sequence[Layer], bottoms: Sequence[Sequence[Blob]], tops: Sequence[Sequence[Blob]]
    ) -> None:
        self._layers, self._bottoms, self._tops = layers, bottoms, tops
        self._owners = {blob.data_memory: layer.name for layer in layers for blob in layer.blobs}
        self._writers: dict[Memory, list[int]] = defaultdict(list)  # layers that change a memory in place, in order
        self._seen: dict[Blob, int] = {}  # how many of these changes a blob stands for
        self._read: list[list[int]] = []  # the same number for each layer's bottoms when it reads them
        self._wrote: list[list[int]] = []  # and for each layer's tops when it has written them
        for i in range(len(layers)):
            self._follow(i)

    def kept_by(self, i: int) -> KeptBlobs | None:
        """What layer i must keep for its backward pass; None if nothing."""
        layer, bottom, top = self._layers[i], self._bottoms[i], self._tops[i]
        bottoms, tops = {}, {}
        for j, blob in enumerate(top):
            within = is_in_place(bottom, top, j) and layer.top_serves_as_bottom
            if "top" in layer.backward_reads or (within and "bottom" in layer.backward_reads):
                tops[j] = self._last_change(i, blob, self._wrote[i][j])
        for j, blob in enumerate(bottom):
            within = is_in_place(bottom, top, j)
            if "bottom" in layer.backward_reads and not (within and layer.top_serves_as_bottom):
                bottoms[j] = i if within else self._last_change(i, blob, self._read[i][j])
        kept_bottoms, kept_tops = (
            {j: last for j, last in found.items() if last is not None} for found in (bottoms, tops)
        )
        last = max([*kept_bottoms.values(), *kept_tops.values()], default=None)
        return None if last is None else KeptBlobs(kept_bottoms, kept_tops, last, layer.dtype)

    def overwritten_tops(self, i: int) -> frozenset[int]:
        """The tops of layer i that a layer behind it changes in place."""
        found = zip(self._tops[i], self._wrote[i])
        return frozenset(j for j, (blob, seen) in enumerate(found) if seen < len(self._writers[blob.data_memory]))

    def check_outputs(self, blobs: Mapping[str, Blob]) -> None:
        """Raise if an output of the net would show values that a layer has written to another blob."""
        for name, blob in blobs.items():
            self._check(blob, f"output '{name}' shares")

    def check_loss_diffs(self, needs_backward: Sequence[bool]) -> None:
        """Raise if a backward pass would overwrite the loss weight in the diff of a top."""
        weights = {
            top.diff_memory: (i, j)
            for i, layer in enumerate(self._layers)
            for j, (top, weight) in enumerate(zip(self._tops[i], layer.loss_weights))
            if weight
        }
        for i, needed in enumerate(needs_backward):
            for j, blob in enumerate(self._bottoms[i] if needed else ()):
                if blob.diff_memory in weights and is_in_place(self._bottoms[i], self._tops[i], j):
                    loss, k = weights[blob.diff_memory]
                    name = _name(self._layers[loss].layer_param.top, k)
                    raise self._refusal(i, j, f"the diff of which holds the loss_weight of blob '{name}'")

    def _follow(self, i: int) -> None:
        """One layer: check what it reads, note what it changes."""
        layer, bottom, top = self._layers[i], self._bottoms[i], self._tops[i]
        for j, blob in enumerate(bottom):
            self._check(blob, f"layer '{layer.name}' reads as '{_name(layer.layer_param.bottom, j)}'")
        self._read.append([self._seen.get(blob, 0) for blob in bottom])
        for j, blob in enumerate(top):
            if is_in_place(bottom, top, j) and not layer.passes_through:
                self._overwrite(i, j)
            self._seen[blob] = len(self._writers[blob.data_memory])
        self._wrote.append([self._seen[blob] for blob in top])

    def _overwrite(self, i: int, j: int) -> None:
        """Note that layer i changes its bottom j."""
        memory = self._tops[i][j].data_memory
        if memory in self._owners:
            raise self._refusal(i, j, f"the memory of which holds the parameter of layer '{self._owners[memory]}'")
        for k, blob in enumerate(self._bottoms[i]):
            if k != j and blob.data_memory is memory:
                name = _name(self._layers[i].layer_param.bottom, k)
                raise self._refusal(i, j, f"the memory of which its bottom '{name}' shares")
        self._writers[memory].append(i)

    def _check(self, blob: Blob, reader: str) -> None:
        """Raise if the memory of a blob has been changed through another blob."""
        writers = self._writers[blob.data_memory]
        if self._seen.get(blob, 0) < len(writers):
            i = writers[-1]
            j = next(j for j, top in enumerate(self._tops[i]) if top.data_memory is blob.data_memory)
            raise self._refusal(i, j, f"the memory of which {reader}")

    def _last_change(self, i: int, blob: Blob, seen: int) -> int | None:
        """The last layer that changes a blob's memory after `seen` changes, that matters to layer i."""
        signs = self._layers[i].reads_signs
        later = self._writers[blob.data_memory][seen:]
        return max((k for k in later if not (signs and self._layers[k].keeps_signs)), default=None)

    def _refusal(self, i: int, j: int, why: str) -> LayerError:
        layer = self._layers[i]
        name = _name(layer.layer_param.top, j)
        return layer.error(f"cannot work in place on blob '{name}', {why}: give its top another name than its bottom")


def complete_in_themselves(layers: Sequence[Layer], start: int) -> bool:
    """Whether no layer behind these, the first of which is layer `start` of its net, overwrites what they must keep."""
    return all(layer.kept_blobs is None or layer.kept_blobs.last < start + len(layers) for layer in layers)


def is_in_place(bottom: Sequence[Blob], top: Sequence[Blob], i: int) -> bool:
    """Whether top i is bottom i."""
    return i < min(len(bottom), len(top)) and top[i] is bottom[i]


def _name(names: Sequence[str], i: int) -> str:
    """A blob's name in the prototxt, or its index where it has none."""
    return names[i] if i < len(names) else str(i)
