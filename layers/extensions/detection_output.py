"""DetectionOutput: decodes a detector's predictions and keeps the best boxes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from minicaffe.core.layer import Layer, Shape
from minicaffe.core.registry import register
from minicaffe.layers.shared.boxes import decode, largest, suppress
from minicaffe.layers.shared.detection_files import open_files
from minicaffe.layers.shared.multibox_bottoms import count_priors

_log = logging.getLogger(__name__)


@register("DetectionOutput")
class DetectionOutput(Layer):
    """Decodes the boxes, drops those that overlap a better one of their class (non-maximum suppression).

    bottoms: locations (N, P L 4), confidences (N, P K), priors (1, 2, P 4) as PriorBox gives them; L is 1 with
        share_location, else K.  RefineDet has two more: confidences (N, P 2) and locations (N, P 4) of its first stage.
        The priors are refined by these locations first; one whose confidence 1 there is below objectness_score is
        background, of confidence 1.  A single further bottom of another size, SSD's images to draw on, is not read.
    top: (1, 1, D, 7), a row (sample, class, confidence, xmin, ymin, xmax, ymax) for each of the D boxes found, by
        sample and class, best first; without any box in the whole batch one row (sample, -1, ...) for each sample

    detection_output_param: num_classes K, share_location true, background_label_id 0 (not reported; -1: there is none),
        nms_param { nms_threshold 0.3, top_k: most candidates of a class, eta 1: factor that shrinks the threshold },
        code_type CORNER, variance_encoded_in_target false, keep_top_k -1 (all), confidence_threshold (absent: none),
        objectness_score 0.01.
        save_output_param writes files, see `DetectionFiles`, if it gives output_directory, label_map_file and
        name_size_file and these files exist.  visualize has no effect: `minicaffe show --detections` draws boxes.

    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Liu et al., SSD, 2016; Zhang et al., Single-Shot Refinement Neural Network, 2018 (RefineDet).
    """

    fork = "SSD; RefineDet"
    min_bottom, max_bottom = 3, 5
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
        if param.visualize:
            _log.info("Layer %s: visualize has no effect, `minicaffe show --detections` draws the boxes", self.name)
        labels = [label for label in range(self.classes) if label != param.background_label_id]
        self.files = open_files(self, param, labels)

    @property
    def repeatable(self):  # type: ignore[override]  # nothing sets it
        return self.files is None

    def top_shapes(self, bottom_shapes):
        locations, confidences, priors, *refining = bottom_shapes
        count = count_priors(self, priors)
        if locations[:1] != confidences[:1] or not locations:
            raise self.error(f"bottoms 0 and 1 must be of the same samples (N, ...), got {locations} and {confidences}")
        sets = 1 if self.param.share_location else self.classes
        for i, shape, each in ((0, locations, 4 * sets), (1, confidences, self.classes)):
            if int(np.prod(shape[1:])) != count * each:
                raise self.error(f"bottom {i} must hold {each} numbers for each of {count} priors, got {shape}")
        self.refined = _refines(refining, locations[0], count)
        if len(refining) == 2 and not self.refined:
            raise self.error(
                f"bottoms 3 and 4 must be confidences and locations of RefineDet's first stage, ({locations[0]}, "
                f"{2 * count}) and ({locations[0]}, {4 * count}), got {refining[0]} and {refining[1]}"
            )
        return [(1, 1, 1, 7)]

    def forward_cpu(self, bottom, top):
        samples = bottom[0].shape[0]
        priors, variances = bottom[2].read_data().reshape(2, bottom[2].shape[2] // 4, 4)
        sets = 1 if self.param.share_location else self.classes
        locations = bottom[0].read_data().reshape(samples, len(priors), sets, 4)
        confidences = bottom[1].read_data().reshape(samples, len(priors), self.classes)
        found = []
        for n in range(samples):
            own_priors, scores = self._first_stage(bottom[3:], n, priors, variances, confidences[n])
            found.append(self._detect(n, locations[n], scores, own_priors, variances))
        rows = np.concatenate(found) if found else np.zeros((0, 7))
        if not len(rows):
            rows = np.array([[n, -1, -1, -1, -1, -1, -1] for n in range(samples)]).reshape(samples, 7)
        top[0].reshape(1, 1, len(rows), 7)
        top[0].data = rows.reshape(top[0].shape)
        if self.files:
            for own in found:
                self.files.add(own)

    def _first_stage(self, bottoms, n: int, priors, variances, confidences) -> tuple[np.ndarray, np.ndarray]:
        """Return priors and confidences of sample n after RefineDet's first stage, if there is one."""
        if self.refined:
            objectness = bottoms[0].read_data()[n].reshape(-1, 2)[:, 1:]
            background = np.eye(1, self.classes, dtype=confidences.dtype)
            confidences = np.where(objectness < self.param.objectness_score, background, confidences)
        if self.refined and len(bottoms) > 1:
            priors = self._decode(bottoms[1].read_data()[n].reshape(-1, 4), priors, variances)
        return priors, confidences

    def _decode(self, codes, priors, variances) -> np.ndarray:
        """Return the corners (P, 4) of boxes from their codes."""
        return decode(codes, priors, None if self.param.variance_encoded_in_target else variances, self.param.code_type)

    def _detect(self, n: int, locations, confidences, priors, variances) -> np.ndarray:
        """Return the rows (D, 7) of one sample."""
        decoded = [self._decode(locations[:, s], priors, variances) for s in range(locations.shape[1])]
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
            rows = rows[largest(rows[:, 2], self.param.keep_top_k)]
            rows = rows[np.argsort(rows[:, 1], kind="stable")]
        return rows

    def _candidates(self, scores: np.ndarray) -> np.ndarray:
        """Return the indices of the `top_k` largest scores above `confidence_threshold`, the largest first."""
        above = np.flatnonzero(scores > self.least)
        return above[largest(scores[above], self.top_k if self.top_k > -1 else None)]

    def state(self):
        return {**super().state(), **({"image": self.files.images.next} if self.files else {})}

    def load_state(self, state):
        super().load_state(state)
        if self.files:
            self.files.load(state)


def _refines(shapes: Sequence[Shape], samples: int, count: int) -> bool:
    """Whether bottoms from the fourth on are of RefineDet's first stage, by their sizes, for `count` priors."""
    sizes = [(shape[:1], int(np.prod(shape[1:]))) for shape in shapes]
    return bool(sizes) and sizes == [((samples,), 2 * count), ((samples,), 4 * count)][: len(sizes)]
