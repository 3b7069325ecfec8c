"""Which parameters learn: those with a rate, to which a gradient arrives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minicaffe.checks.finding import Found, finds
from minicaffe.checks.static.facts import is_loss, layer_place, params_of
from minicaffe.checks.subject import PhaseNet, Subject
from minicaffe.core.flow import Value
from minicaffe.core.layer import Layer
from minicaffe.core.registry import facts_of
from minicaffe.errors import listed

#: types whose backward pass gives no gradient, or zeros, to their bottoms
_OPAQUE = ("Silence", "Threshold", "HDF5Output", "PriorBox")


def with_gradient(net: PhaseNet) -> set[int]:
    """Return the indices of the layers to whose outputs a gradient arrives, or whose output is a loss."""
    reached: set[int] = set()
    values: set[Value] = set()
    for i in reversed(range(len(net.param.layer))):
        layer = net.param.layer[i]
        if not is_loss(layer) and not values.intersection(net.flow.values_of(i)):
            continue
        reached.add(i)
        for j, source in enumerate(net.flow.sources[i]):
            if source is not None and _goes_back(layer, j):
                values.add(source)
    return reached


def _goes_back(layer: Any, bottom: int) -> bool:
    """Whether a layer with a gradient passes it on to a bottom."""
    if layer.propagate_down and not layer.propagate_down[bottom]:
        return False
    facts = facts_of(layer.type)
    if facts.backward_cpu is Layer.backward_cpu or layer.type in _OPAQUE:
        return False
    return facts.may_have_gradient(bottom, len(layer.bottom))


def _knows_all(net: PhaseNet) -> bool:
    """Whether the parameters of all layers are those of their types."""
    return not any(layer.type == "Python" for layer in net.param.layer)


@finds("static", "nothing-learned", "error")
def nothing_learned(subject: Subject) -> Iterator[Found]:
    """Nets in which no parameter has a rate."""
    layers = [layer for layer in subject.train.param.layer if params_of(layer)]
    if layers and _knows_all(subject.train) and not any(p.lr_mult for layer in layers for p in params_of(layer)):
        yield (
            f"net '{subject.train.param.name}'",
            f"every lr_mult is 0, of {len(layers)} layer(s) with parameters ({listed(x.name for x in layers)}), so "
            "nothing is learned: write param { lr_mult: 1 } in the layers that are to be trained",
        )


@finds("static", "gradients-clipped-to-0", "error")
def clipped_to_0(subject: Subject) -> Iterator[Found]:
    """Solvers that scale every gradient to the norm 0."""
    if subject.param.clip_gradients == 0:
        yield (
            "solver: clip_gradients",
            "clip_gradients is the largest norm of the gradients, so 0 makes them all 0 and nothing is learned: "
            "remove it, or write a norm such as 35",
        )


@finds("static", "decay-without-gradient", "warning")
def only_decays(subject: Subject) -> Iterator[Found]:
    """Parameters which weight_decay moves towards 0, because no gradient arrives."""
    decay, net = subject.param.weight_decay, subject.train
    if not decay or not any(is_loss(layer) for layer in net.param.layer):
        return
    reached = with_gradient(net)
    named = {p.name for i in reached for p in params_of(net.param.layer[i]) if p.name and p.lr_mult}
    for i, layer in enumerate(net.param.layer):
        if i in reached or not _starts_with_parameters(layer):
            continue
        moved = [p for p in params_of(layer) if p.lr_mult and p.decay_mult and not (p.name and p.name in named)]
        if moved:
            yield (
                layer_place(layer),
                f"no gradient arrives here, but lr_mult {moved[0].lr_mult:g} and weight_decay "
                f"{decay * moved[0].decay_mult:g} move its weights towards 0 in every iteration: write "
                "param { lr_mult: 0 } for each of its parameters, or let a loss read its output",
            )


def _starts_with_parameters(layer: Any) -> bool:
    return bool(params_of(layer)) and layer.type != "Python"
