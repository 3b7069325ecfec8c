"""From a NetParameter to the parts of a net: layers in order, blobs by name, shared parameters, who needs backward.

`NetBuilder` walks the layers once, as the original's `Net::Init` does, and leaves its results in the attributes that
`Net` takes over.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.in_place import Overwrites
from minicaffe.core.layer import Layer
from minicaffe.core.passes import unknown_bottom
from minicaffe.core.registry import create_layer
from minicaffe.errors import NetError

log = logging.getLogger("minicaffe")


class NetBuilder:
    """Builds the layers of a filtered and split NetParameter, in order.

    The lists are parallel: entry i of `bottoms`, `tops`, `bottom_need_backward` ... belongs to `layers[i]`.
    """

    def __init__(self, param, phase: int, dtype: np.dtype) -> None:
        self.param, self.phase, self.dtype = param, phase, dtype
        self.layers: list[Layer] = []
        self.layer_names: list[str] = []
        self.bottoms: list[list[Blob]] = []
        self.tops: list[list[Blob]] = []
        self.bottom_names: list[list[str]] = []
        self.top_names: list[list[str]] = []
        self.bottom_need_backward: list[list[bool]] = []
        self.layer_need_backward: list[bool] = []
        self.blobs: dict[str, Blob] = {}
        self.blob_loss_weights: dict[str, float] = {}
        self.inputs: list[str] = []
        self.params = SharedParams()
        self._unread: set[str] = set()
        self._blob_need_backward: dict[str, bool] = {}

    def build(self) -> NetBuilder:
        for layer_param in self.param.layer:
            self._add_layer(layer_param)
        self._find_what_the_loss_needs()
        if self.param.force_backward:
            self._force_backward()
        self.outputs = sorted(self._unread)
        self._keep_what_is_overwritten()
        for name in self.outputs:
            log.info("This network produces output %s", name)
        log.info("Network initialization done.")
        return self

    # -- one layer -------------------------------------------------------------------------------------------------

    def _add_layer(self, layer_param) -> None:
        if not layer_param.HasField("phase"):
            layer_param.phase = self.phase
        given = len(layer_param.propagate_down)
        if given and given != len(layer_param.bottom):
            raise NetError(
                f"layer '{layer_param.name}': propagate_down must be given once per bottom or not at all: "
                f"{len(layer_param.bottom)} bottom(s), got {given}"
            )
        log.info("Creating Layer %s", layer_param.name)
        layer = create_layer(layer_param, dtype=self.dtype)
        bottom, need_bottom = self._connect_bottoms(layer_param)
        top, top_names = self._make_tops(layer_param, layer)
        log.info("Setting up %s", layer_param.name)
        layer.initialize(bottom, top)
        for name, blob, weight in zip(top_names, top, layer.loss_weights):
            self.blob_loss_weights[name] = weight
            note = f"    with loss weight {weight:g}" if weight else ""
            log.info("Top shape: %s (%d)%s", " ".join(map(str, blob.shape)), blob.count, note)
        needs = self.params.add_layer(layer_param, layer, self.layer_names) or any(need_bottom)
        self.layers.append(layer)
        self.layer_names.append(layer_param.name)
        self.bottoms.append(bottom)
        self.tops.append(top)
        self.bottom_names.append(list(layer_param.bottom))
        self.top_names.append(top_names)
        self.bottom_need_backward.append(need_bottom)
        self.layer_need_backward.append(needs)
        self._blob_need_backward.update((name, True) for name in top_names if needs)

    def _connect_bottoms(self, layer_param) -> tuple[list[Blob], list[bool]]:
        """The blobs a layer reads; each blob has one reader at most, because splits come first."""
        blobs, needs = [], []
        for i, name in enumerate(layer_param.bottom):
            if name not in self._unread:
                raise unknown_bottom(layer_param, i, self._unread)
            self._unread.discard(name)
            blobs.append(self.blobs[name])
            need = self._blob_need_backward[name]
            needs.append(layer_param.propagate_down[i] if layer_param.propagate_down else need)
            log.info("%s <- %s", layer_param.name, name)
        return blobs, needs

    def _make_tops(self, layer_param, layer: Layer) -> tuple[list[Blob], list[str]]:
        names = list(layer_param.top)
        blobs = []
        for i, name in enumerate(names):
            if i < len(layer_param.bottom) and name == layer_param.bottom[i]:
                log.info("%s -> %s (in-place)", layer_param.name, name)
                self._unread.add(name)
            elif name in self.blobs:
                raise NetError(
                    f"layer '{layer_param.name}': top blob '{name}' is produced by multiple sources: an earlier layer "
                    "makes a blob of that name (in place works only where top i has the name of bottom i, "
                    "and no other layer reads that bottom)"
                )
            else:
                log.info("%s -> %s", layer_param.name, name)
                self._new_blob(name)
            blobs.append(self.blobs[name])
        if layer.tops_are_inputs:
            self.inputs += names
        if layer.auto_top_blobs:
            wanted = max(layer.min_top or 0, layer.exact_num_top or 0)
            for _ in range(len(names), wanted):  # a loss whose value nobody names
                log.info("%s -> (automatic)", layer_param.name)
                blobs.append(Blob(dtype=self.dtype))
                names.append("(automatic)")
        return blobs, names

    def _new_blob(self, name: str) -> None:
        self.blobs[name] = Blob(dtype=self.dtype)
        self._blob_need_backward[name] = False
        self._unread.add(name)

    # -- who needs backward ----------------------------------------------------------------------------------------

    def _find_what_the_loss_needs(self) -> None:
        """From the last layer to the first: a layer runs backward only if it helps a loss and something below asks."""
        under_loss: set[str] = set()
        skipped: set[str] = set()
        for i in reversed(range(len(self.layers))):
            tops, bottoms = self.top_names[i], self.bottom_names[i]
            contributes = any(w or name in under_loss for name, w in zip(tops, self.layers[i].loss_weights))
            all_skipped = all(name in skipped for name in tops)
            if self.layer_need_backward[i] and all_skipped:
                self.layer_need_backward[i] = False
                self.bottom_need_backward[i] = [False] * len(bottoms)
            if not contributes:
                self.layer_need_backward[i] = False
                self.bottom_need_backward[i] = [False] * len(bottoms)
            needs = "needs" if self.layer_need_backward[i] else "does not need"
            log.info("%s %s backward computation.", self.layer_names[i], needs)
            if contributes:
                under_loss.update(bottoms)
            skipped.update(name for name, need in zip(bottoms, self.bottom_need_backward[i]) if not need)

    def _keep_what_is_overwritten(self) -> None:
        """Refuse work in place that gives wrong numbers; let layers keep what their backward passes still read."""
        overwrites = Overwrites(self.layers, self.bottoms, self.tops)
        overwrites.check_outputs({name: self.blobs[name] for name in self.outputs})
        overwrites.check_loss_diffs(self.layer_need_backward)
        for i, (layer, needs) in enumerate(zip(self.layers, self.layer_need_backward)):
            layer.kept_blobs = overwrites.kept_by(i) if needs else None
            layer.overwritten_tops = overwrites.overwritten_tops(i)

    def _force_backward(self) -> None:
        for i, layer in enumerate(self.layers):
            self.layer_need_backward[i] = True
            self.bottom_need_backward[i] = [
                need or layer.allow_force_backward(j) for j, need in enumerate(self.bottom_need_backward[i])
            ]
            layer.param_propagate_down = [True] * len(layer.blobs)


class SharedParams:
    """The parameters of all layers, those of one name held in common.

    learnable: the owners' blobs, in order; `owner_of[i]` is None for an owner, else the index of its owner among all
    parameters; `lr_mults` and `decay_mults` are parallel to `learnable`.
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
        self._given: list[tuple[bool, bool]] = []
        self._index_of_name: dict[str, int] = {}
        self._specs: list[Any] = []
        self._index_of: dict[tuple[int, int], int] = {}

    def add_layer(self, layer_param, layer: Layer, layer_names: list[str]) -> bool:
        """Take up a layer's parameters; return whether any of them learns.

        `layer_param` is the net's copy: what the layer added to its own (BatchNorm's lr_mult 0) does not count here.
        """
        if len(layer_param.param) > len(layer.blobs):
            raise NetError(
                f"layer '{layer_param.name}' has too many params specified: it has {len(layer.blobs)} parameter "
                f"blob(s), got {len(layer_param.param)} param message(s)"
            )
        learns = False
        for j in range(len(layer.blobs)):
            spec = layer_param.param[j] if j < len(layer_param.param) else None
            wanted = spec is None or spec.lr_mult != 0
            layer.param_propagate_down[j] = wanted
            learns |= wanted
            own = layer.layer_param.param[j] if j < len(layer.layer_param.param) else spec
            self._append(own, layer_param.name, layer, len(layer_names), j)
        return learns

    def is_shared(self, layer_id: int, j: int) -> bool:
        """Whether blob `j` of a layer has another owner."""
        return self.owner_of[self._index_of[layer_id, j]] is not None

    def follow(self, taken: set[tuple[int, int]], other: SharedParams) -> None:
        """After the blobs `taken`, as (layer, index), were given a net's memory: make each parameter name one memory.

        Blobs that were not given any take that of the first one of their name that was.  Where none was, they take
        that of the other net's parameter of their name, if one of them could share it.
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
        """The blob that owns the parameter of a name, if one of the other net's `members` could share it."""
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
        """Give a parameter the memory of the earlier one of its name, after checking that they agree."""
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
    """Whether two blobs can be one parameter: of one shape, or PERMISSIVE and of one count."""
    return mine.shape == theirs.shape or (spec.share_mode == spec.PERMISSIVE and mine.count == theirs.count)
