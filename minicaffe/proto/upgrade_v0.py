"""Upgrade V0 layers, of files from Caffe's first months, to V1.

    layers { layer { name: "conv1" type: "conv" num_output: 8 kernelsize: 3 } bottom: "data" top: "conv1" }

One flat V0LayerParameter was used for all types, and padding was a separate layer before a convolution or pooling.
"""

from __future__ import annotations

import logging

from minicaffe.errors import PrototxtError, nearest
from minicaffe.proto.caffe_pb2 import NetParameter, V0LayerParameter, V1LayerParameter

log = logging.getLogger("minicaffe")

TYPES = {
    "accuracy": "ACCURACY",
    "bnll": "BNLL",
    "concat": "CONCAT",
    "conv": "CONVOLUTION",
    "data": "DATA",
    "dropout": "DROPOUT",
    "euclidean_loss": "EUCLIDEAN_LOSS",
    "flatten": "FLATTEN",
    "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT",
    "im2col": "IM2COL",
    "images": "IMAGE_DATA",
    "infogain_loss": "INFOGAIN_LOSS",
    "innerproduct": "INNER_PRODUCT",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
    "pool": "POOLING",
    "relu": "RELU",
    "sigmoid": "SIGMOID",
    "softmax": "SOFTMAX",
    "softmax_loss": "SOFTMAX_LOSS",
    "split": "SPLIT",
    "tanh": "TANH",
    "window_data": "WINDOW_DATA",
}

# V0 field -> {V0 type: V1 field}; "*" is any type.
FIELDS = {
    "num_output": {"conv": "convolution_param.num_output", "innerproduct": "inner_product_param.num_output"},
    "biasterm": {"conv": "convolution_param.bias_term", "innerproduct": "inner_product_param.bias_term"},
    "weight_filler": {"conv": "convolution_param.weight_filler", "innerproduct": "inner_product_param.weight_filler"},
    "bias_filler": {"conv": "convolution_param.bias_filler", "innerproduct": "inner_product_param.bias_filler"},
    "pad": {"conv": "convolution_param.pad", "pool": "pooling_param.pad"},
    "kernelsize": {"conv": "convolution_param.kernel_size", "pool": "pooling_param.kernel_size"},
    "group": {"conv": "convolution_param.group"},
    "stride": {"conv": "convolution_param.stride", "pool": "pooling_param.stride"},
    "pool": {"pool": "pooling_param.pool"},
    "dropout_ratio": {"dropout": "dropout_param.dropout_ratio"},
    "local_size": {"lrn": "lrn_param.local_size"},
    "alpha": {"lrn": "lrn_param.alpha"},
    "beta": {"lrn": "lrn_param.beta"},
    "k": {"lrn": "lrn_param.k"},
    "source": {
        "data": "data_param.source",
        "hdf5_data": "hdf5_data_param.source",
        "images": "image_data_param.source",
        "window_data": "window_data_param.source",
        "infogain_loss": "infogain_loss_param.source",
    },
    "scale": {"*": "transform_param.scale"},
    "meanfile": {"*": "transform_param.mean_file"},
    "batchsize": {
        "data": "data_param.batch_size",
        "hdf5_data": "hdf5_data_param.batch_size",
        "images": "image_data_param.batch_size",
        "window_data": "window_data_param.batch_size",
    },
    "cropsize": {"*": "transform_param.crop_size"},
    "mirror": {"*": "transform_param.mirror"},
    "rand_skip": {"data": "data_param.rand_skip", "images": "image_data_param.rand_skip"},
    "shuffle_images": {"images": "image_data_param.shuffle"},
    "new_height": {"images": "image_data_param.new_height"},
    "new_width": {"images": "image_data_param.new_width"},
    "new_num": {},
    "new_channels": {},
    "concat_dim": {"concat": "concat_param.concat_dim"},
    "det_fg_threshold": {"window_data": "window_data_param.fg_threshold"},
    "det_bg_threshold": {"window_data": "window_data_param.bg_threshold"},
    "det_fg_fraction": {"window_data": "window_data_param.fg_fraction"},
    "det_context_pad": {"window_data": "window_data_param.context_pad"},
    "det_crop_mode": {"window_data": "window_data_param.crop_mode"},
    "hdf5_output_param": {"hdf5_output": "hdf5_output_param"},
}


