"""Where the zeros of a train net begin: the first layers whose output is 0, and the layers at which gradients end.

A layer behind another one that gives only zeros is a consequence, not a cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicaffe.checks.batch.observed import LayerPass, Observed
from minicaffe.checks.static.facts import has_weights, weight_field
from minicaffe.core.layer import Layer

_ROUNDING = 1e-11  #: variance of equal values after rounding to float32, divided by the square of their mean
RECTIFIERS = {"ReLU", "ReLU6"}


class Zeros:
    """The zeros of a train net.

    observed: the train net after its passes.  layers: what is known about its layers; none if passes were not possible.

    roots: layers whose output is 0 for the whole batch though their input is not.
    reached: those of them from which nothing but zeros, or what follows from them, gets to a loss.
    dead: layers whose output is 0, or follows from zeros alone.
    empty: layers whose weights, or scale, are all 0.
    ends: layers at which gradients end, because all that they pass on is 0; without those of `dead` and `empty`, and
        losses that ignore all labels.
    """

    def __init__(self, observed: Observed | None, layers: Sequence[LayerPass]) -> None:
        self.roots: list[LayerPass] = []
        self.dead: set[int] = set()
        self._reached: set[int] = set()
        self._root_of: dict[int, int] = {}  # by id of a blob: the root of the zeros that it holds now
        self.empty = [each for each in layers if _is_empty(each.layer)]
        if observed is not None:
            for each in layers:
                self._follow(observed, each)
        self.reached = [each for each in self.roots if each.index in self._reached]
        explained = self.dead | {each.index for each in self.empty}
        explained |= {each.index for each in layers if each.class_loss is not None and not each.class_loss.counted}
        self.ends = [each for each in layers if each.arrives and each.passes is False and each.index not in explained]

    def _follow(self, observed: Observed, each: LayerPass) -> None:
        """Find out whether the output of a layer is 0, and why; the layers before it are done."""
        bottoms, tops = observed.net.bottoms[each.index], observed.net.tops[each.index]
        roots = [self._root_of.get(id(blob)) for blob in bottoms]
        if each.layer.has_loss:
            if roots and roots[0] is not None:
                self._reached.add(roots[0])
            return
        root = _inherited(each, roots)
        for blob, top in zip(tops, each.tops):
            own = root
            if (
                own is None
                and (top.zero or _is_constant(each))
                and (observed.net.layer_need_backward[each.index] or not bottoms)
            ):
                own = each.index
            if own is None:
                self._root_of.pop(id(blob), None)
            else:
                self._root_of[id(blob)] = own
                self.dead.add(each.index)
        if root is None and each.index in self.dead:
            self.roots.append(each)


def _inherited(each: LayerPass, roots: list[int | None]) -> int | None:
    """Return the root of a layer whose output follows from zeros alone, or None.

    roots: those of its bottoms.  A sum or concatenation follows from zeros if all bottoms are 0, or if it is 0.
    """
    known = [root for root in roots if root is not None]
    if known and (len(known) == len(roots) or (each.tops and each.tops[0].zero)):
        return known[0]
    return None


def _is_constant(each: LayerPass) -> bool:
    """Whether all channels of a BatchNorm's input have one value each, but for rounding, so that its output is 0."""
    if each.statistics is None or each.layer.layer_param.batch_norm_param.use_global_stats:
        return False
    mean, variance, _ = each.statistics
    return bool((variance <= _ROUNDING * np.square(mean)).all())


def _is_empty(layer: Layer) -> bool:
    """Whether the weights, or the scale, of a layer are all 0."""
    return (
        bool(layer.blobs)
        and (has_weights(layer.layer_param) or layer.type == "Scale")
        and not layer.blobs[0].read_data().any()
    )


def starts_at_zero(layer: Any) -> bool:
    """Whether the prototxt has the weights of a layer start at constant 0, which static checks report."""
    is_scale = layer.type == "Scale"
    filler = layer.scale_param.filler if is_scale else getattr(layer, weight_field(layer)).weight_filler
    return filler.type == "constant" and not filler.value
