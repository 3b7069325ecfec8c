"""rpn.anchor_target_layer: labels and regression targets of anchors."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from minicaffe.core.python_layers import replaces
from minicaffe.layers.extensions.faster_rcnn.param_str import read_settings
from minicaffe.layers.extensions.faster_rcnn.sampling import check_fraction
from minicaffe.layers.shared.anchors import RATIOS, SCALES, anchors_of_map, as_map, make_anchors
from minicaffe.layers.shared.pixel_boxes import encode_pixels, pixel_overlaps
from minicaffe.layers.shared.python_part import PythonPart, rows

log = logging.getLogger("minicaffe")


@dataclass(frozen=True)
class AnchorTargetSettings:
    """Keys of param_str."""

    feat_stride: int  #: pixels of the image for a place of the map
    scales: tuple[float, ...] = SCALES  #: sides of the anchors, in units of 16 pixels
    ratios: tuple[float, ...] = RATIOS  #: height / width of the anchors
    allowed_border: float = 0.0  #: pixels by which an anchor that is used may exceed the image
    rpn_positive_overlap: float = 0.7  #: least overlap of an anchor that is labelled an object
    rpn_negative_overlap: float = 0.3  #: an anchor is background if its largest overlap is below this
    rpn_clobber_positives: bool = False  #: anchors that are both are background
    rpn_fg_fraction: float = 0.5  #: of the sampled anchors: most that are objects
    rpn_batchsize: int = 256  #: anchors that are sampled
    rpn_bbox_inside_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    rpn_positive_weight: float = -1.0  #: sum of the outside weights of all objects, in (0, 1); -1: all anchors alike
    rpn_normalize_targets: bool = False  #: py-R-FCN: subtract the means from the targets, then divide by the stds
    rpn_normalize_means: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    rpn_normalize_stds: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)


@replaces("rpn.anchor_target_layer", "AnchorTargetLayer")
class AnchorTargetLayer(PythonPart):
    """Labels anchors inside the image: objects are those that overlap a box well, and each box's best ones.

    bottoms: scores (1, 2 A, H, W), of which the shape counts; boxes (G, 5), rows (x1, y1, x2, y2, class); im_info
        (1, 3); further ones are ignored
    tops: labels (1, 1, A H, W): 1 object, 0 background, -1 ignored; targets, inside and outside weights of the codes,
        each (1, 4 A, H, W)

    param_str: see `AnchorTargetSettings`.  There is no gradient.  It runs on the CPU, in GPU mode too.
    """

    def setup(self, bottom, top):
        self.check_blobs(bottom, top, 3, (4,))
        self.settings = settings = read_settings(AnchorTargetSettings, self.param_str, self)
        if not (settings.rpn_positive_weight < 0 or 0 < settings.rpn_positive_weight < 1):
            raise self.error(f"'rpn_positive_weight' must be in (0, 1) or -1, got {settings.rpn_positive_weight:g}")
        check_fraction(self, "rpn_fg_fraction", settings.rpn_fg_fraction)
        if settings.rpn_batchsize < 1:
            raise self.error(f"'rpn_batchsize' must be at least 1, got {settings.rpn_batchsize}")
        self.anchors = make_anchors(16, settings.ratios, settings.scales)
        self.warned = False
        height, width = bottom[0].shape[2:]
        self._reshape_tops(top, height, width)

    def _reshape_tops(self, top, height, width):
        count = len(self.anchors)
        top[0].reshape(1, 1, count * height, width)
        for blob in top[1:]:
            blob.reshape(1, 4 * count, height, width)

    def forward(self, bottom, top):
        height, width = bottom[0].shape[2:]
        if bottom[0].shape[0] != 1:
            raise self.error(f"bottom 0 must be of one image, got {bottom[0].shape}")
        truth = rows(bottom[1])[:, :4].astype(np.float64)
        places = anchors_of_map(self.anchors, height, width, self.settings.feat_stride)
        inside = np.flatnonzero(self._inside(places, *bottom[2].data.reshape(-1)[:2]))
        overlaps = pixel_overlaps(places[inside], truth)
        labels = self._sample(self._label(overlaps))
        values = [labels[:, None], self._targets(places[inside], overlaps, truth), *self._weights(labels)]
        self._reshape_tops(top, height, width)
        for blob, value, fill in zip(top, values, (-1, 0, 0, 0)):
            of_all = np.full((len(places), value.shape[1]), fill, np.float32)
            of_all[inside] = value
            blob.data[...] = as_map(of_all, height, width).reshape(blob.shape)

    def _inside(self, places, height, width):
        """Return for each anchor whether it is inside the image."""
        border = self.settings.allowed_border
        inside = (places[:, :2] >= -border).all(1) & (places[:, 2:] < np.array([width, height]) + border).all(1)
        if not inside.any() and not self.warned:
            self.warned = True
            log.warning("Python layer '%s': no anchor is inside an image of %gx%g pixels, so none is trained: 'scales' "
                        "or 'allowed_border' of param_str change that", self.name, width, height)  # fmt: skip
        return inside

    def _label(self, overlaps):
        """Return the labels (n,) of anchors from their overlaps (n, G) with the boxes."""
        settings, most = self.settings, overlaps.max(1, initial=0)
        labels = np.full(len(overlaps), -1, np.float32)
        background = most < settings.rpn_negative_overlap
        if not settings.rpn_clobber_positives:
            labels[background] = 0
        if overlaps.size:
            labels[(overlaps == overlaps.max(0)).any(1)] = 1
        labels[most >= settings.rpn_positive_overlap] = 1
        if settings.rpn_clobber_positives:
            labels[background] = 0
        return labels

    def _sample(self, labels):
        """Set the label of surplus objects, then of surplus background, to -1."""
        batch, rng = self.settings.rpn_batchsize, self.rng.generator()
        for label, most in ((1, int(self.settings.rpn_fg_fraction * batch)), (0, None)):
            found = np.flatnonzero(labels == label)
            most = batch - int((labels == 1).sum()) if most is None else most
            if len(found) > most:
                labels[rng.choice(found, len(found) - most, replace=False)] = -1
        return labels

    def _targets(self, anchors, overlaps, truth):
        """Return the codes (n, 4) of the box that each anchor overlaps most."""
        if not overlaps.size:
            return np.zeros((len(anchors), 4), np.float32)
        targets = encode_pixels(truth[overlaps.argmax(1)], anchors).astype(np.float32)
        if self.settings.rpn_normalize_targets:
            targets = (targets - self.settings.rpn_normalize_means) / self.settings.rpn_normalize_stds
        return targets

    def _weights(self, labels):
        """Return the inside and the outside weights (n, 4)."""
        objects, background = labels == 1, labels == 0
        inside = objects[:, None] * np.array(self.settings.rpn_bbox_inside_weights)
        share = self.settings.rpn_positive_weight
        if share < 0:
            each = (objects | background) / max(np.count_nonzero(labels >= 0), 1)
        else:
            each = objects * (share / max(objects.sum(), 1)) + background * ((1 - share) / max(background.sum(), 1))
        return inside, np.repeat(each[:, None], 4, 1)
