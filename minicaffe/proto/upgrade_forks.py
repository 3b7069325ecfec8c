"""Upgrade the files of forks to the format of Caffe's master branch.

NVIDIA's BatchNorm includes scale and shift, as blobs 3 and 4 after mean, variance and factor; master has a Scale layer
after the BatchNorm. NVIDIA also stores blobs as raw bytes, and has hints for mixed precision. This module also lists
the fields of forks that are parsed but not applied, for a warning in the log. `upgrade_renamed` has the types and
fields with other names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minicaffe.errors import PrototxtError
from minicaffe.limits import MAX_COUNT
from minicaffe.proto.caffe_pb2 import (
    DOUBLE,
    FLOAT,
    FLOAT16,
    BlobProto,
    LayerParameter,
    NetParameter,
    SolverParameter,
    Type,
)
from minicaffe.proto.upgrade_renamed import has_grid

CUDNN_MIN_EPSILON = 1e-5  # cuDNN replaces a smaller eps by this
BATCH_NORM_FIELDS = ("scale_filler", "bias_filler", "scale_bias")
NET_HINTS = (
    "default_backward_type",
    "default_forward_math",
    "default_backward_math",
    "global_grad_scale",
    "global_grad_scale_adaptive",
    "default_conv_algos_override",
    "reduce_buckets",
    "default_cudnn_math_override",
    "eltwise_mem_sharing",
)
LAYER_HINTS = ("backward_type", "forward_math", "backward_math", "cudnn_math_override")
# Fields of layers, and of nets, that would change results but are not implemented.
UNUSED_FIELDS = (("batch_norm_param", "stats_batch_size"),)
UNUSED_NET_FIELDS = ("bn_stats_batch_size",)
FIRST_FORK_NUMBER = 7000  # the smallest field number of extensions/ in SolverParameter
#: those of them that are implemented
APPLIED_SOLVER_FIELDS = (
    "rampup_interval",
    "rampup_lr",
    "warmup_iter",
    "warmup_start_lr",
    "stageiter",
    "stagelr",
    "more_device_id",
    "larc",
    "larc_policy",
    "larc_eta",
    "eval_type",
    "ap_version",
    "show_per_class_result",
)
LEGACY_SHAPE = ("num", "channels", "height", "width")
RAW_TYPES = {DOUBLE: "<f8", FLOAT: "<f4", FLOAT16: "<f2"}


# ------------------------------------------------------------------------------------------------------- raw blobs


def needs_raw_upgrade(net: NetParameter) -> bool:
    """Whether a blob stores its values in raw_data or raw_diff."""
    return any(_raw_fields(blob) for layer in net.layer for blob in layer.blobs)


def upgrade_raw(net: NetParameter) -> None:
    """Convert raw_data and raw_diff of every blob to data and diff.

    PrototxtError for another type than FLOAT, FLOAT16 or DOUBLE, and for an incomplete last value.
    """
    for layer in net.layer:
        for blob in layer.blobs:
            for field in _raw_fields(blob):
                _unpack(layer.name, blob, field)


def _raw_fields(blob: BlobProto) -> list[str]:
    return [field for field in ("raw_data", "raw_diff") if blob.HasField(field)]


def _unpack(layer_name: str, blob: BlobProto, field: str) -> None:
    kind = getattr(blob, f"{field}_type")
    if kind not in RAW_TYPES:
        raise PrototxtError(
            f"layer '{layer_name}': expected {field} of type FLOAT, FLOAT16 or DOUBLE, got {Type.Name(kind)}"
        )
    try:
        values = np.frombuffer(getattr(blob, field), RAW_TYPES[kind])
    except ValueError:
        raise PrototxtError(
            f"layer '{layer_name}': {len(getattr(blob, field))} bytes of {field} are no whole number "
            f"of {Type.Name(kind)}"
        ) from None
    target = field.removeprefix("raw_")
    getattr(blob, f"double_{target}" if kind == DOUBLE else target).extend(values)
    blob.ClearField(field)
    blob.ClearField(f"{field}_type")


# -------------------------------------------------------------------------------------------- BatchNorm, 1xCx1x1


def needs_flat_upgrade(net: NetParameter) -> bool:
    """Whether a BatchNorm's blobs have four axes."""
    return any(_four_axes(blob) for layer in net.layer if layer.type == "BatchNorm" for blob in layer.blobs)


def upgrade_flat(net: NetParameter) -> None:
    """Reshape the blobs of every BatchNorm from 1xCx1x1 to (C,), the shape in master; PrototxtError for more numbers
    than a blob holds."""
    for layer in net.layer:
        for blob in layer.blobs if layer.type == "BatchNorm" else ():
            if _four_axes(blob):
                dims = blob.shape.dim or [getattr(blob, field) for field in LEGACY_SHAPE]
                count = math.prod(dims)
                if abs(count) > MAX_COUNT:
                    raise PrototxtError(
                        f"layer '{layer.name}': a blob holds at most {MAX_COUNT} numbers, got the shape {tuple(dims)}"
                    )
                for field in LEGACY_SHAPE:
                    blob.ClearField(field)
                blob.shape.dim[:] = [count]


def _four_axes(blob: BlobProto) -> bool:
    return len(blob.shape.dim) == 4 or any(blob.HasField(field) for field in LEGACY_SHAPE)


# ------------------------------------------------------------------------------------------- BatchNorm with scale


def needs_scale_upgrade(net: NetParameter) -> bool:
    """Whether a BatchNorm has its own scale and shift, by its fields or by its five blobs."""
    return any(_has_scale(layer) for layer in net.layer)


