"""PriorBox and DetectionOutput."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.export.onnx.common import append_axes, cast, reshape
from minicaffe.export.onnx.conversion import Conversion, exports
from minicaffe.export.onnx.layers.suppression import nothing, suppressed
from minicaffe.proto import caffe_pb2


@exports("PriorBox")
def prior_box(layer: Conversion) -> str:
    """A constant, the boxes for these sizes of feature map and image."""
    return layer.floats(layer.layer.boxes.read_data(), "boxes")


@exports("DetectionOutput")
def detection_output(layer: Conversion) -> str:
    """TopK, GatherND, NonMaxSuppression for each sample and class (eta below 1: Scan); TopK; NonZero, GatherND."""
    layer.axis_of_values = 2
    return _Detections(layer).rows()


class _Detections:
    """The nodes of a DetectionOutput layer.

    Candidates are the k best scores of each of the C classes other than the background.  Arrays of candidates are
    (N, C, k), by sample, class and descending score, which is the order of the rows: neither the order of what
    NonMaxSuppression returns nor the number of samples N has an influence.
    """

    def __init__(self, layer: Conversion) -> None:
        self.layer, self.own, self.param = layer, layer.layer, layer.layer.param
        self.classes = [label for label in range(self.own.classes) if label != self.param.background_label_id]
        self.priors = layer.bottom_shapes[2][2] // 4
        self.best = self.priors if self.own.top_k < 0 else min(self.own.top_k, self.priors)
        if not (self.classes and self.best):
            raise layer.impossible("it has no candidates: no class but the background, no priors, or top_k is 0")

    def rows(self) -> str:
        """Add all nodes; return the name of the rows (1, 1, D, 7)."""
        layer = self.layer
        scores, boxes = self._candidates()
        low, high = layer.ops("Split", 2, reshape(layer, boxes, [-1, self.best, 4]), axis=2)
        found = self._found(suppressed(layer, reshape(layer, scores, [-1, self.best]), low, high, self.best))
        sample, label, _ = layer.ops("Split", 3, found, axis=1)
        label = layer.op("Gather", layer.floats(self.classes, "classes"), label)
        score = append_axes(layer, layer.op("GatherND", scores, found), 1, 1)
        columns = cast(layer, sample, np.float32), label, score, layer.op("GatherND", boxes, found)
        rows = self._without_any(layer.op("Concat", *columns, axis=1))
        return reshape(layer, rows, [1, 1, -1, 7])

    def _candidates(self) -> tuple[str, str]:
        """Add scores (N, C, k) and boxes (N, C, k, 4) of the candidates."""
        layer, classes = self.layer, self.layer.ints(self.classes, "classes")
        scores = self._confidences()
        scores = layer.op("Gather", layer.op("Transpose", scores, perm=[0, 2, 1]), classes, axis=1)
        scores, places = layer.ops("TopK", 2, scores, layer.ints([self.best], "top_k"), axis=2)
        if self.param.share_location:
            codes = reshape(layer, layer.bottoms[0], [0, self.priors, 4])
        else:
            codes = reshape(layer, layer.bottoms[0], [0, self.priors, self.own.classes, 4])
            codes = layer.op("Gather", layer.op("Transpose", codes, perm=[0, 2, 1, 3]), classes, axis=1)
        boxes, places = self._decoded(codes), append_axes(layer, places, 3, 1)
        return scores, layer.op("GatherND", boxes, places, batch_dims=1 if self.param.share_location else 2)

    def _confidences(self) -> str:
        """Add the confidences (N, P, K): of the background alone where RefineDet's first stage finds no object."""
        layer = self.layer
        scores = reshape(layer, layer.bottoms[1], [0, self.priors, self.own.classes])
        if not self.own.refined:
            return scores
        _, objectness = layer.ops("Split", 2, reshape(layer, layer.bottoms[3], [0, self.priors, 2]), axis=2)
        is_background = layer.op("Less", objectness, layer.floats(self.param.objectness_score, "objectness"))
        return layer.op("Where", is_background, layer.floats(np.eye(1, self.own.classes)[0], "background"), scores)

    def _decoded(self, codes: str) -> str:
        """Add the corners (..., P, 4) of the boxes with the codes (..., P, 4)."""
        layer = self.layer
        priors, variances = (reshape(layer, x, [-1, 4]) for x in layer.ops("Split", 2, layer.bottoms[2], axis=1))
        if self.own.refined and len(layer.bottoms) > 4:
            priors = self._corners(reshape(layer, layer.bottoms[4], [0, self.priors, 4]), priors, variances)
            if not self.param.share_location:  # the same for all classes
                priors = reshape(layer, priors, [0, 1, self.priors, 4])
        return self._corners(codes, priors, variances)

    def _corners(self, codes: str, priors: str, variances: str) -> str:
        """Add the corners (..., P, 4) of the boxes with the codes (..., P, 4) relative to the priors."""
        layer, kinds = self.layer, caffe_pb2.PriorBoxParameter
        if not self.param.variance_encoded_in_target:
            codes = layer.op("Mul", codes, variances)
        if self.param.code_type == kinds.CORNER:
            return layer.op("Add", priors, codes)
        low, high = layer.ops("Split", 2, priors, axis=-1)
        size = layer.op("Sub", high, low)
        if self.param.code_type == kinds.CORNER_SIZE:
            return layer.op("Add", priors, layer.op("Mul", codes, layer.op("Concat", size, size, axis=-1)))
        shift, growth = layer.ops("Split", 2, codes, axis=-1)
        two = layer.floats(2, "two")
        centre = layer.op("Add", layer.op("Mul", shift, size), layer.op("Div", layer.op("Add", low, high), two))
        half = layer.op("Div", layer.op("Mul", layer.op("Exp", growth), size), two)
        return layer.op("Concat", layer.op("Sub", centre, half), layer.op("Add", centre, half), axis=-1)

    def _found(self, scores: str) -> str:
        """Add the indices (D, 3) of the candidates that become rows: keep_top_k of each sample, if it is given.

        scores: of all candidates, -inf for those that do not stay.
        """
        layer, keep = self.layer, self.param.keep_top_k
        count = len(self.classes) * self.best
        if -1 < keep < count:
            scores = reshape(layer, scores, [-1, count])
            values, places = layer.ops("TopK", 2, scores, layer.ints([keep], "keep_top_k"), axis=1)
            scores = layer.op("ScatterElements", nothing(layer, scores), places, values, axis=1)
        scores = reshape(layer, scores, [-1, len(self.classes), self.best])
        return layer.op("Transpose", layer.op("NonZero", layer.op("Greater", scores, layer.floats(-math.inf, "none"))))

    def _without_any(self, rows: str) -> str:
        """Add the rows (D, 7), or if there are none, a row (sample, -1, ...) for each sample."""
        layer, zero = self.layer, self.layer.ints([0])
        found, samples = layer.op("Shape", rows, end=1), layer.op("Shape", layer.bottoms[0], end=1)
        numbers = layer.op("Range", layer.ints(0), layer.op("Squeeze", samples, zero), layer.ints(1))
        numbers = append_axes(layer, cast(layer, numbers, np.float32), 1, 1)
        none = layer.op("Pad", numbers, layer.ints([0, 0, 0, 6], "pads"), layer.floats(-1))
        end = layer.op("Where", layer.op("Equal", found, zero), samples, found)
        return layer.op("Slice", layer.op("Concat", rows, none, axis=0), zero, end, zero)
