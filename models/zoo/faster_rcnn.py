"""Two-stage detectors, trained end to end: Faster R-CNN (Ren et al., 2015) and R-FCN (Dai et al., 2016).

Layers of `faster_rcnn` have the names and shapes of py-faster-rcnn's prototxts, so its weights fit.
"""

from __future__ import annotations

from typing import Any

from minicaffe.models.zoo.blocks import MSRA, conv_relu, max_pool
from minicaffe.models.zoo.resnet import resnet_stage, resnet_stem
from minicaffe.models.zoo.vgg import vgg_convs
from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L
from minicaffe.net_spec import params as P

_STRIDE = 16  # pixels of the image for a place of the last map
_SMALL = dict(weight_filler=dict(type="gaussian", std=0.01))
_BOTH = [dict(lr_mult=1), dict(lr_mult=2)]
_FIRST_ONLY = dict(propagate_down=[True, False])
_IGNORED = dict(ignore_label=-1)
_TARGETS = ("labels", "bbox_targets", "bbox_inside_weights", "bbox_outside_weights")


def faster_rcnn(
    base: str = "vgg16",
    classes: int = 21,
    training: bool = True,
    fc: int = 4096,
    size: tuple[int, int] = (600, 1000),
    settings: dict[str, dict[str, Any]] | None = None,
):
    """Faster R-CNN on VGG-16 (base "vgg16") or on Zeiler and Fergus' net ("zf"), as faster_rcnn_end2end.

    classes: with the background.  size: (height, width) of the image, for `training=False`.
    settings: keys of param_str for the Python layers by name, "input-data", "rpn-data", "proposal" and "roi-data", and
        "anchors" for both layers that have anchors, such as scales=[8, 16, 32].
    In training it reads images by RoIDataLayer, and ends in rpn_cls_loss, rpn_loss_bbox, loss_cls and loss_bbox;
    otherwise it reads `data` and `im_info`, and ends in rois (R, 5), cls_prob (R, classes), bbox_pred (R, 4 classes).
    """
    settings = settings or {}
    n = NetSpec()
    _inputs(n, classes, training, size, settings)
    width, bins, features = (512, 7, _vgg(n)) if base == "vgg16" else (256, 6, _zf(n))
    rois = _proposals(n, features, width, training, settings)
    if training:
        rois = _region_targets(n, rois, classes, settings)
    n.roi_pool5 = L.ROIPooling(features, rois, pooled_h=bins, pooled_w=bins, spatial_scale=1 / _STRIDE)
    x = n.roi_pool5
    for name in ("fc6", "fc7"):
        n[name] = L.InnerProduct(x, num_output=fc, param=_BOTH, **MSRA)
        n[f"relu_{name}"] = L.ReLU(n[name], in_place=True)
        x = n[f"drop_{name}"] = L.Dropout(n[f"relu_{name}"], in_place=True, dropout_ratio=0.5)
    n.cls_score = L.InnerProduct(x, num_output=classes, param=_BOTH, **_SMALL)
    n.bbox_pred = L.InnerProduct(x, num_output=4 * classes, param=_BOTH, weight_filler=dict(type="gaussian", std=0.001))
    if training:
        n.loss_cls = L.SoftmaxWithLoss(n.cls_score, n.labels, loss_param=_IGNORED, loss_weight=1, **_FIRST_ONLY)
        n.loss_bbox = L.SmoothL1Loss(n.bbox_pred, *(n[name] for name in _TARGETS[1:]), loss_weight=1)
    else:
        n.cls_prob = L.Softmax(n.cls_score)
    return _named(n, f"Faster R-CNN, {base}")