def upgrade_scale(net: NetParameter) -> None:
    """Split each BatchNorm that has scale and shift into BatchNorm and an in-place Scale named "<layer>_scale".

    Applies to prototxts and weights: the first three of five blobs stay, the last two are moved to the Scale, and so
    are their `param` fields.  The Scale is marked by `of_batch_norm`, so that weights are matched to it independently
    of its name.
    """
    taken = {layer.name for layer in net.layer if not _has_scale(layer)}
    layers = []
    for layer in net.layer:
        layers.append(layer)
        if _has_scale(layer):
            layers.append(_split_off_scale(layer, free_name(f"{layer.name}_scale", taken)))
    replace_layers(net, layers)


def replace_layers(net: NetParameter, layers: list[LayerParameter]) -> None:
    """Make copies of `layers`, which may be those of the net, its layers."""
    copies = NetParameter(layer=layers).layer
    del net.layer[:]
    net.layer.extend(copies)


def clear_marks(net: NetParameter) -> None:
    """Clear the fields of upgrades that only minicaffe has, so that the original can read the net as prototxt."""
    for layer in net.layer:
        if layer.HasField("scale_param"):
            layer.scale_param.ClearField("of_batch_norm")
        if layer.HasField("warp_param") and has_grid(net):
            layer.ClearField("warp_param")


def _has_scale(layer: LayerParameter) -> bool:
    param = layer.batch_norm_param
    return layer.type == "BatchNorm" and (
        len(layer.blobs) == 5 or param.scale_bias or any(param.HasField(f) for f in ("scale_filler", "bias_filler"))
    )


def free_name(name: str, taken: set[str]) -> str:
    """Return the name, with underscores behind it while it is taken."""
    while name in taken:
        name += "_"
    return name


def _split_off_scale(layer: LayerParameter, name: str) -> LayerParameter:
    """Move scale and shift of a BatchNorm layer to a new Scale layer, and return that."""
    scale = LayerParameter(
        name=name,
        type="Scale",
        bottom=layer.top,
        top=layer.top,
        include=layer.include,
        exclude=layer.exclude,
        loss_weight=layer.loss_weight,
    )
    scale.scale_param.bias_term = scale.scale_param.of_batch_norm = True
    if layer.HasField("phase"):
        scale.phase = layer.phase
    param = layer.batch_norm_param
    if param.HasField("scale_filler"):
        scale.scale_param.filler.CopyFrom(param.scale_filler)
    if param.HasField("bias_filler"):
        scale.scale_param.bias_filler.CopyFrom(param.bias_filler)
    for field in BATCH_NORM_FIELDS:
        param.ClearField(field)
    if param.eps < CUDNN_MIN_EPSILON:
        param.eps = CUDNN_MIN_EPSILON
    layer.ClearField("loss_weight")
    _divide_params(layer, scale)
    _divide_blobs(layer, scale)
    return scale


def _divide_params(layer: LayerParameter, scale: LayerParameter) -> None:
    """Divide `param`, in the order of the blobs: three statistics, then scale and shift.

    Four `param` have the older order without a factor: scale, shift, mean, variance.
    """
    specs = LayerParameter(param=layer.param).param
    statistics, learned = ([], specs[:2]) if len(specs) == 4 else (specs[:3], specs[3:])
    for spec in statistics:
        spec.lr_mult = spec.decay_mult = 0
    layer.ClearField("param")
    layer.param.extend(statistics)
    scale.param.extend(learned)


def _divide_blobs(layer: LayerParameter, scale: LayerParameter) -> None:
    """Divide five blobs: mean, variance, factor | scale, shift; in older files scale, shift, factor, mean, variance."""
    if len(layer.blobs) != 5:
        return
    blobs = LayerParameter(blobs=layer.blobs).blobs
    order = order_of_five(*((blob.data or blob.double_data) for blob in (blobs[1], blobs[4])))
    layer.ClearField("blobs")
    layer.blobs.extend(blobs[i] for i in order[:3])
    scale.blobs.extend(blobs[i] for i in order[3:])


def order_of_five(second: Sequence[float], last: Sequence[float]) -> tuple[int, ...]:
    """Return the indices of mean, variance, factor, scale and shift among a BatchNorm's five blobs.

    second, last: the values of blobs 1 and 4, one of which is the variance.
    """
    older = min(second, default=0.0) < 0 <= min(last, default=0.0)  # a variance is never negative
    return (3, 4, 2, 0, 1) if older else (0, 1, 2, 3, 4)


# ----------------------------------------------------------------------------------------------------------- hints


def precision_hints(net: NetParameter) -> list[str]:
    """Return the names of NVIDIA's precision hints in the net that are accepted and have no effect.

    Those of forward types have one (`minicaffe.core.precision`).
    """
    hints = [field for field in NET_HINTS if net.HasField(field)]
    hints += [field for field in LAYER_HINTS if any(layer.HasField(field) for layer in net.layer)]
    return hints


def unused_fields(net: NetParameter) -> list[str]:
    """Return the fields of forks, as "param.field", that the net sets, that change results and are not implemented."""
    return [field for field in UNUSED_NET_FIELDS if _differs(net, field)] + [
        f"{param}.{field}"
        for param, field in UNUSED_FIELDS
        if any(_differs(getattr(layer, param), field) for layer in net.layer if layer.HasField(param))
    ]


def unused_solver_fields(solver: SolverParameter) -> list[str]:
    """Return the names of forks' fields that the solver sets to other values than the default, and are not applied."""
    given = [field.name for field, _ in solver.ListFields() if field.number >= FIRST_FORK_NUMBER]
    return [name for name in given if name not in APPLIED_SOLVER_FIELDS and _differs(solver, name)]


def _differs(message, field: str) -> bool:
    value, default = getattr(message, field), message.DESCRIPTOR.fields_by_name[field].default_value
    return bool(value) if isinstance(default, list) else value != default
