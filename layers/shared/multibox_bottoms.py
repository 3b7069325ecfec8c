"""The bottoms of SSD's layers that have no gradient: the true boxes of MultiBoxLoss, and priors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer, Shape
from minicaffe.layers.shared.boxes import decode
from minicaffe.layers.shared.loss import class_labels
from minicaffe.layers.shared.multibox import TrueBoxes
from minicaffe.proto.caffe_pb2 import PriorBoxParameter


def count_priors(layer: Layer, shape: Shape) -> int:
    """Return P of priors (1, 2, P 4) in bottom 2; LayerError for another shape."""
    if len(shape) != 3 or shape[:2] != (1, 2) or shape[2] % 4:
        raise layer.error(f"bottom 2 must be priors (1, 2, P * 4), got {shape}")
    return shape[2] // 4


def read_true_boxes(layer: Layer, rows: np.ndarray, images: int) -> TrueBoxes:
    """Return the boxes of rows (M, 8); LayerError for a label or an image that does not exist."""
    param = layer.layer_param.multibox_loss_param
    rows = rows[rows[:, 0] != -1]
    given = rows[:, 1]
    with np.errstate(invalid="ignore"):  # nan becomes a number below 0
        image, difficult = rows[:, 0].astype(int), rows[:, 7].astype(int)
    if ((image < 0) | (image >= images)).any():
        wrong = rows[(image < 0) | (image >= images), 0][0]
        raise layer.error(
            f"a true box is of image {wrong:g}: there are {images} images, 0 to {images - 1}, and -1 for none"
        )
    label = np.minimum(given, 1) if param.num_classes == 2 else given
    label, _ = class_labels(layer, label, param.num_classes)
    if (label == param.background_label_id).any():
        wrong = given[label == param.background_label_id][0]
        raise layer.error(f"a true box has label {wrong:g}, that of the background (background_label_id)")
    used = np.full(len(rows), True) if param.use_difficult_gt else difficult == 0
    return TrueBoxes(image[used], label[used].astype(int), rows[used, 3:7])


def read_priors(layer: Layer, bottom: Sequence[Blob]) -> tuple[np.ndarray, np.ndarray]:
    """Return the priors (N, P, 4), moved by the locations of bottom 5 if given, and their variances (P, 4)."""
    param, images = layer.layer_param.multibox_loss_param, bottom[0].shape[0]
    priors, variances = bottom[2].read_data().reshape(2, -1, 4)
    by_boxes = param.HasField("nms_param") and not param.use_prior_for_nms
    if not param.use_prior_for_matching or by_boxes or len(bottom) > 5:
        _check_sizes(layer, priors)
    if not (variances > 0).all():
        raise layer.error(f"the variances of priors must be above 0, got {variances[~(variances > 0)][0]:g}")
    if len(bottom) < 6:
        return np.broadcast_to(priors, (images, *priors.shape)), variances
    codes = bottom[5].read_data().reshape(images, *priors.shape)
    used = None if param.encode_variance_in_target else variances
    moved = [decode(each, priors, used, param.code_type) for each in codes]
    return np.array(moved, codes.dtype).reshape(codes.shape), variances


def _check_sizes(layer: Layer, priors: np.ndarray) -> None:
    """Raise LayerError for a prior without width or height where codes are relative to them."""
    code_type = layer.layer_param.multibox_loss_param.code_type
    empty = ~(priors[:, 2:] > priors[:, :2]).all(1)
    if code_type != PriorBoxParameter.CORNER and empty.any():
        name, index = PriorBoxParameter.CodeType.Name(code_type), int(np.flatnonzero(empty)[0])
        box = ", ".join(f"{number:g}" for number in priors[index])
        raise layer.error(
            f"code_type {name} needs priors with a width and a height above 0, got prior {index}, ({box})"
        )
