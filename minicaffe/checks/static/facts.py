"""Facts about LayerParameters that several checks need: parameters, fillers, losses, data layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minicaffe.checks.subject import PhaseNet
from minicaffe.core.calls import own_message
from minicaffe.core.layer import Layer
from minicaffe.core.registry import facts_of
from minicaffe.layers.shared.base_data import BaseData
from minicaffe.layers.shared.loss import LossLayer
from minicaffe.layers.shared.recurrent import Recurrent
from minicaffe.proto.caffe_pb2 import ParamSpec

#: the layers whose output is their input, rearranged or with some values set to 0
PASSING = ("Dropout", "SpatialDropout", "Reshape", "Flatten", "Split", "Permute", "Crop", "Slice")


def layer_place(layer: Any) -> str:
    """Return the place of a finding in a layer."""
    return f"layer '{layer.name}'"


def weight_field(layer: Any) -> str:
    """Return the name of the field with the weight_filler of a layer that multiplies by weights; "" for others."""
    facts = facts_of(layer.type)
    learns = facts.family == "weights" and facts.param_shapes is not Layer.param_shapes
    return own_message(layer.type) or "" if learns and not _reads_weights(layer) else ""


def _reads_weights(layer: Any) -> bool:
    """Whether a bottom holds the weights that others of the type learn."""
    labels = layer.inner_distance_param.update_center_only
    return layer.type in ("InnerProduct", "InnerDistance") and len(layer.bottom) > 1 + labels


def has_weights(layer: Any) -> bool:
    """Whether a layer multiplies by weights that it learns."""
    return bool(weight_field(layer))


def reads_images(layer: Any) -> bool:
    """Whether a layer reads labelled images, and a transform_param."""
    return issubclass(facts_of(layer.type), BaseData)


def is_recurrent(layer: Any) -> bool:
    """Whether a layer computes sequences step by step."""
    return issubclass(facts_of(layer.type), Recurrent)


def number_of_params(layer: Any) -> int:
    """Return the number of parameter blobs that the solver updates; of an unknown type, of its `param` messages."""
    if is_recurrent(layer):
        return 5 if layer.type == "RNN" else 3
    if layer.type == "InnerProduct":
        return max(0, 2 - len(layer.bottom)) + (layer.inner_product_param.bias_term and len(layer.bottom) < 3)
    if layer.type == "InnerDistance":
        return int(not _reads_weights(layer))
    if field := weight_field(layer):
        return 1 + getattr(getattr(layer, field), "bias_term", False)
    if layer.type == "Scale":
        return (len(layer.bottom) == 1) + layer.scale_param.bias_term
    if layer.type == "BatchNorm":
        return 0
    if layer.type == "Bias":
        return int(len(layer.bottom) == 1)
    if layer.type in ("PReLU", "Parameter", "CenterLoss"):
        return 1
    if layer.type == "Normalize":
        return int(layer.HasField("norm_param"))
    return 2 if layer.type == "BN" else len(layer.param)


def params_of(layer: Any) -> list[Any]:
    """Return the ParamSpec of each parameter that the solver updates, the default one where none is given."""
    return [layer.param[i] if i < len(layer.param) else ParamSpec() for i in range(number_of_params(layer))]


def is_loss(layer: Any) -> bool:
    """Whether an output of the layer is part of the loss."""
    if layer.loss_weight:
        return any(layer.loss_weight)
    return issubclass(facts_of(layer.type), LossLayer)


def last_before(net: PhaseNet, layer: int, bottom: int = 0) -> Any | None:
    """Return the LayerParameter that computes a bottom, behind layers that only pass values; None for an input."""
    for i in net.flow.before(layer, bottom):
        if net.param.layer[i].type not in PASSING:
            return net.param.layer[i]
    return None


def data_layers(net: PhaseNet) -> Iterator[tuple[int, Any]]:
    """Yield (index, LayerParameter) of the layers that read transform_param."""
    return net.layers_with(reads_images)


def batch_size(net: PhaseNet) -> int:
    """Return the batch size of the first data layer of a net; 0 if it has none of a known size."""
    for layer in net.param.layer:
        for field in ("data_param", "image_data_param", "hdf5_data_param", "window_data_param", "memory_data_param"):
            if layer.HasField(field) and getattr(layer, field).batch_size:
                return getattr(layer, field).batch_size
        for field in ("input_param", "dummy_data_param"):
            shapes = getattr(layer, field).shape
            if shapes and shapes[0].dim:
                return shapes[0].dim[0]
    return 0
