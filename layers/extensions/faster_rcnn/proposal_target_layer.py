"""rpn.proposal_target_layer: regions sampled for training, with labels and regression targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minicaffe.core.python_layers import replaces
from minicaffe.layers.extensions.faster_rcnn.param_str import read_settings
from minicaffe.layers.extensions.faster_rcnn.sampling import Sampling, by_class, check_fraction
from minicaffe.layers.shared.pixel_boxes import encode_pixels, pixel_overlaps
from minicaffe.layers.shared.python_part import PythonPart, rows


@dataclass(frozen=True)
class ProposalTargetSettings:
    """Keys of param_str; defaults as in py-faster-rcnn's faster_rcnn_end2end.yml, where it differs from config.py."""

    num_classes: int  #: with the background; 2: objects of all classes have one regression (py-R-FCN's prototxts)
    batch_size: int = 128  #: regions that are sampled; -1: all (py-R-FCN with hard example mining)
    fg_fraction: float = 0.25  #: of the regions: most that are objects
    fg_thresh: float = 0.5  #: least overlap of an object
    bg_thresh_hi: float = 0.5  #: the overlap of background is below this
    bg_thresh_lo: float = 0.0  #: and at least this (config.py: 0.1)
    agnostic: bool = False  #: py-R-FCN: one regression for objects of all classes, the second of num_classes
    bbox_inside_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    bbox_normalize_targets_precomputed: bool = True  #: subtract the means from the targets, then divide by the stds
    bbox_normalize_means: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    bbox_normalize_stds: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)


@replaces("rpn.proposal_target_layer", "ProposalTargetLayer")
class ProposalTargetLayer(PythonPart):
    """Samples objects and background among the proposed regions and the annotated boxes of an image.

    bottoms: regions (R, 5), rows (0, x1, y1, x2, y2); boxes (G, 5), rows (x1, y1, x2, y2, class)
    tops, of S regions, objects first: regions (S, 5, 1, 1), labels (S, 1, 1, 1), targets, inside and outside weights,
        each (S, 4 num_classes, 1, 1)

    The shapes are py-R-FCN's; py-faster-rcnn's lack the axes of length 1.
    param_str: see `ProposalTargetSettings`.  There is no gradient.  It runs on the CPU, in GPU mode too.
    """

    def setup(self, bottom, top):
        self.check_blobs(bottom, top, 2, (5,))
        self.settings = settings = read_settings(ProposalTargetSettings, self.param_str, self)
        if settings.num_classes < 2 or settings.batch_size < 1 and settings.batch_size != -1:
            raise self.error(
                "'num_classes' must be at least 2 and 'batch_size' positive or -1, got "
                f"{settings.num_classes} and {settings.batch_size}"
            )
        check_fraction(self, "fg_fraction", settings.fg_fraction)
        self.sampling = Sampling(
            None if settings.batch_size < 0 else settings.batch_size, settings.fg_fraction, settings.fg_thresh,
            settings.bg_thresh_hi, settings.bg_thresh_lo,
        )  # fmt: skip
        for blob, columns in zip(top, self._columns()):
            blob.reshape(1, columns, 1, 1)

    def _columns(self):
        return (5, 1, *[4 * self.settings.num_classes] * 3)

    def forward(self, bottom, top):
        regions, truth = (rows(blob) for blob in bottom[:2])
        regions = np.concatenate([regions, np.pad(truth[:, :4], ((0, 0), (1, 0)))])
        if regions[:, 0].any():
            raise self.error("bottom 0 must have regions of one image, whose number is 0")
        overlaps = pixel_overlaps(regions[:, 1:].astype(np.float64), truth[:, :4].astype(np.float64))
        kept, objects = self.sampling.draw(overlaps.max(1, initial=0), self.rng.generator())
        labels, codes = np.zeros(len(kept), regions.dtype), np.zeros((len(kept), 4))
        if len(truth):
            matched = truth[overlaps[kept].argmax(1)]
            labels[:objects] = matched[:objects, 4]
            codes = self._normalized(encode_pixels(matched[:, :4], regions[kept, 1:]))
        self._check_labels(labels)
        agnostic = self.settings.agnostic or self.settings.num_classes == 2
        targets, inside = by_class(
            labels, codes, self.settings.num_classes, agnostic, self.settings.bbox_inside_weights
        )
        values = (regions[kept], labels, targets, inside, inside > 0)
        for blob, value, columns in zip(top, values, self._columns()):
            blob.reshape(len(kept), columns, 1, 1)
            blob.data[...] = value.reshape(blob.shape)

    def _normalized(self, codes):
        if not self.settings.bbox_normalize_targets_precomputed:
            return codes
        return (codes - np.array(self.settings.bbox_normalize_means)) / np.array(self.settings.bbox_normalize_stds)

    def _check_labels(self, labels):
        classes = self.settings.num_classes
        if not self.settings.agnostic and classes > 2 and labels.max(initial=0) >= classes:
            raise self.error(f"a box of bottom 1 has class {labels.max():g}, but 'num_classes' is {classes}")
