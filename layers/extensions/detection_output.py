"""DetectionOutput: decodes a detector's predictions and keeps the best boxes."""

from __future__ import annotations

import logging

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.proto import caffe_pb2

_log = logging.getLogger(__name__)


@register("DetectionOutput")
class DetectionOutput(Layer):
    """Decodes the boxes, drops those that overlap a better one of their class (non-maximum suppression).

    bottoms: locations (N, P L 4), confidences (N, P K), priors (1, 2, P 4) as PriorBox gives them; L is 1 with
        share_location, else K
    top: (1, 1, D, 7), a row (sample, class, confidence, xmin, ymin, xmax, ymax) for each of the D boxes found, by
        sample and class, best first; without any box in the whole batch one row (sample, -1, ...) for each sample

    detection_output_param: num_classes K, share_location true, background_label_id 0 (not reported), nms_param
        { nms_threshold 0.3, top_k: most candidates of a class, eta 1: factor that shrinks the threshold }, code_type
        CORNER, variance_encoded_in_target false, keep_top_k -1 (all), confidence_threshold (absent: none).
        save_output_param and visualize are accepted and have no effect.

    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Liu et al., SSD, 2016.
    """

    exact_num_bottom = 3
    exact_num_top = 1
    always_reshape = True
    capturable = False  # the number of boxes depends on values
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.param = param = self.layer_param.detection_output_param
        self.classes = param.num_classes
        if self.classes < 1:
            raise self.error("num_classes must be at least 1")
        nms = param.nms_param
        self.threshold, self.eta, self.top_k = nms.nms_threshold, nms.eta, nms.top_k if nms.HasField("top_k") else -1
        if self.threshold < 0 or not 0 < self.eta <= 1:
            raise self.error(
                f"nms_threshold must not be negative and eta lie in (0, 1], got {self.threshold}, {self.eta}"
            )
        self.least = param.confidence_threshold if param.HasField("confidence_threshold") else -np.inf
        if param.visualize or param.HasField("save_output_param"):
            _log.info("Layer %s: detections are not drawn and not saved to files", self.name)

    def top_shapes(self, bottom_shapes):
        locations, confidences, priors = bottom_shapes
        if len(priors) != 3 or priors[:2] != (1, 2) or priors[2] % 4:
            raise self.error(f"bottom 2 must be priors (1, 2, P * 4), got {priors}")
        count = priors[2] // 4
        if locations[:1] != confidences[:1] or not locations:
            raise self.error(f"bottoms 0 and 1 must be of the same samples (N, ...), got {locations} and {confidences}")
        sets = 1 if self.param.share_location else self.classes
        for i, shape, each in ((0, locations, 4 * sets), (1, confidences, self.classes)):
            if int(np.prod(shape[1:])) != count * each:
                raise self.error(f"bottom {i} must hold {each} numbers for each of {count} priors, got {shape}")
        return [(1, 1, 1, 7)]

    def forward_cpu(self, bottom, top):
        samples = bottom[0].shape[0]
        priors, variances = bottom[2].read_data().reshape(2, bottom[2].shape[2] // 4, 4)
        sets = 1 if self.param.share_location else self.classes
        locations = bottom[0].read_data().reshape(samples, len(priors), sets, 4)
        confidences = bottom[1].read_data().reshape(samples, len(priors), self.classes)
        rows = [row for n in range(samples) for row in self._detect(n, locations[n], confidences[n], priors, variances)]
        if not rows:
            rows = [[n, -1, -1, -1, -1, -1, -1] for n in range(samples)]
        top[0].reshape(1, 1, len(rows), 7)
        top[0].data = np.reshape(rows, top[0].shape)

    def _detect(self, n: int, locations, confidences, priors, variances) -> list[list[float]]:
        """Return the rows of one sample."""
        decoded = [self._decode(locations[:, s], priors, variances) for s in range(locations.shape[1])]
        found = []
        for label in range(self.classes):
            if label != self.param.background_label_id:
                boxes = decoded[0 if self.param.share_location else label]
                scores = confidences[:, label]
                found += [(scores[i], label, boxes[i]) for i in self._suppress(boxes, scores)]
        if -1 < self.param.keep_top_k < len(found):
            found = sorted(found, key=lambda f: -f[0])[: self.param.keep_top_k]
            found.sort(key=lambda f: f[1])
        return [[n, label, score, *box] for score, label, box in found]

    def _decode(self, codes: np.ndarray, priors: np.ndarray, variances: np.ndarray) -> np.ndarray:
        """Return corners (P, 4) from codes (P, 4)."""
        if not self.param.variance_encoded_in_target:
            codes = codes * variances
        size = priors[:, 2:] - priors[:, :2]
        kind = self.param.code_type
        if kind == caffe_pb2.PriorBoxParameter.CORNER:
            return priors + codes
        if kind == caffe_pb2.PriorBoxParameter.CORNER_SIZE:
            return priors + codes * np.tile(size, 2)
        centre = codes[:, :2] * size + (priors[:, :2] + priors[:, 2:]) / 2
        half = np.exp(codes[:, 2:]) * size / 2
        return np.concatenate([centre - half, centre + half], 1)

    def _suppress(self, boxes: np.ndarray, scores: np.ndarray) -> list[int]:
        """Return the boxes that are kept, best first: none overlaps a better one by more than the threshold."""
        order = np.flatnonzero(scores > self.least)
        order = order[np.argsort(-scores[order], kind="stable")][: self.top_k if self.top_k > -1 else None]
        boxes, kept, threshold = boxes[order], [], self.threshold
        worst = np.zeros(len(order))  # of each box: its largest overlap with a kept one
        for i in range(len(order)):
            if worst[i] <= threshold:
                kept.append(int(order[i]))
                worst[i + 1 :] = np.maximum(worst[i + 1 :], overlaps(boxes[i], boxes[i + 1 :]))
                if self.eta < 1 and threshold > 0.5:
                    threshold *= self.eta
        return kept


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the intersection over union of one box (4) with others (n, 4)."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.prod(np.maximum(sides, 0), 1)
    union = _area(box) + _area(boxes) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2], 0), -1)
