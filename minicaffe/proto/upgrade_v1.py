"""Upgrade V1 layers, of files from 2013-12 to 2014-11, to V2, and fields that were moved later.

layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 }
"""

from __future__ import annotations

from minicaffe.errors import PrototxtError
from minicaffe.proto.caffe_pb2 import LayerParameter, NetParameter, ParamSpec, V1LayerParameter

TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BN": "BN",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "CONVOLUTION3D": "Convolution3D",
    "CROP": "Crop",
    "DECONVOLUTION": "Deconvolution",
    "DECONVOLUTION3D": "Deconvolution3D",
    "DATA": "Data",
    "DENSE_IMAGE_DATA": "DenseImageData",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "ELTWISE": "Eltwise",
    "ELTWISE_ACCURACY": "Accuracy",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "IMAGE_SEG_DATA": "ImageSegData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "INTERP": "Interp",
    "LRN": "LRN",
    "MAT_WRITE": "MatWrite",
    "MEMORY_DATA": "MemoryData",
    "MULTI_STAGE_MEANFIELD": "MultiStageMeanfield",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "PADDING": "Padding",
    "POOLING": "Pooling",
    "POOLING3D": "Pooling3D",
    "POWER": "Power",
    "RELU": "ReLU",
    "SEG_ACCURACY": "SegAccuracy",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "SLICE": "Slice",
    "TANH": "TanH",
    "UNPOOLING": "Unpooling",
    "VIDEO_DATA": "VideoData",
    "VIDEO_SEGMENTATION_DATA": "VideoSegmentationData",
    "VIDEO_WITH_VOXEL_TRUTH_DATA": "VideoWithVoxelTruthData",
    "VOXEL_SOFTMAX": "Softmax",
    "VOXEL_SOFTMAX_LOSS": "SoftmaxWithLoss",
    "WINDOW_DATA": "WindowData",
    "WINDOW_SEG_DATA": "WindowSegData",
    "THRESHOLD": "Threshold",
}

# V1 repeated field, one value per parameter blob -> the field of ParamSpec that replaced it.
PARAM_FIELDS = {"param": "name", "blob_share_mode": "share_mode", "blobs_lr": "lr_mult", "weight_decay": "decay_mult"}

#: V1 fields of forks -> the fields of LayerParameter that they become
RENAMED = {"eltwise_accuracy_param": "accuracy_param", "softmaxloss_param": "loss_param"}
#: fields of V1 layers that only say which weights a layer takes, and are left out
HINTS = ("strict_dim",)

DATA_PARAMS = {
    "DATA": "data_param",
    "IMAGE_DATA": "image_data_param",
    "VIDEO_DATA": "image_data_param",
    "VIDEO_SEGMENTATION_DATA": "image_data_param",
    "VIDEO_WITH_VOXEL_TRUTH_DATA": "image_data_param",
    "WINDOW_DATA": "window_data_param",
}
TRANSFORM_FIELDS = ("scale", "mean_file", "crop_size", "mirror")


# --------------------------------------------------------------------------------- scale, mean_file, crop_size, mirror


def needs_data_upgrade(net: NetParameter) -> bool:
    """Whether a V1 data layer has transformation fields outside transform_param."""
    return any(_misplaced(layers) for layers in net.layers)


def upgrade_data(net: NetParameter) -> None:
    """Move the transformation fields of V1 data layers into transform_param.

    The same fields in the data_param of a V2 layer are ignored, as in Caffe; `stray_fields` lists them.
    """
    for layers in net.layers:
        for field in _misplaced(layers):
            old = getattr(layers, DATA_PARAMS[_type_name(layers)])
            setattr(layers.transform_param, field, getattr(old, field))
            old.ClearField(field)


def stray_fields(net: NetParameter) -> list[str]:
    """Return the transformation fields outside transform_param in V2 layers, as "param.field"; they have no effect."""
    stray = {
        f"{param}.{field}" for layer in net.layer for param in DATA_PARAMS.values() for field in _given(layer, param)
    }
    return sorted(stray - {"window_data_param.scale"})  # the only one that Caffe reads


def _misplaced(layers: V1LayerParameter) -> list[str]:
    param = DATA_PARAMS.get(_type_name(layers))
    return _given(layers, param) if param else []


def _given(layer: LayerParameter | V1LayerParameter, param: str) -> list[str]:
    """Return the transformation fields that are set in `param`, one of DATA_PARAMS."""
    return [field for field in TRANSFORM_FIELDS if layer.HasField(param) and getattr(layer, param).HasField(field)]


# ------------------------------------------------------------------------------------------------- layers -> layer


