"""Weights that start at 0 where learning does not begin from 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minicaffe.checks.finding import Found, finds
from minicaffe.checks.static.facts import has_weights, is_loss, layer_place, params_of, weight_field
from minicaffe.checks.subject import PhaseNet, Subject
from minicaffe.core.registry import facts_of


@finds("static", "no-weight-filler", "warning")
def without_filler(subject: Subject) -> Iterator[Found]:
    """Hidden layers that learn, whose weights are 0 because there is neither a weight_filler nor a file."""
    net = subject.train
    owners = _shared_with_filler(net)
    for i, layer in net.layers_with(has_weights):
        field = weight_field(layer)
        weights = params_of(layer)[0]
        learns = weights.lr_mult and weights.name not in owners
        if learns and not _has_filler(layer) and not subject.is_filled(layer.name) and _is_hidden(net, i):
            yield (
                layer_place(layer),
                "the weights start at constant 0, because there is no weight_filler, so this layer's output is the "
                f"same for every input and the layers before it get no gradient: write weight_filler in {field}, such "
                'as { type: "xavier" }',
            )


@finds("static", "zero-scale", "warning")
def zero_scale(subject: Subject) -> Iterator[Found]:
    """Scales that start at 0 and are not the end of a residual branch."""
    for i, layer in subject.train.of_type("Scale"):
        param = layer.scale_param
        is_zero = param.HasField("filler") and param.filler.type == "constant" and not param.filler.value
        if is_zero and len(layer.bottom) == 1 and not subject.is_filled(_origin(layer)):
            if not any(each.type == "Eltwise" for each in _behind(subject.train, i)):
                yield (
                    layer_place(layer),
                    "the filler of the scale is constant 0, so the output is the same for every input and the layers "
                    "before get no gradient: leave out the filler, which is constant 1, or write value: 1 "
                    "(scale_filler in NVIDIA's BatchNorm)",
                )


def _origin(layer: Any) -> str:
    """Return the name of the layer that has a Scale's parameters in files: NVIDIA's BatchNorm, or itself."""
    return layer.name.rstrip("_").removesuffix("_scale") if layer.scale_param.of_batch_norm else layer.name


def _has_filler(layer: Any) -> bool:
    return getattr(layer, weight_field(layer)).HasField("weight_filler")


def _shared_with_filler(net: PhaseNet) -> set[str]:
    """Return the names of shared weights that a layer with a weight_filler owns."""
    first: dict[str, bool] = {}
    for _, layer in net.layers_with(has_weights):
        first.setdefault(params_of(layer)[0].name, _has_filler(layer))
    return {name for name, has_filler in first.items() if name and has_filler}


def _is_hidden(net: PhaseNet, layer: int) -> bool:
    """Whether an activation or a layer with weights follows before a loss."""
    return any(has_weights(each) or facts_of(each.type).family == "activation" for each in _following(net, layer))


def _following(net: PhaseNet, start: int) -> Iterator[Any]:
    """Yield the layers that depend on a layer, losses and those without learned weights of their own included."""
    seen, waiting = {start}, [start]
    while waiting:
        i = waiting.pop()
        for each in net.readers(i):
            layer = net.param.layer[each]
            if each not in seen and not is_loss(layer):
                seen.add(each)
                if not _is_fixed(layer):
                    yield layer
                waiting.append(each)


def _is_fixed(layer: Any) -> bool:
    """Whether a layer has weights that are not learned, such as those of bilinear upsampling."""
    return has_weights(layer) and not any(param.lr_mult for param in params_of(layer))


def _behind(net: PhaseNet, layer: int) -> Iterator[Any]:
    """Yield the layers that read the output of a layer."""
    for i in net.readers(layer):
        yield net.param.layer[i]
