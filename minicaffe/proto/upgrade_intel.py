"""Upgrade what Intel's Caffe writes into one layer to the layers of Caffe's master branch.

There BatchNorm may include scale and shift, Convolution, InnerProduct and BatchNorm a ReLU, and Concat the Permute and
Flatten layers of its bottoms.
"""

from __future__ import annotations

from minicaffe.proto.caffe_pb2 import LayerParameter, NetParameter
from minicaffe.proto.upgrade_forks import free_name, replace_layers

#: the parameters of the layers with a `relu` of their own, by type
_WITH_RELU = {
    "Convolution": "convolution_param",
    "InnerProduct": "inner_product_param",
    "BatchNorm": "batch_norm_param",
}


def needs_batch_norm_upgrade(net: NetParameter) -> bool:
    """Whether a BatchNorm has Intel's fields for its scale and shift."""
    return any(_has_scale_fields(layer) for layer in net.layer)


def upgrade_batch_norm(net: NetParameter) -> None:
    """Give Intel's fields of each BatchNorm to NVIDIA's, which `upgrade_forks.upgrade_scale` makes a Scale layer of.

    In front of a Scale layer they have no effect, and are cleared: its own parameters are used there, too.
    """
    for index, layer in enumerate(net.layer):
        if not _has_scale_fields(layer):
            continue
        param = layer.batch_norm_param
        if _scale_behind(net, index) is None and (not param.HasField("use_weight_bias") or param.use_weight_bias):
            param.scale_bias = True
            if param.HasField("filler"):
                param.scale_filler.CopyFrom(param.filler)
        else:
            param.ClearField("bias_filler")
        param.ClearField("filler")
        param.ClearField("use_weight_bias")


def needs_relu_upgrade(net: NetParameter) -> bool:
    """Whether a layer has a ReLU of its own."""
    return any(_relu_of(layer) for layer in net.layer)


def upgrade_relu(net: NetParameter) -> None:
    """Put a ReLU layer "<layer>_relu" in place behind each layer with `relu`; of BatchNorm behind its Scale."""
    taken, behind = {layer.name for layer in net.layer}, {}
    for index, layer in enumerate(net.layer):
        if not (field := _relu_of(layer)):
            continue
        param = getattr(layer, field)
        relu = LayerParameter(name=free_name(f"{layer.name}_relu", taken), type="ReLU")
        relu.include.extend(layer.include)
        relu.exclude.extend(layer.exclude)
        scale = None
        if field == "batch_norm_param":
            scale = _scale_behind(net, index)
        elif param.negative_slope:
            relu.relu_param.negative_slope = param.negative_slope
        param.ClearField("relu")
        behind[index if scale is None else scale] = relu
    layers = []
    for index, layer in enumerate(net.layer):
        layers.append(layer)
        if index in behind:
            behind[index].bottom[:] = behind[index].top[:] = layer.top[:1]
            layers.append(behind[index])
    replace_layers(net, layers)


def needs_concat_upgrade(net: NetParameter) -> bool:
    """Whether a Concat includes the Permute and Flatten of its bottoms."""
    return any(layer.concat_param.per_fla_fuse for layer in net.layer)


def upgrade_concat(net: NetParameter) -> None:
    """Put Permute to (N, H, W, C) and Flatten before each Concat along axis 1 with `per_fla_fuse`, for each bottom.

    Along other axes the field has no effect, as in the fork.  The top is (N, K), there (N, K, 1, 1).
    """
    taken, layers = {layer.name for layer in net.layer}, []
    for layer in net.layer:
        param = layer.concat_param
        if param.per_fla_fuse:
            along = param.concat_dim if param.HasField("concat_dim") else param.axis
            for index in range(len(layer.bottom) if along == 1 else 0):
                layers += _flattened(layer, index, taken)
            param.ClearField("per_fla_fuse")
        layers.append(layer)
    replace_layers(net, layers)


def _flattened(concat: LayerParameter, index: int, taken: set[str]) -> list[LayerParameter]:
    """Return the Permute and the Flatten of bottom `index` of a Concat, which then reads their result."""
    permuted, flat = (free_name(f"{concat.name}_{step}{index}", taken) for step in ("perm", "flat"))
    rules = {"include": concat.include, "exclude": concat.exclude}
    permute = LayerParameter(name=permuted, type="Permute", bottom=[concat.bottom[index]], top=[permuted], **rules)
    permute.permute_param.order.extend([0, 2, 3, 1])
    concat.bottom[index] = flat
    return [permute, LayerParameter(name=flat, type="Flatten", bottom=[permuted], top=[flat], **rules)]


def _has_scale_fields(layer: LayerParameter) -> bool:
    """Whether a layer is a BatchNorm with one of Intel's fields; bias_filler is NVIDIA's, too."""
    param = layer.batch_norm_param
    return layer.type == "BatchNorm" and (param.HasField("filler") or param.HasField("use_weight_bias"))


def _scale_behind(net: NetParameter, index: int) -> int | None:
    """Return the index of the Scale layer that is the next to read a top of layer `index`; None if it is another."""
    tops = set(net.layer[index].top)
    for other in range(index + 1, len(net.layer)):
        layer = net.layer[other]
        if tops & set(layer.bottom):
            return other if layer.type == "Scale" and len(layer.bottom) == 1 else None
    return None


def _relu_of(layer: LayerParameter) -> str:
    """Return the parameter of a layer with its own ReLU; "" for any other layer."""
    field = _WITH_RELU.get(layer.type, "")
    return field if field and getattr(layer, field).relu else ""