def needs_v0_upgrade(net: NetParameter) -> bool:
    """Whether any layer is written in the V0 form."""
    return any(layers.HasField("layer") for layers in net.layers)


def upgrade_v0(net: NetParameter) -> None:
    """Convert every V0 layer of `net` to a V1 layer, and fold padding layers into the layers that read them.

    PrototxtError for an unknown type, an unknown bottom, and a padding layer that cannot be folded.
    """
    upgraded = [upgrade_v0_layer(layers) for layers in fold_padding(net)]
    del net.layers[:]
    net.layers.extend(upgraded)


def fold_padding(net: NetParameter) -> list[V1LayerParameter]:
    """Return copies of a V0 net's layers without padding layers, whose `pad` is moved to the layers that read them.

    PrototxtError for an unknown bottom, and for a padding layer that cannot be folded.
    """
    producers: dict[str, V1LayerParameter | None] = dict.fromkeys(net.input)
    folded = []
    for layers in net.layers:
        layers = _copy(layers)
        for i, blob in enumerate(layers.bottom):
            if blob not in producers:
                raise PrototxtError(f"layer '{layers.layer.name}': bottom '{blob}' is produced by no earlier layer")
            source = producers[blob]
            if source is not None and source.layer.type == "padding":
                _fold(source, layers, i)
        producers.update(dict.fromkeys(layers.top, layers))
        if layers.layer.type != "padding":
            folded.append(layers)
    return folded


def _fold(padding: V1LayerParameter, layers: V1LayerParameter, i: int) -> None:
    place = f"layer '{layers.layer.name}'"
    if layers.layer.type not in ("conv", "pool"):
        raise PrototxtError(f"{place}: a padding layer can feed only conv and pool, got {layers.layer.type}")
    counts = len(padding.bottom), len(padding.top), len(layers.bottom)
    if counts != (1, 1, 1):
        raise PrototxtError(
            f"{place}: folding the padding layer '{padding.layer.name}' into it takes one bottom and "
            f"one top of the former and one bottom of the latter, got {counts}"
        )
    layers.layer.pad = padding.layer.pad
    layers.bottom[i] = padding.bottom[0]


def upgrade_v0_layer(layers: V1LayerParameter) -> V1LayerParameter:
    """Return the V1 layer of a V0 layer; a V1 layer is returned unchanged.

    Fields that the type does not have are dropped with a warning, as in Caffe.  PrototxtError for an unknown type.
    """
    if not layers.HasField("layer"):
        return layers
    old = layers.layer
    new = V1LayerParameter(bottom=layers.bottom, top=layers.top)
    for field, value in old.ListFields():
        if field.name == "type":
            new.type = V1LayerParameter.LayerType.Value(_v1_type(old))
        elif field.name in FIELDS:
            target = FIELDS[field.name].get("*") or FIELDS[field.name].get(old.type)
            if target:
                _assign(new, target, value)
            else:
                log.warning("layer '%s': a %s layer has no %s; ignored", old.name, old.type, field.name)
        elif field.name == "name":
            new.name = value
        else:  # blobs, blobs_lr, weight_decay
            getattr(new, field.name).extend(value)
    return new


def _v1_type(old: V0LayerParameter) -> str:
    if old.type not in TYPES:
        raise PrototxtError(f"layer '{old.name}' has the unknown V0 type \"{old.type}\"{nearest(old.type, TYPES)}")
    return TYPES[old.type]


def _assign(message: V1LayerParameter, path: str, value) -> None:
    """Set the field at a dotted path: a scalar, the first element of a repeated scalar, or a message."""
    *parents, name = path.split(".")
    for parent in parents:
        message = getattr(message, parent)
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None:
        getattr(message, name).CopyFrom(value)
    elif isinstance(getattr(message, name), (int, float, str)):
        setattr(message, name, value)
    else:
        getattr(message, name).append(value)


def _copy(layers: V1LayerParameter) -> V1LayerParameter:
    copy = V1LayerParameter()
    copy.CopyFrom(layers)
    return copy
