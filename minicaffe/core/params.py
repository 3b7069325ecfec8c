"""The parameters of a net's layers: which learn, at which multiples of the rate, and which are shared by name."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.errors import NetError

log = logging.getLogger("minicaffe")


class SharedParams:
    """The parameters of all layers of a net; parameters with one name share one blob's memory.

    The first parameter with a name is the owner of the others.
    blobs: all parameters, in the order of the layers.  layer_of: (layer index, blob index) of each.
    display_names: the name of each, or else its blob index.
    owner_of: for each parameter, None if it is an owner, otherwise the index of its owner in `blobs`.
    learnable: the blobs of the owners, in order; `lr_mults` and `decay_mults` are parallel to it.
    """

    def __init__(self) -> None:
        self.blobs: list[Blob] = []
        self.display_names: list[str] = []
        self.layer_of: list[tuple[int, int]] = []
        self.owner_of: list[int | None] = []
        self.learnable: list[Blob] = []
        self.lr_mults: list[float] = []
        self.decay_mults: list[float] = []
        self._learnable_id: dict[int, int] = {}
        self._given: list[tuple[bool, ...]] = []
        self._index_of_name: dict[str, int] = {}
        self._specs: list[Any] = []
        self._index_of: dict[tuple[int, int], int] = {}

    def add_layer(self, layer_param, layer: Layer, layer_names: list[str]) -> bool:
        """Add the parameters of a layer; return whether any of them has an lr_mult other than 0.

        layer_param: the net's LayerParameter, without the `param` messages that the layer adds to its own copy
            (BatchNorm's lr_mult 0).  layer_names: names of the layers added before.
        Raises NetError for too many `param` messages, and for shared parameters that do not match.
        """
        if len(layer_param.param) > len(layer.blobs):
            raise NetError(
                f"layer '{layer_param.name}' has too many params specified: it has {len(layer.blobs)} parameter "
                f"blob(s), got {len(layer_param.param)} param message(s)"
            )
        learns = False
        for j in range(len(layer.blobs)):
            spec = layer_param.param[j] if j < len(layer_param.param) else None
            wanted = layer.learns and (spec is None or spec.lr_mult != 0)
            layer.param_propagate_down[j] = wanted
            learns |= wanted
            own = layer.layer_param.param[j] if j < len(layer.layer_param.param) else spec
            self._append(own, layer_param.name, layer, len(layer_names), j)
        return learns

    def with_gradients(self, layers: Sequence[Layer], need_backward: Sequence[bool]) -> list[Blob]:
        """Return the learnable parameters that some layer computes gradients of; the diffs of the others stay 0.

        layers: those of the net.  need_backward: which of them run a backward pass.
        """
        computed = {
            self._learnable_id[index if owner is None else owner]
            for index, ((i, j), owner) in enumerate(zip(self.layer_of, self.owner_of))
            if need_backward[i] and layers[i].param_propagate_down[j]
        }
        return [self.learnable[i] for i in sorted(computed)]

    def is_shared(self, layer_id: int, j: int) -> bool:
        """Whether blob `j` of a layer has another owner."""
        return self.owner_of[self._index_of[layer_id, j]] is not None

    def follow(self, taken: set[tuple[int, int]], other: SharedParams) -> None:
        """Restore the sharing of parameters by name after some blobs have been given the memory of another net.

        taken: (layer index, blob index) of those blobs.  other: the SharedParams of the other net.
        The other blobs with a name share the memory of the first blob in `taken` with that name.  If there is none,
        they share that of the other net's parameter with that name, if its shape allows it.
        """
        groups: dict[str, list[int]] = {}
        for index, spec in enumerate(self._specs):
            if spec is not None and spec.name:
                groups.setdefault(spec.name, []).append(index)
        for name, members in groups.items():
            given = [i for i in members if self.layer_of[i] in taken]
            source = self.blobs[given[0]] if given else other._sharable(name, self, members)
            for i in members:
                if source is not None and i not in given:
                    self.blobs[i].share_data(source)

    def _sharable(self, name: str, other: SharedParams, members: list[int]) -> Blob | None:
        """Return the owner of the parameter `name`, if one of the other net's `members` can share it, else None."""
        if name not in self._index_of_name:
            return None
        owner = self.blobs[self._index_of_name[name]]
        return owner if any(_can_share(other._specs[i], other.blobs[i], owner) for i in members) else None

    def _append(self, spec, layer_name: str, layer: Layer, layer_id: int, j: int) -> None:
        index, name = len(self.blobs), spec.name if spec is not None else ""
        self.blobs.append(layer.blobs[j])
        self.display_names.append(name or str(j))
        self._specs.append(spec)
        self._index_of[layer_id, j] = index
        self.layer_of.append((layer_id, j))
        given = (spec is not None and spec.HasField("lr_mult"), spec is not None and spec.HasField("decay_mult"))
        self._given.append(given)
        if name and name in self._index_of_name:
            self._share(spec, layer_name, layer, j, index)
            return
        if name:
            self._index_of_name[name] = index
        self.owner_of.append(None)
        self._learnable_id[index] = len(self.learnable)
        self.learnable.append(layer.blobs[j])
        self.lr_mults.append(spec.lr_mult if spec is not None else 1.0)
        self.decay_mults.append(spec.decay_mult if spec is not None else 1.0)

    def _share(self, spec, layer_name: str, layer: Layer, j: int, index: int) -> None:
        """Share the memory of the owner with the same name; NetError if shapes or multipliers do not match."""
        owner = self._index_of_name[spec.name]
        mine, theirs = layer.blobs[j], self.blobs[owner]
        log.info("Sharing parameters '%s' owned by parameter %d, at layer '%s'", spec.name, owner, layer_name)
        if not _can_share(spec, mine, theirs):
            what = "count" if spec.share_mode == spec.PERMISSIVE else "shape"
            raise NetError(
                f"layer '{layer_name}': cannot share param '{spec.name}': expected the {what} of its owner "
                f"{theirs.shape}, got {mine.shape}"
            )
        mine.share_data(theirs)
        mine.share_diff(theirs)
        self.owner_of.append(owner)
        learnable = self._learnable_id[owner]
        for k, (mult, values) in enumerate((("lr_mult", self.lr_mults), ("decay_mult", self.decay_mults))):
            if not self._given[index][k]:
                continue
            value = getattr(spec, mult)
            owner_given = self._given[owner][k]
            if owner_given and values[learnable] != value:
                raise NetError(
                    f"layer '{layer_name}': shared param '{spec.name}' has mismatched {mult}: "
                    f"expected {values[learnable]:g} as its owner says, got {value:g}"
                )
            values[learnable] = value
            self._given[owner] = tuple(True if n == k else was for n, was in enumerate(self._given[owner]))


def _can_share(spec, mine: Blob, theirs: Blob) -> bool:
    """Whether two blobs can be one parameter: equal shapes, or equal counts and `share_mode: PERMISSIVE`."""
    return mine.shape == theirs.shape or (spec.share_mode == spec.PERMISSIVE and mine.count == theirs.count)
