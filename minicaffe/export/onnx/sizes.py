"""Which axes of a net's inputs and outputs may have other lengths in its ONNX graph.

The net is converted at other batch sizes: an axis is free if nodes and constants stay the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from minicaffe.core.net import Net
from minicaffe.errors import MinicaffeError
from minicaffe.export.onnx.walk import Axis, Walk
from minicaffe.layers.shared.recurrent import Recurrent


@dataclass
class Sizes:
    """Which axes are free: names of axes of inputs and of outputs, and reasons for axes of inputs that are fixed."""

    inputs: dict[Axis, str]
    outputs: dict[Axis, str]
    fixed: dict[Axis, str]


def free_sizes(walk: Walk) -> Sizes:
    """Convert the net at other batch sizes, and compare the nodes and constants.

    Axis 0 of each input is tried by itself, then together with all inputs of its length.  In nets with recurrent layers
    the batch, which may be axis 1, is tried before that, and what is left is the number of steps.
    """
    net, found = walk.net, Sizes({}, {}, {})
    shapes = {name: net.blobs[name].shape for name in net.inputs}
    for size in sorted(_recurrent_batches(net)):
        group = [(name, axis) for name, shape in shapes.items() for axis in (0, 1) if shape[axis : axis + 1] == (size,)]
        if group and not _try(walk, group, "N", found):
            for name in shapes:  # where both axes have this length, axis 0 is tried by itself below
                if (name, 0) in group:
                    found.fixed.pop((name, 1), None)
    rest = [name for name, shape in shapes.items() if shape and (name, 0) not in found.inputs]
    for name in rest:
        alike = [(other, 0) for other in rest if shapes[other][0] == shapes[name][0]]
        for group in ([(name, 0)], alike) if (name, 0) not in found.inputs else ():
            symbol = "N" if len(group) == len(shapes) else "T" if "N" in found.inputs.values() else f"N_{name}"
            if _try(walk, group, symbol, found):
                break
    return found


def _recurrent_batches(net: Net) -> set[int]:
    """The batch sizes of recurrent layers."""
    return {layer.z.shape[1] for layer in net.layers if isinstance(layer, Recurrent)}


def _try(walk: Walk, group: Sequence[Axis], symbol: str, found: Sizes) -> bool:
    """Convert the net with some axes of inputs twice as long; add to `found` whether they are free, and return it."""
    net = walk.net
    shapes = {name: net.blobs[name].shape for name in (*net.inputs, *net.outputs)}
    longer = {name: list(shapes[name]) for name, _ in group}
    for name, axis in group:
        longer[name][axis] *= 2
    try:
        with _resized(net, longer):
            difference = walk.first_difference(Walk(net, walk.preprocessing))
            reason = f"{difference} depends on it" if difference else ""
            outputs = {name: net.blobs[name].shape for name in net.outputs}
    except MinicaffeError as error:
        reason = str(error)
    if reason:
        found.fixed.update(dict.fromkeys(group, reason))
        return False
    size = shapes[group[0][0]][group[0][1]]
    for name, shape in outputs.items():
        for axis, (one, other) in enumerate(zip(shapes[name], shape)):
            if one != other:
                found.outputs[name, axis] = symbol if (one, other) == (size, 2 * size) else f"{name}_{axis}"
    for each in group:
        found.inputs[each] = symbol
        found.fixed.pop(each, None)
    return True


@contextlib.contextmanager
def _resized(net: Net, shapes: Mapping[str, Sequence[int]]) -> Iterator[None]:
    """Give inputs other shapes inside the block; values in the net's blobs are not kept."""
    before = {name: net.blobs[name].shape for name in shapes}
    try:
        for name, shape in shapes.items():
            net.blobs[name].reshape(*shape)
        net.reshape()
        yield
    finally:
        for name, shape in before.items():
            net.blobs[name].reshape(*shape)
        net.reshape()