def rfcn(
    classes: int = 21,
    training: bool = True,
    ohem: bool = True,
    agnostic: bool = True,
    size: tuple[int, int] = (600, 1000),
    settings: dict[str, dict[str, Any]] | None = None,
    base: str = "resnet50",
):
    """R-FCN on ResNet-50 (default), as rfcn_end2end of py-R-FCN, or on Zeiler and Fergus' net (base "zf").

    ohem: learn from the 128 regions with the largest losses (Shrivastava et al., 2016).
    agnostic: one regression of boxes for all classes.  Other arguments and blobs as for `faster_rcnn`.
    """
    settings, regressions = settings or {}, 2 if agnostic else classes
    if ohem:
        settings = settings | {"roi-data": {"batch_size": -1} | settings.get("roi-data", {})}
    n = NetSpec()
    _inputs(n, classes, training, size, settings)
    width, (features, last) = (512, _resnet(n)) if base == "resnet50" else (256, [_zf(n)] * 2)
    rois = _proposals(n, features, width, training, settings)
    if training:
        rois = _region_targets(n, rois, regressions, settings)
    x = conv_relu(n, "conv_new_1", last, 1024, 1, filler=_SMALL)
    for name, kind, outputs in (("cls_score", "cls", classes), ("bbox_pred", "bbox", 4 * regressions)):
        n[f"rfcn_{kind}"] = L.Convolution(x, num_output=49 * outputs, kernel_size=1, param=_BOTH, **_SMALL)
        pooled = L.PSROIPooling(
            n[f"rfcn_{kind}"], rois, spatial_scale=1 / _STRIDE, output_dim=outputs, group_size=7
        )  # fmt: skip
        n[f"psroipooled_{kind}_rois"] = pooled
        n[name] = L.Pooling(pooled, pool=P.Pooling.AVE, kernel_size=7, stride=7)
    if training:
        _rfcn_losses(n, ohem)
    else:
        n.cls_prob = L.Softmax(n.cls_score)
    return _named(n, f"R-FCN, {base}")


def _named(n: NetSpec, name: str):
    net = n.to_proto()
    net.name = name
    return net


def _inputs(n: NetSpec, classes: int, training: bool, size: tuple[int, int], settings) -> None:
    if training:
        tops = _python("input-data", "roi_data_layer.layer", "RoIDataLayer", [], 3, {"num_classes": classes}, settings)
        n.data, n.im_info, n.gt_boxes = tops
    else:
        n.data = L.Input(shape=dict(dim=[1, 3, *size]))
        n.im_info = L.Input(shape=dict(dim=[1, 3]))


def _python(name: str, module: str, layer: str, bottoms: list, tops: int, defaults: dict[str, Any], settings):
    """A Python layer of py-faster-rcnn; settings: those of all Python layers, by name."""
    values = defaults | settings.get(name, {})
    text = "\n".join(f"'{key}': {value!r}" for key, value in values.items())
    return L.Python(*bottoms, name=name, ntop=tops, python_param=dict(module=module, layer=layer, param_str=text))


def _vgg(n: NetSpec):
    vgg_convs(n, n.data, last_stage=4)
    x = n.pool4
    for i in (1, 2, 3):
        x = conv_relu(n, f"conv5_{i}", x, 512, 3, filler=MSRA, pad=1)
    return x


