"""Construction of a net from a NetParameter: layers, blobs, shared parameters, and which layers need backward.

`NetBuilder` processes the layers in order, as Caffe's `Net::Init` does; `Net` copies the resulting attributes.
"""

from __future__ import annotations

import logging

import numpy as np

from minicaffe.core import precision
from minicaffe.core.blob import Blob
from minicaffe.core.in_place import Overwrites
from minicaffe.core.layer import Layer
from minicaffe.core.params import SharedParams
from minicaffe.core.passes import described, rules_of, unknown_bottom
from minicaffe.core.registry import create_layer, log_replaced
from minicaffe.core.scratch import Scratch
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
        self.scratch = Scratch()
        self._unread: set[str] = set()
        self._blob_need_backward: dict[str, bool] = {}

    def build(self) -> NetBuilder:
        """Build all layers; return self.  Raises NetError or LayerError for a wrong net."""
        log_replaced(self.param.layer, self.dtype)
        for layer_param in self.param.layer:
            self._add_layer(layer_param)
        precision.log_choice(self.param, self.layers)
        precision.assign_types(self.layers, self.bottoms, self.tops)
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
        layer = create_layer(layer_param, dtype=self.dtype, default_type=self.param.default_forward_type)
        layer.scratch = self.scratch
        bottom, need_bottom = self._connect_bottoms(layer_param)
        top, top_names = self._make_tops(layer_param, layer)
        log.info("Setting up %s", layer_param.name)
        layer.initialize(bottom, top)
        for name, blob, weight in zip(top_names, top, layer.loss_weights):
            self.blob_loss_weights[name] = weight
            note = f"    with loss weight {weight:g}" if weight else ""
            log.info("Top shape: %s (%d)%s", " ".join(map(str, blob.shape)), blob.count, note)
        learns = self.params.add_layer(layer_param, layer, self.layer_names)
        needs = learns or any(need_bottom)
        needs_of_tops = need_bottom if layer.in_pairs and not learns else [needs] * len(top_names)
        self.layers.append(layer)
        self.layer_names.append(layer_param.name)
        self.bottoms.append(bottom)
        self.tops.append(top)
        self.bottom_names.append(list(layer_param.bottom))
        self.top_names.append(top_names)
        self.bottom_need_backward.append(need_bottom)
        self.layer_need_backward.append(needs)
        self._blob_need_backward.update((name, True) for name, need in zip(top_names, needs_of_tops) if need)

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
                raise self._several_sources(layer_param, name)
            else:
                log.info("%s -> %s", layer_param.name, name)
                self._new_blob(name)
            blobs.append(self.blobs[name])
        if layer.tops_are_inputs:
            self.inputs += names
        for _ in range(layer.missing_tops(len(names))):  # of a loss layer without a top in the prototxt
            log.info("%s -> (automatic)", layer_param.name)
            blobs.append(Blob(dtype=self.dtype))
            names.append("(automatic)")
        return blobs, names

    def _several_sources(self, layer_param, blob: str) -> NetError:
        """Return the error for a top whose name is that of an earlier layer's top; it names rules that both meet."""
        sentence = (
            f"layer '{layer_param.name}': top blob '{blob}' is produced by multiple sources: an earlier layer "
            "makes a blob of that name (in place works only where top i has the name of bottom i, "
            "and no other layer reads that bottom)"
        )
        earlier = next(each for each in self.param.layer if blob in each.top)
        if rules := [f"{rules_of(each)} of '{each.name}'" for each in (earlier, layer_param) if rules_of(each)]:
            sentence += f"; the net's state is {described(self.param.state)}, which selects by {' and '.join(rules)}"
        return NetError(sentence)

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
