"""BoxAnnotatorOHEM: keeps the regions with the largest losses, for online hard example mining."""

import math

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register


@register("BoxAnnotatorOHEM")
class BoxAnnotatorOHEM(Layer):
    """Ignores all labels but those of the regions with the largest losses, at most roi_per_img for each image.

    Bottoms: regions (R, 5), rows (image, x1, y1, x2, y2); their losses (R, 1, ...); their labels, of the same count;
    weights of their boxes (R, C, ...).  Tops: the labels, ignore_label where the loss is not among the largest; the
    weights, 0 there.  Of equal losses the first counts as larger; nan counts as the least.
    box_annotator_ohem_param: roi_per_img, required; ignore_label (-1).
    There is no backward pass.
    Source: Shrivastava, Gupta and Girshick, Training region-based object detectors with online hard example mining,
    2016; Dai, Li, He and Sun, R-FCN, 2016.
    """

    fork = "R-FCN"
    family = "loss"
    exact_num_bottom = 4
    exact_num_top = 2
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        param = self.layer_param.box_annotator_ohem_param
        self.most, self.ignored = param.roi_per_img, param.ignore_label
        if self.most < 1:
            raise self.error("roi_per_img must be at least 1")

    def top_shapes(self, bottom_shapes):
        rois, losses, labels, weights = bottom_shapes
        if len(rois) < 2 or math.prod(rois[1:]) != 5:
            raise self.error(f"bottom 0 must be regions (R, 5), got {rois}")
        if math.prod(losses) != math.prod(labels) or any(shape[:1] != rois[:1] for shape in bottom_shapes):
            raise self.error(
                f"bottoms 1 and 2 must be a loss and a label for each position of {rois[0]} regions, and bottom 3 "
                f"weights of their boxes, got {losses}, {labels} and {weights}"
            )
        places = math.prod(losses[1:])
        if not places or math.prod(weights[1:]) % places:
            raise self.error(f"bottom 3 must be (R, C, ...) with the positions of bottom 1, {losses}, got {weights}")
        return [labels, weights]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        inner = math.prod(bottom[1].shape[1:])
        self.view = bottom[0].shape[0], math.prod(bottom[3].shape[1:]) // inner, inner  # regions, channels, positions

    def forward_cpu(self, bottom, top):
        images = np.repeat(bottom[0].read_data().reshape(-1, 5)[:, 0], self.view[2])
        losses = bottom[1].read_data().ravel()
        losses = np.where(np.isnan(losses), np.finfo(losses.dtype).min, losses)
        order = np.lexsort((-losses, images))  # by image, the largest loss first
        rank = np.arange(len(order)) - np.searchsorted(images[order], images[order])
        kept = np.zeros(len(order), bool)
        kept[order] = rank < self.most
        top[0].data = np.where(kept.reshape(top[0].shape), bottom[2].read_data(), self.dtype.type(self.ignored))
        regions, _, inner = self.view
        weights = np.where(kept.reshape(regions, 1, inner), bottom[3].read_data().reshape(self.view), 0)
        top[1].data = weights.reshape(top[1].shape)

    def forward_gpu(self, bottom, top):
        n, channels, inner = bottom[1].count, *self.view[1:]
        rois, losses, labels, weights = (blob.gpu_data() for blob in bottom)
        tops = (blob.mutable_gpu_data() for blob in top)
        self.kernel("keep")(n, channels, inner, self.most, self.ignored, rois, losses, labels, weights, *tops)
