"""Files of weights against the net that takes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minicaffe.checks.finding import Found, finds
from minicaffe.checks.static.facts import has_weights, layer_place, weight_field
from minicaffe.checks.subject import Subject
from minicaffe.errors import listed


def _layers(subject: Subject) -> tuple[list[str], list[str]]:
    """Return the names of the layers with weights that have a counterpart in the files, and of the others.

    Without files to read, there are none of both.
    """
    if subject.stored is None:
        return [], []
    names = list(dict.fromkeys(layer.name for _, layer in subject.train.layers_with(has_weights)))
    found = [name for name in names if name in subject.stored.shapes]
    return found, [name for name in names if name not in found]


@finds("static", "weights-fit-nothing", "error")
def nothing_fits(subject: Subject) -> Iterator[Found]:
    """Weights of which no layer has the name of a layer of the net."""
    found, missing = _layers(subject)
    if subject.stored is not None and missing and not found:
        yield (
            ", ".join(subject.weights),
            f"none of the {len(missing)} layers with weights has its name in the file, so all of them keep the values "
            f"of their fillers: the net has {listed(missing)}; the file has "
            f"{listed(subject.stored.shapes) or 'no layer'}: use the names of the file in the prototxt",
        )


@finds("static", "weights-fit-few", "warning")
def few_fit(subject: Subject) -> Iterator[Found]:
    """Weights for less than half of the layers."""
    found, missing = _layers(subject)
    if 0 < len(found) < len(missing):
        yield (
            ", ".join(subject.weights),
            f"only {len(found)} of {len(found) + len(missing)} layers with weights have their names in the file "
            f"({listed(found)}); the others keep the values of their fillers: {listed(missing)}; for those, too, use "
            "the names of the file in the prototxt if they are to start from it",
        )


@finds("static", "weights-leave-out", "info")
def some_left_out(subject: Subject) -> Iterator[Found]:
    """Layers that start from their fillers, where most start from a file."""
    found, missing = _layers(subject)
    if missing and len(found) >= len(missing):
        yield (
            ", ".join(subject.weights),
            f"{len(found)} of {len(found) + len(missing)} layers with weights have their names in the file; the others "
            f"keep the values of their fillers: {listed(missing)}",
        )


@finds("static", "weights-shape", "error")
def other_shape(subject: Subject) -> Iterator[Found]:
    """Layers whose name is in a file with weights of another shape."""
    if subject.stored is None:
        return
    for _, layer in subject.train.layers_with(has_weights):
        shape = subject.stored.shapes.get(layer.name, {}).get(0, ())
        for what, expected, got in _lengths(layer, shape):
            if expected != got:
                yield (
                    layer_place(layer),
                    f"the weights cannot be copied: {what} is {expected} in the net and {got} in the file, whose blob "
                    f"0 has the shape {shape}: rename the layer, to learn it from scratch, or write {what}: {got}",
                )


def _lengths(layer: Any, shape: tuple[int, ...]) -> Iterator[tuple[str, int, int]]:
    """Yield (field, value in the prototxt, value in the file) of what is known without the shape of the input."""
    param = getattr(layer, weight_field(layer))
    shape = shape[2:] if layer.type == "InnerProduct" and len(shape) == 4 else shape  # before 2014: 1 x 1 x N x K
    if layer.type == "InnerProduct" and len(shape) == 2:
        yield "num_output", param.num_output, shape[1 if param.transpose else 0]
    if layer.type == "Embed" and len(shape) == 2:
        yield from (("input_dim", param.input_dim, shape[0]), ("num_output", param.num_output, shape[1]))
    if not hasattr(param, "kernel_size") or len(shape) != 4:
        return
    yield "num_output", param.num_output, shape[1] * param.group if layer.type == "Deconvolution" else shape[0]
    if len(param.kernel_size) == 1 and shape[2] == shape[3]:
        yield "kernel_size", param.kernel_size[0], shape[2]
