"""The net that is used after training, against the one that is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minicaffe.checks.finding import Found, finds
from minicaffe.checks.static.facts import data_layers, has_weights, layer_place, params_of
from minicaffe.checks.subject import PhaseNet, Subject

#: fields of a layer's parameters without effect on the values of a trained net
_FREE = ("weight_filler", "bias_filler", "filler", "engine", "cudnn_flavor", "moving_average_fraction",
         "use_global_stats", "dropout_ratio", "scale_filler", "center_filler")  # fmt: skip
#: fields of LayerParameter that are compared on their own, or that a deploy net does not have
_COMMON = ("name", "type", "bottom", "top", "phase", "loss_weight", "param", "blobs", "propagate_down", "include",
           "exclude", "transform_param", "loss_param")  # fmt: skip
#: layers between others that are for training, or that take a part of a batch of several inputs
_IGNORED = ("Dropout", "SpatialDropout", "Silence", "Split", "Slice")


@finds("static", "deploy-differs", "warning")
def differs(subject: Subject) -> Iterator[Found]:
    """Layers of the deploy net that compute something else than the train net's layers of their names."""
    if subject.deploy is None:
        return
    train = {layer.name: i for i, layer in enumerate(subject.train.param.layer)}
    for i, layer in enumerate(subject.deploy.param.layer):
        if layer.name in train:
            yield from _differences(subject, train[layer.name], i)
        elif params_of(layer) or layer.type == "BatchNorm":
            yield (
                _place(subject, layer),
                f"the train net has no layer '{layer.name}', so it gets no weights and keeps the values of its "
                f"filler: use the train net's name for this {layer.type}",
            )


@finds("static", "deploy-input", "warning")
def other_input(subject: Subject) -> Iterator[Found]:
    """Input layers of another size than the crops of training, before an InnerProduct, which has a fixed size."""
    if subject.deploy is None or not any(subject.deploy.of_type("InnerProduct")):
        return
    crops = {layer.top[0]: layer.transform_param.crop_size for _, layer in data_layers(subject.train) if layer.top}
    for _, layer in subject.deploy.of_type("Input"):
        for name, shape in zip(layer.top, layer.input_param.shape):
            crop = crops.get(name, 0)
            if crop and len(shape.dim) == 4 and list(shape.dim[2:]) != [crop, crop]:
                yield (
                    _place(subject, layer),
                    f"the input '{name}' is {shape.dim[2]} x {shape.dim[3]}, but crop_size is {crop} in TRAIN: write "
                    f"dim: {crop} dim: {crop}",
                )


def _place(subject: Subject, layer: Any) -> str:
    return f"{layer_place(layer)} in {subject.deploy_name}"


def _differences(subject: Subject, train: int, deploy: int) -> Iterator[Found]:
    assert subject.deploy is not None
    a, b = subject.train.param.layer[train], subject.deploy.param.layer[deploy]
    place = _place(subject, b)
    if a.type != b.type:
        if params_of(a) or params_of(b):
            yield place, f"the type is {b.type}, but {a.type} in the train net: write the train net's type"
        return
    for field, was, now in _fields(a, b):
        yield place, f"{field} is {now}, but {was} in the train net: write the train net's value"
    if has_weights(a):
        before, here = _types_before(subject.train, train), _types_before(subject.deploy, deploy)
        if before != here:
            yield (
                place,
                f"the layers between this one and the last with weights before it are {_chain(here)}, but "
                f"{_chain(before)} in the train net: write the train net's layers",
            )


def _fields(a: Any, b: Any) -> Iterator[tuple[str, str, str]]:
    """Yield (field, value in a, value in b) of the parameters that differ."""
    for field in a.DESCRIPTOR.fields:
        if field.name in _COMMON or field.message_type is None or field.name in ("input_param", "dummy_data_param"):
            continue
        one, other = getattr(a, field.name), getattr(b, field.name)
        for sub in field.message_type.fields:
            was, now = getattr(one, sub.name), getattr(other, sub.name)
            if sub.name not in _FREE and was != now:
                yield f"{field.name}.{sub.name}", _text(was), _text(now)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if hasattr(value, "__len__") and not isinstance(value, str):
        value = " ".join(_text(each) for each in value)
    return str(value).strip().replace("\n", " ") or "absent"


def _types_before(net: PhaseNet, layer: int) -> list[str]:
    """Return the types between a layer and the last one with weights, or data layer, before it, in order."""
    types: list[str] = []
    for i in net.flow.before(layer):
        each = net.param.layer[i]
        if has_weights(each) or not net.flow.sources[i]:
            break
        if each.type not in _IGNORED:
            types.append(each.type)
    return types[::-1]


def _chain(types: list[str]) -> str:
    return ", ".join(types) or "none"