def needs_v1_upgrade(net: NetParameter) -> bool:
    """Whether the net has layers in the field `layers`."""
    return len(net.layers) > 0


def upgrade_v1(net: NetParameter) -> None:
    """Convert `layers` to `layer`.  PrototxtError when the net has both."""
    if net.layer:
        raise PrototxtError(
            f"net '{net.name}': expected either layer or layers, got both: layer "
            f"'{net.layer[0].name}' and layers '{net.layers[0].name}'"
        )
    for layers in net.layers:
        upgrade_v1_layer(layers, net.layer.add())
    del net.layers[:]


def upgrade_v1_layer(old: V1LayerParameter, new: LayerParameter) -> None:
    """Fill `new` with the V1 layer `old`."""
    for field, value in old.ListFields():
        if field.name == "type":
            new.type = TYPES[_type_name(old)]
        elif field.name in HINTS:
            continue
        elif field.name in PARAM_FIELDS:
            for i, element in enumerate(value):
                setattr(_param(new, i), PARAM_FIELDS[field.name], element)
        elif field.name == "name":
            new.name = value
        elif field.message_type is None or field.name in ("include", "exclude", "blobs"):
            getattr(new, field.name).extend(value)
        else:
            getattr(new, RENAMED.get(field.name, field.name)).CopyFrom(value)
    if new.HasField("image_data_param"):
        _move_fields_of_c3d(new)


def _move_fields_of_c3d(layer: LayerParameter) -> None:
    """Move mean_value to transform_param, and a VideoData's image_data_param to video_data_param."""
    param = layer.image_data_param
    if param.HasField("mean_value"):
        layer.transform_param.mean_value.append(param.mean_value)
        param.ClearField("mean_value")
    if layer.type == "VideoData":
        for field, value in param.ListFields():
            setattr(layer.video_data_param, field.name, value)
        layer.ClearField("image_data_param")


def _param(layer: LayerParameter, i: int) -> ParamSpec:
    while len(layer.param) <= i:
        layer.param.add()
    return layer.param[i]


def _type_name(layers: V1LayerParameter) -> str:
    return V1LayerParameter.LayerType.Name(layers.type)


# ----------------------------------------------------------------------------------- input, input_shape, input_dim


def needs_input_upgrade(net: NetParameter) -> bool:
    """Whether the net declares its inputs in fields instead of an Input layer."""
    return len(net.input) > 0


def upgrade_input(net: NetParameter) -> None:
    """Convert `input` fields to a layer of type Input, named "input", before all others.

    Inputs without any shape are dropped, as in Caffe, so layers that read them fail with an unknown bottom.
    PrototxtError if there are shapes, but not one input_shape or four input_dim per input.
    """
    shapes = _input_shapes(net)
    if shapes:
        layer = LayerParameter(name="input", type="Input", top=net.input)
        for dims in shapes:
            layer.input_param.shape.add().dim.extend(dims)
        others = list(net.layer)
        del net.layer[:]
        net.layer.extend([layer, *others])
    for field in ("input", "input_shape", "input_dim"):
        net.ClearField(field)


def _input_shapes(net: NetParameter) -> list[list[int]]:
    count = len(net.input)
    if net.input_shape:
        if len(net.input_shape) != count:
            raise PrototxtError(
                f"net '{net.name}': expected one input_shape for each of {count} inputs, got {len(net.input_shape)}"
            )
        return [list(shape.dim) for shape in net.input_shape]
    if len(net.input_dim) not in (0, 4 * count):
        raise PrototxtError(
            f"net '{net.name}': expected four input_dim for each of {count} inputs, got {len(net.input_dim)}"
        )
    return [list(net.input_dim[i : i + 4]) for i in range(0, len(net.input_dim), 4)]


# ------------------------------------------------------------------------------------------------------ BatchNorm


def needs_batch_norm_upgrade(net: NetParameter) -> bool:
    """Whether a BatchNorm has exactly three `param`, not all with multipliers of 0."""
    return any(not _frozen(spec) for layer in net.layer for spec in _statistics(layer))


def upgrade_batch_norm(net: NetParameter) -> None:
    """Set lr_mult and decay_mult to 0 if a BatchNorm has exactly three `param`; names and share modes are unchanged.

    Before 2017 the user had to set them, so files contain various values.
    """
    for layer in net.layer:
        for spec in _statistics(layer):
            spec.lr_mult = spec.decay_mult = 0


def _statistics(layer: LayerParameter):
    return layer.param if layer.type == "BatchNorm" and len(layer.param) == 3 else ()


def _frozen(spec: ParamSpec) -> bool:
    return spec.lr_mult == 0 and spec.decay_mult == 0
