"""Coordinate maps between the blobs of a net, and the Crop layer that aligns two blobs.

A coordinate map is a triple (axis, scale, shift): from `axis` on, position x of the input corresponds to position
scale * x + shift of the output.  A pooling of stride 2 halves coordinates, a Deconvolution of stride 2 doubles them.
Kernels and pads add a shift, which has to be cropped away before two such paths can be added, as in fully
convolutional nets (Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, 2015).  Works on
nets written with `NetSpec`.

Scales and shifts are arrays with one value per spatial axis; a single value applies to all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicaffe.core.alignment import resampled
from minicaffe.core.registry import facts_of, layer_type_list
from minicaffe.errors import NetError
from minicaffe.net_spec import Function, Top, layer_function

CoordMap = tuple[Any, Any, Any]

_LEGACY_FIELDS = {"pad_h", "pad_w", "kernel_h", "kernel_w", "stride_h", "stride_w"}


class UndefinedMapException(NetError):
    """A layer type without a coordinate map, such as InnerProduct."""


class AxisMismatchException(NetError):
    """Two coordinate maps with different first axes."""


class CropError(NetError, AssertionError):
    """Blobs that no Crop layer can align.  Also an AssertionError, which pycaffe raises in this case."""


class UnconnectedError(NetError, RuntimeError):
    """Blobs without a common ancestor that both have a coordinate map from.  Also a RuntimeError, as in pycaffe."""


def __getattr__(name: str) -> list[str]:
    """`PASS_THROUGH_LAYERS`, as in pycaffe: the types with `keeps_coordinates`."""
    if name != "PASS_THROUGH_LAYERS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return [type_name for type_name in layer_type_list() if facts_of(type_name).keeps_coordinates]


def conv_params(fn: Function) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Return (axis, stride, dilated kernel size, pad) of a Convolution, Deconvolution, Im2col or Pooling layer.

    All but the axis are arrays in pixels, with one value, or one per spatial axis.
    CropError for the fields with suffix _h or _w, which are not supported here, and for a layer without kernel_size.
    """
    params = fn.params.get("convolution_param") or fn.params.get("pooling_param") or fn.params
    legacy = _LEGACY_FIELDS & {*fn.params, *params}
    if legacy:
        raise CropError(
            f"{fn!r}: coordinates are not followed through {', '.join(sorted(legacy))}; "
            "use kernel_size, stride and pad, with one value per axis if they differ"
        )
    if "kernel_size" not in params:
        raise CropError(f"{fn!r}: coordinates cannot be followed without a kernel_size")
    kernel_size, dilation = _array(params["kernel_size"]), _array(params.get("dilation", 1))
    return (
        params.get("axis", 1),
        _array(params.get("stride", 1)),
        (kernel_size - 1) * dilation + 1,
        _array(params.get("pad", 0)),
    )


def crop_params(fn: Function) -> tuple[int, np.ndarray]:
    """Return (axis, offset) of a Crop layer, by default 2 and 0; the offset is an array, in pixels."""
    params = fn.params.get("crop_param", fn.params)
    return params.get("axis", 2), _array(params.get("offset", 0))


def _array(value: Any) -> np.ndarray:
    return np.array(value, ndmin=1)


def coord_map(fn: Function) -> CoordMap:
    """Return the coordinate map of one layer, from its bottoms to its tops; (None, 1, 0) is the identity.

    UndefinedMapException for types without a coordinate map, CropError as for `conv_params`.
    """
    facts = facts_of(fn.type_name)
    if facts.keeps_coordinates:
        return None, 1, 0
    if facts.resamples:
        axis, stride, kernel_size, pad = conv_params(fn)
        return axis, *resampled(facts.resamples, kernel_size, stride, pad)
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        # The axis of Crop is the first cropped one, that of a convolution is the channel axis, one before it.
        return axis - 1, 1, -offset
    raise UndefinedMapException(f"{fn!r}: no coordinate map is defined for this type")


def compose(base_map: CoordMap, next_map: CoordMap) -> CoordMap:
    """Return the map that applies `next_map`, then `base_map`: a1 * (a2 * x + b2) + b1.

    AxisMismatchException when the two have different first axes.
    """
    ax1, a1, b1 = base_map
    ax2, a2, b2 = next_map
    if ax1 is None:
        axis = ax2
    elif ax2 is None or ax1 == ax2:
        axis = ax1
    else:
        raise AxisMismatchException(f"coordinate maps begin at different axes, {ax1} and {ax2}")
    return axis, a1 * a2, a1 * b2 + b1


def inverse(coord_map: CoordMap) -> CoordMap:
    """Return the map from output to input: x / a - b / a."""
    axis, a, b = coord_map
    return axis, 1 / a, -b / a


def coord_map_from_to(top_from: Top, top_to: Top) -> CoordMap:
    """Return the map from coordinates of `top_from` to those of `top_to`, by way of a common ancestor.

    If they have several common ancestors, the nearest one is used: all should give the same map.
    UnconnectedError (a RuntimeError) when there is none.
    """
    from_maps = _maps_to_ancestors(top_from)
    to_maps = _maps_to_ancestors(top_to)
    for ancestor, to_map in to_maps.items():
        if ancestor in from_maps:
            return compose(to_map, inverse(from_maps[ancestor]))
    raise UnconnectedError("Could not compute map between tops; are they connected by spatial layers?")


def _maps_to_ancestors(top: Top) -> dict[Top, CoordMap]:
    """Map each ancestor of `top` to the coordinate map from it to `top`, in breadth-first order, `top` included."""
    maps: dict[Top, CoordMap] = {top: (None, 1, 0)}
    frontier = [top]
    while frontier:
        reached = frontier.pop(0)
        try:
            step = coord_map(reached.fn)
        except UndefinedMapException:
            continue
        for bottom in _mapped_bottoms(reached.fn):
            if bottom not in maps:
                maps[bottom] = compose(maps[reached], step)
                frontier.append(bottom)
    return maps


def _mapped_bottoms(fn: Function) -> Sequence[Top]:
    """The bottoms that a layer's map applies to: all of them; for Crop only the first, which is cropped."""
    return fn.inputs[:1] if fn.type_name == "Crop" else fn.inputs


def crop(top_from: Top, top_to: Top) -> Top:
    """Return the Top of a Crop layer that crops `top_from` to the size and position of `top_to`.

    CropError (an AssertionError) when the two differ in scale, or when the offset is negative or not an integer;
    UnconnectedError (a RuntimeError) when they have no common ancestor.
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    scale, shift = _array(scale), _array(shift)
    if not (scale == 1).all():
        raise CropError(f"scale mismatch on crop: one step in the first blob is {scale.tolist()} in the second")
    if not (shift <= 0).all():
        raise CropError(f"cannot crop negative width: the first blob would have to grow by {shift.tolist()}")
    if not (shift == np.round(shift)).all():
        raise CropError(f"cannot crop noninteger width: the offset would be {(-shift).tolist()}")
    first_axis = 2 if axis is None else axis + 1
    return layer_function("Crop")(top_from, top_to, crop_param=dict(axis=first_axis, offset=[int(v) for v in -shift]))