def _zf(n: NetSpec):
    x = n.data
    for i, (width, kernel) in enumerate(((96, 7), (256, 5)), start=1):
        x = conv_relu(n, f"conv{i}", x, width, kernel, filler=MSRA, stride=2, pad=kernel // 2)
        n[f"norm{i}"] = L.LRN(x, local_size=3, alpha=0.00005, beta=0.75, norm_region=P.LRN.WITHIN_CHANNEL)
        x = max_pool(n, f"pool{i}", n[f"norm{i}"], 3, 2, pad=1)
    for i, width in ((3, 384), (4, 384), (5, 256)):
        x = conv_relu(n, f"conv{i}", x, width, 3, filler=MSRA, pad=1)
    return x


def _resnet(n: NetSpec):
    """ResNet-50 whose last stage keeps the size of the map: return the maps of stages 4 and 5."""
    x = resnet_stem(n, n.data)
    for stage in (2, 3, 4):
        x = resnet_stage(n, x, stage)
    return x, resnet_stage(n, x, 5, dilation=2)


def _proposals(n: NetSpec, features, width: int, training: bool, settings):
    """The region proposal network, with its losses in training; return the regions."""
    anchors = {"feat_stride": _STRIDE} | settings.get("anchors", {})
    count = len(anchors.get("scales", (8, 16, 32))) * len(anchors.get("ratios", (0.5, 1, 2)))
    x = conv_relu(n, "rpn_conv/3x3", features, width, 3, filler=_SMALL, pad=1)
    n.rpn_cls_score = L.Convolution(x, num_output=2 * count, kernel_size=1, param=_BOTH, **_SMALL)
    n.rpn_bbox_pred = L.Convolution(x, num_output=4 * count, kernel_size=1, param=_BOTH, **_SMALL)
    n.rpn_cls_score_reshape = L.Reshape(n.rpn_cls_score, shape=dict(dim=[0, 2, -1, 0]))
    if training:
        names = [f"rpn_{name}" for name in _TARGETS]
        bottoms = [n.rpn_cls_score, n.gt_boxes, n.im_info]
        tops = _python("rpn-data", "rpn.anchor_target_layer", "AnchorTargetLayer", bottoms, 4, anchors, settings)
        for name, top in zip(names, tops):
            n[name] = top
        n.rpn_cls_loss = L.SoftmaxWithLoss(
            n.rpn_cls_score_reshape, n.rpn_labels, loss_param=_IGNORED, loss_weight=1, **_FIRST_ONLY
        )
        n.rpn_loss_bbox = L.SmoothL1Loss(n.rpn_bbox_pred, *(n[name] for name in names[1:]), sigma=3, loss_weight=1)
    n.rpn_cls_prob = L.Softmax(n.rpn_cls_score_reshape)
    n.rpn_cls_prob_reshape = L.Reshape(n.rpn_cls_prob, shape=dict(dim=[0, 2 * count, -1, 0]))
    bottoms = [n.rpn_cls_prob_reshape, n.rpn_bbox_pred, n.im_info]
    rois = _python("proposal", "rpn.proposal_layer", "ProposalLayer", bottoms, 1, anchors, settings)
    n["rpn_rois" if training else "rois"] = rois
    return rois


def _region_targets(n: NetSpec, regions, classes: int, settings):
    """Sample regions and annotated boxes; return the sampled regions."""
    tops = _python("roi-data", "rpn.proposal_target_layer", "ProposalTargetLayer", [regions, n.gt_boxes], 5,
                   {"num_classes": classes}, settings)  # fmt: skip
    n.rois, n.labels, n.bbox_targets, n.bbox_inside_weights, n.bbox_outside_weights = tops
    return n.rois


def _rfcn_losses(n: NetSpec, ohem: bool) -> None:
    """The losses of regions; with `ohem` those of the 128 regions whose losses are the largest."""
    labels, weights = n.labels, n.bbox_inside_weights
    if ohem:
        cls = L.SoftmaxWithLossOHEM(n.cls_score, labels, ntop=3, loss_weight=[0, 0, 0], propagate_down=[False, False])
        box = L.SmoothL1LossOHEM(
            n.bbox_pred, n.bbox_targets, weights, ntop=2, loss_weight=[0, 0], propagate_down=[False, False, False]
        )
        n.temp_loss_cls, n.temp_prob_cls, n.per_roi_loss_cls = cls
        n.temp_loss_bbox, n.per_roi_loss_bbox = box
        n.per_roi_loss = L.Eltwise(n.per_roi_loss_cls, n.per_roi_loss_bbox, propagate_down=[False, False])
        labels, weights = L.BoxAnnotatorOHEM(
            n.rois, n.per_roi_loss, labels, weights, ntop=2, roi_per_img=128, propagate_down=[False] * 4
        )
        n.labels_ohem, n.bbox_loss_weights_ohem = labels, weights
        n.silence = L.Silence(n.bbox_outside_weights, n.temp_loss_cls, n.temp_prob_cls, n.temp_loss_bbox, ntop=0)
    else:
        n.silence = L.Silence(n.bbox_outside_weights, ntop=0)
    n.loss_cls = L.SoftmaxWithLoss(n.cls_score, labels, loss_param=_IGNORED, loss_weight=1, **_FIRST_ONLY)
    n.loss_bbox = L.SmoothL1LossOHEM(
        n.bbox_pred, n.bbox_targets, weights, loss_weight=1, propagate_down=[True, False, False],
        loss_param=dict(normalization=P.Loss.PRE_FIXED, pre_fixed_normalizer=128),
    )  # fmt: skip
