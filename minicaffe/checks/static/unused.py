"""What has no effect: messages and fields that a layer's type does not read, and states that no rule names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minicaffe.checks.finding import Found, finds
from minicaffe.checks.static.facts import layer_place
from minicaffe.checks.subject import PhaseNet, Subject
from minicaffe.core.calls import own_message
from minicaffe.core.passes import rules_of
from minicaffe.core.registry import facts_of, layer_type_list
from minicaffe.errors import listed, nearest
from minicaffe.proto.caffe_pb2 import LayerParameter

_MESSAGES = {field.name for field in LayerParameter.DESCRIPTOR.fields if field.name.endswith("_param")}


def messages_read(type_name: str) -> set[str]:
    """Return the fields of the messages that a type of this package reads; all of them for other types."""
    facts = facts_of(type_name)
    if type_name == "Python" or not facts.__module__.startswith("minicaffe.layers."):
        return _MESSAGES
    return {own_message(type_name) or "", *facts.more_params}


@finds("static", "unused-layer-field", "warning")
def unused_messages(subject: Subject) -> Iterator[Found]:
    """Find messages and fields of transform_param that the type of their layer does not read."""
    seen = set()
    for net in subject.nets():
        for layer in net.param.layer:
            for text in (*_unread(layer), *_unread_of_transform(layer)):
                if (layer.name, text) not in seen:
                    seen.add((layer.name, text))
                    yield layer_place(layer), text


def _unread(layer: Any) -> Iterator[str]:
    read = messages_read(layer.type)
    for field, value in layer.ListFields():
        if field.name not in _MESSAGES - read or not any(_is_set(each, inner) for each, inner in value.ListFields()):
            continue
        readers = [name for name in layer_type_list() if field.name in messages_read(name) and _is_listed(name)]
        if readers:
            own = own_message(layer.type)
            yield (
                f"{field.name} has no effect in a layer of type {layer.type}, it is read by {listed(readers)}: "
                "remove it" + (f", or write {own}" if own else "")
            )


def _is_listed(type_name: str) -> bool:
    """Whether a type is one to suggest: HDF5Data refuses a transform_param, scripts' types may read any message."""
    return type_name != "HDF5Data" and messages_read(type_name) != _MESSAGES


def _unread_of_transform(layer: Any) -> Iterator[str]:
    unread = facts_of(layer.type).unread_of_transform
    for field, value in layer.transform_param.ListFields():
        instead = unread.get(field.name)
        if instead and _is_set(field, value):
            yield f"transform_param: {field.name} has no effect in a layer of type {layer.type}: {instead}"


def _is_set(field: Any, value: Any) -> bool:
    """Whether a field that is given has another value than its default."""
    return field.message_type is not None or value != field.default_value


@finds("static", "unused-state", "warning")
def unused_state(subject: Subject) -> Iterator[Found]:
    """Find stages of a net's state that no rule names, and levels where no rule has one."""
    for net in subject.nets():
        rules = [rule for layer in net.whole.layer for rule in (*layer.include, *layer.exclude)]
        named = {stage: None for rule in rules for stage in (*rule.stage, *rule.not_stage)}
        place = f"{net.phase.lower()}_state"
        for stage in filter(None, net.whole.state.stage):
            if stage not in named:
                hint = nearest(stage, named) or (f": the rules name {listed(named)}" if named else "")
                yield f"{place}: stage", f"stage '{stage}' has no effect, as no include or exclude names it{hint}"
        has_levels = any(rule.HasField(field) for rule in rules for field in ("min_level", "max_level"))
        if net.whole.state.level and not has_levels:
            yield (
                f"{place}: level",
                f"level {net.whole.state.level} has no effect, as no include or exclude has min_level or max_level",
            )


@finds("static", "layer-in-no-net", "info")
def in_no_net(subject: Subject) -> Iterator[Found]:
    """Find layers that the rules leave out of each net of the solver."""
    nets: list[PhaseNet] = [*subject.nets(), *filter(None, [subject.deploy])]
    used = {layer.SerializeToString() for net in nets for layer in net.param.layer}
    for layer in subject.train.whole.layer:
        if layer.SerializeToString() not in used:
            tests = "of each test net" if subject.tests else "there is no test net"
            yield (
                layer_place(layer),
                f"its rule {rules_of(layer)} leaves it out of the train net, and {tests}",
            )
