"""Which labels of a data layer are classes, and of how many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from minicaffe.checks.subject import PhaseNet
from minicaffe.core.flow import Value

#: Layers that read files, and the field that has their source.
SOURCES = {
    "Data": "data_param", "ImageData": "image_data_param", "HDF5Data": "hdf5_data_param",
    "WindowData": "window_data_param", "AnnotatedData": "data_param",
}  # fmt: skip
#: Layers whose bottom 1 holds class labels, and the field of their parameters that has the axis of the classes, if any.
CLASS_LAYERS = {
    "SoftmaxWithLoss": "softmax_param", "InfogainLoss": "infogain_loss_param", "Accuracy": "accuracy_param",
    "SoftmaxWithLossOHEM": "softmax_param", "MultinomialLogisticLoss": "", "HingeLoss": "",
}  # fmt: skip
#: Layers whose top has the channels of bottom 0.
_KEEP_CHANNELS = {
    "ReLU", "PReLU", "ELU", "Sigmoid", "TanH", "BNLL", "Power", "AbsVal", "Exp", "Log", "Swish", "Clip", "ReLU6",
    "Dropout", "SpatialDropout", "BatchNorm", "BN",
    "Scale", "Bias", "Softmax", "LRN", "MVN", "Pooling", "Eltwise", "Crop", "Interp",
    "Split",
}  # fmt: skip
_KEEP_LABELS = {"Split", "Flatten", "Reshape"}


@dataclass(frozen=True)
class ClassUse:
    """A layer that reads labels of a data layer as classes.

    layer: its LayerParameter.  top: index of the data layer's top.  columns: which of its axis 1; None: all.
    classes: number of classes, 0 to classes - 1; None if it is not known without building the net.
    ignored: its ignore_label, or None.
    """

    layer: Any
    top: int
    columns: tuple[int, int] | None
    classes: int | None
    ignored: int | None


def class_uses(net: PhaseNet, data: int) -> Iterator[ClassUse]:
    """Yield the layers of a net that read a top of layer `data` as class labels."""
    for i, layer in enumerate(net.param.layer):
        if layer.type not in CLASS_LAYERS or len(layer.bottom) < 2:
            continue
        found = _label_source(net, net.flow.sources[i][1])
        if found is not None and found[0].layer == data:
            param = layer.accuracy_param if layer.type == "Accuracy" else layer.loss_param
            ignored = param.ignore_label if param.HasField("ignore_label") else None
            yield ClassUse(layer, found[0].top, found[1], _classes(net, i), ignored)


def _label_source(net: PhaseNet, value: Value | None) -> tuple[Value, tuple[int, int] | None] | None:
    """Return the value from which a label comes, and which columns of it; None if it is computed."""
    columns = None
    while value is not None:
        layer, sources = net.param.layer[value.layer], net.flow.sources[value.layer]
        if layer.type == "Slice" and columns is None and layer.slice_param.axis == 1 and layer.slice_param.slice_point:
            points = [0, *layer.slice_param.slice_point, 1 << 31]
            columns = points[value.top], points[value.top + 1]
        elif layer.type not in _KEEP_LABELS:
            return (value, columns) if layer.type in SOURCES else None
        value = sources[0]
    return None


def _classes(net: PhaseNet, i: int) -> int | None:
    """Return the number of classes of a layer that reads scores: num_output of the layer that makes them, or None."""
    layer = net.param.layer[i]
    name = CLASS_LAYERS[layer.type]
    axis = getattr(layer, name).axis if name else 1
    for j in net.flow.before(i):
        maker = net.param.layer[j]
        if maker.type == "InnerProduct":
            return maker.inner_product_param.num_output if maker.inner_product_param.axis == axis else None
        if maker.type in ("Convolution", "Deconvolution"):
            return maker.convolution_param.num_output if axis == maker.convolution_param.axis == 1 else None
        if maker.type not in _KEEP_CHANNELS:
            return None
    return None
