"""Small nets in the form of the public ports of YOLO: v1, YOLO9000 with a passthrough, MobileNet-YOLOv3.

Each function returns a net over the inputs `data` (N, 3, H, W) and `label`: with a loss, or its detections.
"""

from __future__ import annotations

from typing import Any

from minicaffe.models.zoo.blocks import XAVIER, conv_bn, inputs
from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L

ANCHORS = {"biases": [8, 8, 14, 14, 22, 22, 30, 30]}  #: of YOLOv3, in pixels
CELLS = 3  #: of YOLO v1


def _start(shape: tuple[int, ...], label: tuple[int, ...]) -> NetSpec:
    n = NetSpec()
    inputs(n, shape, training=False)
    n.label = L.Input(shape=dict(dim=label))
    return n


def _downward(n: NetSpec, first: int, last: int, x: Any, width: int) -> Any:
    """Convolutions of stride 2, each with twice the channels."""
    for i in range(first, last):
        x = conv_bn(n, f"conv{i}", x, width << (i - first), 3, pad=1, stride=2)
    return x


def _map(n: NetSpec, name: str, x: Any, outputs: int) -> Any:
    n[name] = L.Convolution(x, num_output=outputs, kernel_size=1, **XAVIER)
    return n[name]


def yolov1(shape: tuple[int, ...], classes: int, found: bool = False):
    """yeahkun's net: an InnerProduct predicts all cells; EvalDetection compares."""
    n = _start(shape, (shape[0], 7 * CELLS**2))
    x = _downward(n, 1, 4, n.data, 8)
    n.regression = L.InnerProduct(x, num_output=CELLS**2 * (classes + 10), **XAVIER)
    cells = dict(side=CELLS, num_class=classes, num_object=2, sqrt=True, constriant=True)
    if found:
        n.eval_det = L.EvalDetection(n.regression, n.label, n.data, eval_detection_param=dict(cells, nms=0.5))
    else:
        n.det_loss = L.DetectionLoss(n.regression, n.label, detection_loss_param=cells)
    return n.to_proto()


def yolo9000(shape: tuple[int, ...], classes: int, found: bool = False):
    """choasup's net: a finer map is joined by Reorg; RegionLoss reads the boxes of AnnotatedData."""
    n = _start(shape, (1, 1, 6, 8))
    fine = _downward(n, 1, 4, n.data, 8)
    coarse = conv_bn(n, "conv4", fine, 32, 3, pad=1, stride=2)
    n.reorg = L.Reorg(conv_bn(n, "pass", fine, 8, 1), stride=2)
    n.concat = L.Concat(n.reorg, coarse)
    x = _map(n, "conv_reg", conv_bn(n, "conv5", n.concat, 32, 3, pad=1), 2 * (5 + classes))
    own = dict(num_class=classes, biases=[1, 1, 1.8, 1.8])
    if found:
        own["num_classes"], own["num_box"] = own.pop("num_class"), 2
        n.detection_out = L.YoloDetectionOutput(x, yolo_detection_output_param=own)
    else:
        n.det_loss = L.RegionLoss(x, n.label, region_loss_param=dict(own, num=2, coord_scale=1, thresh=0.6))
    return n.to_proto()


def yolov3(shape: tuple[int, ...], classes: int, found: bool = False, **loss: Any):
    """eric612's MobileNet-YOLOv3-Lite: two maps, the finer one of an Upsample and an Eltwise."""
    n = _start(shape, (shape[0], 1, 4, 5))
    fine = _downward(n, 1, 4, n.data, 8)
    coarse = conv_bn(n, "conv4", fine, 32, 3, pad=1, stride=2)
    n.upsample = L.Upsample(conv_bn(n, "up", coarse, 32, 1), scale=2)
    n.sum = L.Eltwise(n.upsample, fine)
    maps = [
        _map(n, "conv20", coarse, 2 * (5 + classes)),
        _map(n, "conv21", conv_bn(n, "conv5", n.sum, 32, 3, pad=1), 2 * (5 + classes)),
    ]
    if found:
        n.detection_out = L.Yolov3DetectionOutput(
            *maps,
            yolov3_detection_output_param=dict(
                ANCHORS, num_classes=classes, num_box=2, mask=[2, 3, 0, 1], anchors_scale=[16, 8], mask_group_num=2
            ),
        )
        return n.to_proto()
    for i, (x, mask, scale) in enumerate(zip(maps, ([2, 3], [0, 1]), (16, 8)), start=1):
        own = dict(ANCHORS, num_class=classes, num=2, mask=mask, anchors_scale=scale, thresh=0.6, coord_scale=1, **loss)
        n[f"det_loss{i}"] = L.Yolov3(x, n.label, yolov3_param=own)
    return n.to_proto()
