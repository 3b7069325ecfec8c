"""Construction of a net from a NetParameter: layers, blobs, shared parameters, and which layers need backward.

`NetBuilder` processes the layers in order, as Caffe's `Net::Init` does; `Net` copies the resulting attributes.
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
    """Builds the layers of a NetParameter.

    param: a NetParameter after `filter_net` and `insert_splits`.  phase: TRAIN or TEST.  dtype: dtype of the blobs.
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
        """Build all layers; return self.  Raises NetError or LayerError for a wrong net."""
        for layer_param in self.param.layer:
            self._add_layer(layer_param)
        self._limit_backward()
        if self.param.force_backward:
            self._force_backward()
        self.outputs = sorted(self._unread)
        self._plan_copies()
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
        """Return the bottoms of a layer, and whether each needs backward.

        Each blob has at most one reader, because of the inserted splits.
        """
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
        """Return the tops of a layer and their names: new blobs, except for in-place tops."""
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
            for _ in range(len(names), wanted):  # a loss layer without a top in the prototxt
                log.info("%s -> (automatic)", layer_param.name)
                blobs.append(Blob(dtype=self.dtype))
                names.append("(automatic)")
        return blobs, names

    def _new_blob(self, name: str) -> None:
        self.blobs[name] = Blob(dtype=self.dtype)
        self._blob_need_backward[name] = False
        self._unread.add(name)

    # -- which layers need backward --------------------------------------------------------------------------------

    def _limit_backward(self) -> None:
        """Exclude layers from the backward pass that contribute to no loss, or whose tops all get no gradient.

        The latter is the effect of `propagate_down: false` in later layers, so the layers are processed in reverse.
        """
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

    def _plan_copies(self) -> None:
        """Set the blobs that layers copy because they are overwritten before their backward pass reads them.

        Raises an error if an in-place layer would change values that another layer or an output still needs.
        """
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
