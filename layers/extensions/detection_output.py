"""DetectionOutput: decodes a detector's predictions and keeps the best boxes."""

from __future__ import annotations

import logging

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.boxes import decode, suppress

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

    fork = "SSD"
    exact_num_bottom = 3
    exact_num_top = 1
    always_reshape = True
    capturable = False  # the number of boxes depends on values
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.param = param = self.layer_param.detection_output_param
        self.classes = self.detected_classes = param.num_classes
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
        found = [self._detect(n, locations[n], confidences[n], priors, variances) for n in range(samples)]
        rows = np.concatenate(found) if found else np.zeros((0, 7))
        if not len(rows):
            rows = np.array([[n, -1, -1, -1, -1, -1, -1] for n in range(samples)]).reshape(samples, 7)
        top[0].reshape(1, 1, len(rows), 7)
        top[0].data = rows.reshape(top[0].shape)

    def _detect(self, n: int, locations, confidences, priors, variances) -> np.ndarray:
        """Return the rows (D, 7) of one sample."""
        variances = None if self.param.variance_encoded_in_target else variances
        decoded = [decode(locations[:, s], priors, variances, self.param.code_type) for s in range(locations.shape[1])]
        found = [np.zeros((0, 7), self.dtype)]
        for label, scores in enumerate(np.ascontiguousarray(confidences.T)):
            if label == self.param.background_label_id:
                continue
            order = self._candidates(scores)
            boxes = decoded[0 if self.param.share_location else label][order]
            kept = suppress(boxes, self.threshold, self.eta)
            rows = np.empty((len(kept), 7), self.dtype)
            rows[:, :3], rows[:, 3:] = [n, label, 0], boxes[kept]
            rows[:, 2] = scores[order[kept]]
            found.append(rows)
        rows = np.concatenate(found)
        if -1 < self.param.keep_top_k < len(rows):
            rows = rows[np.argsort(-rows[:, 2], kind="stable")[: self.param.keep_top_k]]
            rows = rows[np.argsort(rows[:, 1], kind="stable")]
        return rows

    def _candidates(self, scores: np.ndarray) -> np.ndarray:
        """Return the indices of the `top_k` largest scores above `confidence_threshold`, the largest first."""
        order = np.flatnonzero(scores > self.least)
        if -1 < self.top_k < len(order):
            values = scores[order]
            cut = len(order) - self.top_k
            least = np.partition(values, cut)[cut] if self.top_k else np.inf
            order = order[values >= least]  # and all that are equal to the last one
        return order[np.argsort(-scores[order], kind="stable")][: self.top_k if self.top_k > -1 else None]
