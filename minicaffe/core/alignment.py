"""Coordinates of blobs in a net: where layers cut that align their bottoms.

From a bottom to a top, position x becomes scale * x + shift: a pooling of stride 2 halves positions, a Deconvolution of
stride 2 doubles them.  `minicaffe.coord_map` does the same for nets that are written with `NetSpec`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minicaffe.core.registry import facts_of
from minicaffe.errors import NetError


class Coordinates(NamedTuple):
    """x becomes scale * x + shift; numbers, or arrays with one value for each spatial axis."""

    scale: Any
    shift: Any

    def after(self, first: Coordinates) -> Coordinates:
        """Return the map that applies `first`, then this one."""
        return Coordinates(self.scale * first.scale, self.scale * first.shift + self.shift)

    @property
    def inverse(self) -> Coordinates:
        """The map back, x / scale - shift / scale."""
        return Coordinates(1 / self.scale, -self.shift / self.scale)


SAME = Coordinates(1, 0)


def resampled(direction: str, kernel: Any, stride: Any, pad: Any) -> Coordinates:
    """Return the map of windows, "down" or "up" as in `resamples` of a layer's facts; kernel: with its dilation."""
    if direction == "up":
        return Coordinates(stride, (kernel - 1) / 2 - pad)
    return Coordinates(1 / stride, (pad - (kernel - 1) / 2) / stride)


def align_crops(net: Any) -> None:
    """Give each layer that cuts "where aligned" the offset at which its bottoms coincide, if it has none.

    net: a NetParameter of one phase, changed in place.  The paths back go through the first bottoms of layers, to the
    first value that both bottoms come from.  NetError for bottoms that cannot be aligned.
    """
    for i, layer in enumerate(net.layer):
        aligned = facts_of(layer.type).cuts == "where aligned"
        if aligned and len(layer.bottom) == 2 and not layer.crop_param.offset:
            layer.crop_param.offset.extend(_offset(net, i))


def _offset(net: Any, index: int) -> list[int]:
    layer = net.layer[index]
    ours, theirs = (_path(net, index, bottom) for bottom in layer.bottom)
    common = next((value for value in theirs if value in ours), None)
    names = f"layer '{layer.name}' cannot align its bottoms '{layer.bottom[0]}' and '{layer.bottom[1]}'"
    if common is None:
        raise NetError(f"{names}: no value that both come from was found along the first bottoms of the layers before")
    found = theirs[common].after(ours[common].inverse)
    scale, shift = (np.broadcast_to(each, 2) for each in found)
    if not np.allclose(scale, 1):
        raise NetError(f"{names}: a step in the first is {_listed(scale)} in the second")
    offset = np.rint(-shift)
    if not np.allclose(-shift, offset) or (offset < 0).any():
        raise NetError(f"{names}: the offset, {_listed(-shift)}, must be a whole number, 0 or more, in each direction")
    return [int(each) for each in offset]


def _listed(values: np.ndarray) -> str:
    return " and ".join(f"{each:g}" for each in values)


def _path(net: Any, index: int, name: str) -> dict[tuple[int, str], Coordinates]:
    """Return the values on the way back from a bottom of layer `index`, each with its map to the bottom.

    A value is (layer, top), -1 for an input of the net.
    """
    found, own = {}, SAME
    while True:
        index = next((i for i in range(index - 1, -1, -1) if name in net.layer[i].top), -1)
        found[index, name] = own
        layer = net.layer[index] if index >= 0 else None
        step = _step(layer) if layer is not None and layer.bottom else None
        if layer is None or step is None:
            return found
        own, name = own.after(step), layer.bottom[0]


def _step(layer: Any) -> Coordinates | None:
    """Return the map from the first bottom of a layer to its tops; None if it has none."""
    facts = facts_of(layer.type)
    if facts.cuts:
        offset = np.array(layer.crop_param.offset or [0], float)
        return Coordinates(1, -offset) if layer.crop_param.axis == 2 and len(offset) in (1, 2) else None
    if facts.keeps_coordinates:
        return SAME
    if not facts.resamples:
        return None
    if layer.pooling_param.global_pooling:
        return None
    is_pooling = layer.HasField("pooling_param")
    param = layer.pooling_param if is_pooling else layer.convolution_param
    dilation = 1 if is_pooling else np.array(param.dilation or [1], float)
    kernel = (_lengths(param, "kernel_size", "kernel") - 1) * dilation + 1
    return resampled(facts.resamples, kernel, _lengths(param, "stride", "stride", 1), _lengths(param, "pad", "pad"))


def _lengths(param: Any, name: str, prefix: str, default: int = 0) -> np.ndarray:
    """Return a field of a window, or prefix_h and prefix_w: one value, or one for each axis."""
    separate = [f"{prefix}_{axis}" for axis in "hw"]
    if any(param.HasField(field) for field in separate):
        return np.array([getattr(param, field) for field in separate], float)
    values = getattr(param, name)
    return np.array([values] if isinstance(values, int) else values or [default], float)
