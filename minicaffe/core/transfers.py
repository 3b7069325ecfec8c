"""Assignment of the blobs in a file of weights to the layers of a net."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from minicaffe.core.matching import match
from minicaffe.core.memory import Memory
from minicaffe.core.stored_weights import BATCH_NORM_BLOBS, LayerBlobs, StoredBlob, layers_of, scale_behind
from minicaffe.errors import SnapshotError
from minicaffe.proto import TEST
from minicaffe.proto.upgrade_forks import order_of_five

log = logging.getLogger("minicaffe")

_FIVE_BLOBS = 5  #: of NVIDIA's BatchNorm: mean, variance, factor, scale, shift


@dataclass
class Transfer:
    """The blobs to copy to one layer."""

    target: int  #: index of the layer in the net
    blobs: dict[int, StoredBlob]  #: by index of the blob in the target layer
    source: int  #: index of the layer in the file


class Transfers:
    """The matching of the layers of a file with those of a net.

    net: a Net.  stored: layers of the file.  path: path of the file, for errors.
    """

    def __init__(self, net, stored: Sequence[LayerBlobs], path: str) -> None:
        self.net, self.stored, self.path = net, stored, path
        self.layers = layers_of(net)
        self.pairs = match(stored, self.layers)
        self.sources = {source for source, _ in self.pairs}
        self.targets = Counter(target for _, target in self.pairs)

    def copy(self) -> tuple[set[Memory], set[int]]:
        """Copy the weights; return the memory written and the indices of the file's layers that were used.

        Raises SnapshotError, before anything is copied, if numbers or shapes of blobs do not match.
        """
        self._log_unmatched()
        transfers = list(self._all())
        filled = {self.layers[each.target].blobs[j].data_memory for each in transfers for j in self._checked(each)}
        for each in transfers:
            self._check_absent(each, filled)
        for each in transfers:
            for j, stored in each.blobs.items():
                stored.copy_to(self.layers[each.target].blobs[j])
        return filled, {each.source for each in transfers}

    def _log_unmatched(self) -> None:
        names = {layer.name for layer in self.layers}
        for layer in self.stored:
            if layer.name not in names:
                log.info("Ignoring source layer %s", layer.name)
        for target, count in self.targets.items():
            if count > 1:
                name = self.layers[target].name
                log.warning("'%s' has more layers named '%s' than the net: the first takes the last", self.path, name)

    # -- assignment ------------------------------------------------------------------------------------------------

    def _all(self) -> Iterator[Transfer]:
        """Yield the transfers of all matched layers."""
        for source, target in self.pairs:
            if self.net.layers[target].type == "BatchNorm":
                yield from self._of_batch_norm(source, target)
            else:
                yield Transfer(target, self.net.layers[target].adapted(self.stored[source].blobs), source)

    def _of_batch_norm(self, source: int, target: int) -> Iterator[Transfer]:
        """Yield the transfer of a BatchNorm, and of the Scale after it if either side combines both in one layer.

        NVIDIA's BatchNorm contains scale and shift itself, as blobs 3 and 4.
        """
        blobs = self.stored[source].blobs
        scale = scale_behind(self.layers, target)
        if scale is not None and scale in self.targets:
            scale = None  # the file has weights under the name of the Scale
        if len(blobs) == _FIVE_BLOBS:
            if scale is None:
                why = ", the last two for a Scale layer with bias_term right behind, without weights of its own"
                raise self._count_error(target, BATCH_NORM_BLOBS, _FIVE_BLOBS, why)
            five = [blobs[i] for i in sorted(blobs)]
            if five[1].count == five[4].count == self.layers[target].blobs[1].count:  # else it is refused below
                five = [five[i] for i in order_of_five(five[1].values().flat, five[4].values().flat)]
            yield Transfer(target, dict(enumerate(five[:BATCH_NORM_BLOBS])), source)
            yield Transfer(scale, dict(enumerate(five[BATCH_NORM_BLOBS:])), source)
            return
        yield Transfer(target, blobs, source)
        if scale is not None and self.net.layers[scale].layer_param.scale_param.of_batch_norm:
            behind = scale_behind(self.stored, source)
            if behind is None or behind in self.sources:
                raise self._count_error(target, _FIVE_BLOBS, len(blobs), " (scale and shift are missing)")
            yield Transfer(scale, self.stored[behind].blobs, behind)

    # -- checks ----------------------------------------------------------------------------------------------------

    def _checked(self, transfer: Transfer) -> dict[int, StoredBlob]:
        """Return the blobs of a transfer; SnapshotError unless their number, shapes and sizes are the layer's."""
        target, stored = transfer.target, transfer.blobs
        name, blobs = self.layers[target].name, self.layers[target].blobs
        some = self.stored[transfer.source].lacks_shared and stored.keys() <= blobs.keys()
        if stored.keys() != blobs.keys() and not some:
            raise self._count_error(target, len(blobs), len(stored))
        for j, each in stored.items():
            if not each.fits(blobs[j].shape):
                raise SnapshotError(
                    f"'{self.path}': cannot copy param {j} weights of layer '{name}': shape mismatch: the net expects "
                    f"{tuple(blobs[j].shape)}, the file has {tuple(each.shape)}. {self._advice()}"
                )
            if each.count != blobs[j].count:
                raise SnapshotError(
                    f"'{self.path}': param {j} of layer '{name}': expected {blobs[j].count} numbers for its shape "
                    f"{tuple(blobs[j].shape)}, got {each.count}"
                )
            each.check()
        return stored

    def _advice(self) -> str:
        """Return what to do about another shape: only a net that is trained can learn a layer from scratch."""
        if self.net.phase == TEST:
            return "Are these the weights of another net?"
        return "To learn this layer's parameters from scratch rather than copy them, rename the layer"

    def _check_absent(self, transfer: Transfer, filled: set[Memory]) -> None:
        """Raise SnapshotError for a parameter missing in the file, unless it shares memory with another parameter."""
        name, blobs = self.layers[transfer.target].name, self.layers[transfer.target].blobs
        for j in blobs.keys() - transfer.blobs.keys():
            if not self.net.shared_params.is_shared(transfer.target, j) and blobs[j].data_memory not in filled:
                raise SnapshotError(f"'{self.path}': layer '{name}' lacks its parameter {j} of shape {blobs[j].shape}")

    def _count_error(self, target: int, expected: int, got: int, why: str = "") -> SnapshotError:
        return SnapshotError(
            f"'{self.path}': layer '{self.layers[target].name}' has another number of blobs: the net expects "
            f"{expected}, the file has {got}{why}"
        )
