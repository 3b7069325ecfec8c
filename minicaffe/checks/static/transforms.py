"""transform_param: in both phases, as a formula, and of images and labels that are drawn apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minicaffe.checks.finding import Found, finds
from minicaffe.checks.static.facts import PASSING, data_layers, is_loss, layer_place
from minicaffe.checks.subject import PhaseNet, Subject
from minicaffe.data.transformer import crop_of

#: what is the same in both phases
_FIELDS = (
    "scale",
    "mean_file",
    "mean_value",
    "crop_size",
    "crop_h",
    "crop_w",
    "crop_height",
    "crop_width",
    "force_color",
    "force_gray",
)


@finds("static", "transforms-differ", "warning")
def differ(subject: Subject) -> Iterator[Found]:
    """Data layers of TRAIN and TEST that make the same blob with different numbers."""
    of_train = {layer.top[0]: layer for _, layer in data_layers(subject.train) if layer.top}
    seen = set()
    for net in subject.tests:
        for _, layer in data_layers(net):
            train = of_train.get(layer.top[0]) if layer.top else None
            if train is None:
                continue
            for field in _FIELDS:
                a, b = (_value(each.transform_param, field) for each in (train, layer))
                if a != b and (layer.name, field) not in seen and not _may_differ(train, layer, field):
                    seen.add((layer.name, field))
                    yield (
                        layer_place(layer),
                        f"transform_param of blob '{layer.top[0]}': {field} is {a} in TRAIN and {b} in TEST, so the "
                        f"net is tested on numbers that it was not trained on: write the same {field} in both",
                    )


def _value(param: Any, field: str) -> str:
    value = getattr(param, field)
    if field == "mean_value":
        return ", ".join(f"{each:g}" for each in value) or "absent"
    return f"{value:g}" if isinstance(value, float) else str(value) if value != "" else "absent"


def _may_differ(train: Any, test: Any, field: str) -> bool:
    """Whether a field may differ: a crop in one phase only, a mean as an image in one and as values in the other."""
    a, b = train.transform_param, test.transform_param
    if field.startswith("crop"):
        return not (getattr(a, field) and getattr(b, field))
    has_mean = all(each.mean_file or each.mean_value for each in (a, b))
    return field.startswith("mean_") and has_mean and bool(a.mean_file) != bool(b.mean_file)


@finds("static", "transform-formula", "info")
def formula(subject: Subject) -> Iterator[Found]:
    """What each data layer computes, for the code that will use the net."""
    seen = set()
    for net in subject.nets():
        for _, layer in data_layers(net):
            text = _formula(layer, net.phase)
            if text not in seen:
                seen.add(text)
                yield f"{layer_place(layer)} in {net.phase}", text


def _formula(layer: Any, phase: str) -> str:
    param, name = layer.transform_param, layer.top[0] if layer.top else "data"
    x = "pixel"
    if param.mean_file:
        x = f"({x} - the mean in {param.mean_file})"
    elif param.mean_value:
        values = ", ".join(f"{value:g}" for value in param.mean_value)
        x = f"({x} - {values})" if len(param.mean_value) == 1 else f"({x} - [{values}])"
    if param.scale != 1:
        x = f"{x} * {param.scale:g}"
    crop = crop_of(param)
    parts = [f"{name} = {x}"]
    if any(crop):
        where = "at random" if phase == "TRAIN" else "in the centre"
        parts.append(f"cropped {where} to {crop[0]} x {crop[1]}")
    if param.mirror:
        parts.append("mirrored at random")
    return (
        f"{', '.join(parts)}, for pixels 0 to 255 in the channel order of the records (B, G, R if convert_imageset "
        "made them): write the same in deploy code, where pycaffe's Transformer computes (raw_scale * image - mean) * "
        f"input_scale: raw_scale 255 for load_image, input_scale {param.scale:g}"
    )


@finds("static", "random-transforms-apart", "warning")
def drawn_apart(subject: Subject) -> Iterator[Found]:
    """Label images that a data layer of their own crops or mirrors at random."""
    net = subject.train
    for i, layer in data_layers(net):
        param = layer.transform_param
        crops = any(crop_of(param))
        drawn = " and ".join(word for word, on in (("cropped", crops), ("mirrored", param.mirror)) if on)
        image = _image_of_label(net, i)
        if drawn and image is not None:
            yield (
                layer_place(layer),
                f"the labels are {drawn} at random here and the images in layer '{image.name}', each by its own "
                "random numbers, so labels do not belong to their pixels: remove crop and mirror from both, or "
                "write images and labels as channels of one record and separate them by Slice",
            )


def _image_of_label(net: PhaseNet, data: int) -> Any | None:
    """Return the data layer of the scores of a loss whose labels are the only top of data layer `data`, or None."""
    if len(net.param.layer[data].top) != 1:
        return None
    for i, loss in enumerate(net.param.layer):
        if is_loss(loss) and len(loss.bottom) > 1 and _origin(net, i, 1, through=PASSING) == data:
            image = _origin(net, i, 0)
            if image is not None and image != data:
                return net.param.layer[image]
    return None


def _origin(net: PhaseNet, layer: int, bottom: int, through: tuple[str, ...] = ()) -> int | None:
    """Return the layer without bottoms behind a bottom; None if layers of other types than `through`, if given, are
    between them."""
    for i in net.flow.before(layer, bottom):
        if not net.flow.sources[i]:
            return i
        if through and net.param.layer[i].type not in through:
            return None
    return None
