"""Upgrade layers of forks whose types or fields have another name, or another meaning, in master or in other forks.

FlowNet 2.0 has Eltwise layers with one bottom; DeepLab says hole for the dilation; in HED's and RCF's nets two types of
master compute something else; LiteFlowNet and PWC-Net have different layers of the name Warp, MS-CNN and YOLO v1 of the
name DetectionLoss.
"""

from __future__ import annotations

from minicaffe.errors import PrototxtError
from minicaffe.proto.caffe_pb2 import EltwiseParameter, LayerParameter, NetParameter

# ------------------------------------------------------------------------------------------- Eltwise of one bottom


def needs_factor_upgrade(net: NetParameter) -> bool:
    """Whether an Eltwise has one bottom, and so a sum of one term: FlowNet 2.0's way to multiply by a number."""
    return any(_is_factor(layer) for layer in net.layer)


def upgrade_factor(net: NetParameter) -> None:
    """Replace each Eltwise of one bottom by a Power with its coefficient as scale."""
    for layer in net.layer:
        if _is_factor(layer):
            layer.type = "Power"
            layer.power_param.scale = layer.eltwise_param.coeff[0] if layer.eltwise_param.coeff else 1
            layer.ClearField("eltwise_param")


def _is_factor(layer: LayerParameter) -> bool:
    param = layer.eltwise_param
    return (
        layer.type == "Eltwise"
        and len(layer.bottom) == 1
        and param.operation == EltwiseParameter.SUM
        and len(param.coeff) <= 1
    )


# ------------------------------------------------------------------------------------------------------------ hole

HOLES = ("hole", "hole_h", "hole_w")


def needs_hole_upgrade(net: NetParameter) -> bool:
    """Whether a layer has DeepLab's name of the dilation."""
    return any(layer.convolution_param.HasField(field) for layer in net.layer for field in HOLES)


def upgrade_hole(net: NetParameter) -> None:
    """Convert hole, or hole_h and hole_w, to dilation; PrototxtError for a layer with both."""
    for layer in net.layer:
        param = layer.convolution_param
        if not any(map(param.HasField, HOLES)):
            continue
        if param.dilation:
            raise PrototxtError(f"layer '{layer.name}': expected either dilation or hole, got both")
        separate = param.HasField("hole_h") or param.HasField("hole_w")
        param.dilation.extend([param.hole_h, param.hole_w] if separate else [param.hole])
        for field in HOLES:
            param.ClearField(field)


# ----------------------------------------------------------------------------------------------------------- edges


def needs_edge_upgrade(net: NetParameter) -> bool:
    """Whether a net of HED or RCF has losses that do not state class_balanced, or Crop layers without an offset."""
    return _of_edges(net) and any(_plain_loss(layer) or _plain_crop(layer) for layer in net.layer)


def upgrade_edges(net: NetParameter) -> None:
    """Set class_balanced in the SigmoidCrossEntropyLoss layers of a net of HED or RCF; its Crop layers without
    crop_param become AutoCrop.

    In these forks the types of master compute that.  Their nets have an ImageLabelmapData layer without `normalize`,
    which belongs to DSS, a fork without these changes.
    """
    for layer in net.layer:
        if _plain_loss(layer):
            layer.loss_param.class_balanced = True
        elif _plain_crop(layer):
            layer.type = "AutoCrop"


def _of_edges(net: NetParameter) -> bool:
    return any(
        layer.type == "ImageLabelmapData" and not layer.image_data_param.HasField("normalize") for layer in net.layer
    )


def _plain_loss(layer: LayerParameter) -> bool:
    return layer.type == "SigmoidCrossEntropyLoss" and not layer.loss_param.HasField("class_balanced")


def _plain_crop(layer: LayerParameter) -> bool:
    return layer.type == "Crop" and not layer.HasField("crop_param")


# ------------------------------------------------------------------------------------------------------------ Warp


def needs_positions_upgrade(net: NetParameter) -> bool:
    """Whether a Warp layer is LiteFlowNet's, and not marked: in a net with a Grid layer."""
    return has_grid(net) and any(_unmarked_warp(layer) for layer in net.layer)


def upgrade_positions(net: NetParameter) -> None:
    """Mark Warp layers as LiteFlowNet's, which read positions where PWC-Net's read displacements."""
    for layer in net.layer:
        if _unmarked_warp(layer):
            layer.warp_param.absolute = True


def has_grid(net: NetParameter) -> bool:
    """Whether a net has a Grid layer, as LiteFlowNet's have."""
    return any(layer.type == "Grid" for layer in net.layer)


def _unmarked_warp(layer: LayerParameter) -> bool:
    return layer.type == "Warp" and not layer.warp_param.HasField("absolute")


# ------------------------------------------------------------------------------------------------------- other names


def needs_names_upgrade(net: NetParameter) -> bool:
    """Whether a layer has a field, or is of a type, that a fork has under the name of another one."""
    return any(
        layer.data_param.HasField("random_order") or _has_label(layer) or _is_map_loss(layer) or _gives_losses(layer)
        for layer in net.layer
    )


def upgrade_names(net: NetParameter) -> None:
    """Give random_order of data_param (Tongcheng) to shuffle, has_label of image_data_param (DeepLab) to label_type.

    MS-CNN's DetectionLoss, which has cls_num, becomes MapDetectionLoss; DetectionLoss is YOLO v1's.  Cascade R-CNN's
    SoftmaxWithLoss with three tops becomes SoftmaxWithLossOHEM.
    """
    for layer in net.layer:
        if layer.data_param.HasField("random_order"):
            layer.data_param.shuffle = layer.data_param.random_order
            layer.data_param.ClearField("random_order")
        if _has_label(layer):
            if not layer.image_data_param.has_label:
                layer.image_data_param.label_type = layer.image_data_param.NONE
            layer.image_data_param.ClearField("has_label")
        if _is_map_loss(layer):
            layer.type = "MapDetectionLoss"
        if _gives_losses(layer):
            layer.type = "SoftmaxWithLossOHEM"


def _is_map_loss(layer: LayerParameter) -> bool:
    return layer.type == "DetectionLoss" and layer.detection_loss_param.HasField("cls_num")


def _gives_losses(layer: LayerParameter) -> bool:
    return layer.type == "SoftmaxWithLoss" and len(layer.top) > 2


def _has_label(layer: LayerParameter) -> bool:
    return layer.image_data_param.HasField("has_label")
