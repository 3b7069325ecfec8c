"""ProposalTarget: samples regions for training, with the class and the box that each should have."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.pixel_boxes import CodeStatistics, encode_pixels, pixel_overlaps

_LEAST = 32  # least side of a background region that is drawn, in pixels
_DRAWS = 100  # for each of them


@register("ProposalTarget")
class ProposalTarget(Layer):
    """Samples regions: objects, with an overlap of at least fg_thr, and background.

    bottoms: regions (R, 5), rows (image, x1, y1, x2, y2) in pixels, x2 and y2 being the last ones; annotated boxes
        (G, 7), rows (image, x1, y1, x2, y2, label, ignored); image -1 or label 0: no box; further columns are not read
    tops: of S regions, each (S, ..., 1, 1): the regions (S, 5); their labels, 0 for background; the codes of their
        boxes, (S, 4 cls_num) at the columns of the class, or (S, 8) at columns 4 to 7 unless cls_aware; the
        weights of these, inside and outside, 1 or 0; the box of each object (S, 6), (label, x1, y1, x2, y2, overlap),
        0 for background; optionally sample weights, that make fg_fraction of the sum that of the objects

    The annotated boxes are regions too, with append_gtbox.  A region goes with the box of its image with the largest
    overlap; those of an `ignored` box are left out.  At most fg_fraction of batch_size are objects; the others are
    background, with an overlap from bg_thr_lw up to bg_thr_hg, both sampled without replacement.  If these are too few,
    the other regions are added (pickup_discard), then background drawn in img_width and img_height.

    proposal_target_param: cls_num, required; the others and their defaults are below.
    bbox_reg_param: bbox_mean and bbox_std of the codes; cls_aware true.
    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Girshick, Fast R-CNN, 2015; Cai et al., MS-CNN, 2016; Cai and Vasconcelos, Cascade R-CNN, 2018.
    """

    fork = "MS-CNN and Cascade R-CNN"
    more_params = ("bbox_reg_param",)
    exact_num_bottom = 2
    min_top, max_top = 6, 7
    always_reshape = True
    capturable = False  # the number of regions depends on values
    repeatable = False  # draws regions in TEST, too
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.param = param = self.layer_param.proposal_target_param
        self.statistics, self.class_aware = CodeStatistics(self), self.layer_param.bbox_reg_param.cls_aware
        if param.cls_num < 1 or not (param.batch_size > 0 or param.batch_size == -1):
            raise self.error(
                f"cls_num must be at least 1 and batch_size above 0, or -1, got {param.cls_num} and {param.batch_size}"
            )
        if not 0 <= param.fg_fraction <= 1:
            raise self.error(f"fg_fraction must be in [0, 1], got {param.fg_fraction:g}")
        if not param.fg_thr > 0 or param.fg_thr < param.bg_thr_hg:
            raise self.error(
                f"fg_thr must be above 0 and not below bg_thr_hg, got {param.fg_thr:g} and {param.bg_thr_hg:g}"
            )

    def top_shapes(self, bottom_shapes):
        regions, boxes = bottom_shapes
        if len(regions) < 2 or math.prod(regions[1:]) != 5:
            raise self.error(f"bottom 0 must be regions (R, 5), got {regions}")
        if len(boxes) < 2 or math.prod(boxes[1:]) < 7:
            raise self.error(f"bottom 1 must be annotated boxes (G, 7), got {boxes}")
        return self._shapes(max(regions[0], 1) if self.param.batch_size < 0 else self.param.batch_size)

    def _shapes(self, count):
        codes = 4 * self.param.cls_num if self.class_aware else 8
        return [(count, length, 1, 1) for length in (5, 1, codes, codes, codes, 6, 1)]

    def forward_cpu(self, bottom, top):
        regions = bottom[0].read_data().reshape(-1, 5)
        boxes = bottom[1].read_data().reshape(bottom[1].shape[0], bottom[1].count_range(1))[:, :7]
        boxes = boxes[(boxes[:, 0] != -1) & (boxes[:, 5] != 0)]
        if self.param.append_gtbox:
            regions = np.concatenate([regions, boxes[:, :5]])
        self._check_values(regions, boxes)
        matched, overlap = self._match(regions, boxes)
        objects, background = self._sample(matched, overlap, boxes)
        drawn = self._draw_background(self._missing(len(objects) + len(background)), boxes)
        regions = np.concatenate([regions[objects], regions[background], drawn])
        if not len(regions):
            raise self.error("there is no region, and none could be drawn: give img_width and img_height, above 32")
        values = self._targets(regions, boxes[matched[objects]], overlap[objects])
        for blob, shape, value in zip(top, self._shapes(len(regions)), values):
            blob.reshape(shape)
            blob.data = value.reshape(shape)

    def _check_values(self, regions, boxes):
        images, classes = self.param.num_img_per_batch, self.param.cls_num
        for image in (*regions[:, 0], *boxes[:, 0]):
            if not 0 <= image < images:
                raise self.error(f"a region or box is of image {image:g}, but num_img_per_batch is {images}")
        for label in boxes[:, 5]:
            if not 0 < label < classes:
                raise self.error(f"label {label:g} of a box is not of an object: cls_num is {classes}")

    def _match(self, regions, boxes):
        """Return for each region the index of the box with the largest overlap, and that, 0 if its image has none."""
        if not len(boxes):
            return np.zeros(len(regions), int), np.zeros(len(regions), self.dtype)
        found = pixel_overlaps(regions[:, 1:], boxes[:, 1:5])
        found[regions[:, :1] != boxes[:, 0]] = -1  # of another image
        return found.argmax(1), np.maximum(found.max(1), 0)

    def _sample(self, matched, overlap, boxes):
        """Return the indices of the regions that are objects, and of those that are background."""
        param, every = self.param, np.arange(len(overlap))
        is_object = overlap >= param.fg_thr
        is_background = ~is_object & (overlap >= param.bg_thr_lw) & (overlap < param.bg_thr_hg)
        objects = every[is_object]
        objects = objects[boxes[matched[objects], 6] == 0]
        background, others = every[is_background], every[~is_object & ~is_background]
        if param.batch_size < 0:
            return objects, background
        objects = self._choose(objects, math.floor(param.fg_fraction * param.batch_size + 0.5))
        missing = param.batch_size - len(objects)
        if param.pickup_discard and len(background) < missing:
            background = np.concatenate([background, others[: missing - len(background)]])
        return objects, self._choose(background, missing)

    def _choose(self, indices, most):
        """Return the indices, or `most` of them, drawn without replacement."""
        if len(indices) <= most:
            return indices
        return np.sort(self.rng.generator().permutation(indices)[:most])

    def _missing(self, count):
        return max(self.param.batch_size, 1) - count

    def _draw_background(self, count, boxes):
        """Return random regions of images, at most `count`, with an overlap below fg_thr."""
        width, height = self.param.img_width, self.param.img_height
        drawn, rng = np.zeros((0, 5), self.dtype), self.rng.generator()
        if min(width, height) > _LEAST:
            for _ in range(_DRAWS * max(count, 0)):
                image, x, y = rng.integers(0, [self.param.num_img_per_batch, width - _LEAST, height - _LEAST])
                w, h = np.maximum(rng.integers(0, [width - x, height - y]), _LEAST)
                region = np.array([[image, x, y, x + w - 1, y + h - 1]], self.dtype)
                if self._match(region, boxes)[1] < self.param.fg_thr:
                    drawn = np.concatenate([drawn, region])
                if len(drawn) == count:
                    break
        return drawn

    def _targets(self, regions, boxes, overlap):
        """Return the values of the tops; the first of the regions are objects, with these boxes and overlaps."""
        count, objects = len(regions), np.arange(len(boxes))
        labels, matched = np.zeros(count, self.dtype), np.zeros((count, 6), self.dtype)
        labels[objects] = matched[objects, 0] = boxes[:, 5].astype(int)
        matched[objects, 1:5], matched[objects, 5] = boxes[:, 1:5], overlap
        codes, weights = np.zeros((2, *self._shapes(count)[2][:2]), self.dtype)
        place = labels[objects].astype(int) if self.class_aware else np.ones(len(objects), int)
        columns = 4 * place[:, None] + np.arange(4)
        codes[objects[:, None], columns] = self.statistics.normalized(
            encode_pixels(boxes[:, 1:5], regions[objects, 1:])
        )
        within = (overlap >= self.param.bbox_thr_lw) & (overlap <= self.param.bbox_thr_hg)
        weights[objects[:, None], columns] = within[:, None]
        return regions, labels, codes, weights, weights, matched, self._sample_weights(labels > 0, matched[:, 5])

    def _sample_weights(self, is_object, overlap):
        """Return weights whose sum is the number of regions, fg_fraction of it that of the objects; 1 without any."""
        weights = np.where(is_object & self.param.iou_weighted, overlap, self.dtype.type(1))
        if is_object.any():
            for part, share in ((is_object, self.param.fg_fraction), (~is_object, 1 - self.param.fg_fraction)):
                if part.any():
                    weights[part] *= share * len(weights) / weights[part].sum()
        return weights
