"""What the predictions of a single-shot detector are compared with: a batch of images with priors and true boxes.

N images, P priors, L locations for each prior (1, or one for each class), K classes.
Source: Liu et al., SSD, 2016, section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minicaffe.layers.shared.boxes import decode, largest, overlaps
from minicaffe.layers.shared.hard_negatives import hardest_apart
from minicaffe.layers.shared.matching import UNMATCHED, crosses_boundary, encode, match
from minicaffe.proto.caffe_pb2 import MultiBoxLossParameter


class TrueBoxes(NamedTuple):
    """The boxes of a batch: their images (B,), labels (B,) and corners (B, 4)."""

    image: np.ndarray
    label: np.ndarray
    corners: np.ndarray


class Matches(NamedTuple):
    """Pairs of a location and a true box: for each of M its image, prior, index in L, and the index of the true box."""

    image: np.ndarray
    prior: np.ndarray
    location: np.ndarray
    box: np.ndarray

    def of(self, chosen: np.ndarray) -> Matches:
        """Return those of a mask (M,)."""
        return Matches(*(each[chosen] for each in self))


_NO_MATCHES = Matches(*(np.zeros(0, int) for _ in Matches._fields))


class BoxTargets(NamedTuple):
    """What M of the N P L locations are compared with.

    cells: (M,), which locations.  codes: (M, 4), of their true boxes.  divisors: (M, 4), of the predicted codes; None:
    1.  inside: (M, 4), the coordinates that count; None: all.
    """

    cells: np.ndarray
    codes: np.ndarray
    divisors: np.ndarray | None
    inside: np.ndarray | None

    def differences(self, locations: np.ndarray) -> np.ndarray:
        """Return prediction - target (M, 4), 0 where a coordinate does not count; locations: (N P L, 4)."""
        predicted = locations[self.cells]
        if self.divisors is not None:
            predicted /= self.divisors
        predicted -= self.codes
        return predicted if self.inside is None else np.where(self.inside, predicted, 0)


class ClassTargets(NamedTuple):
    """What R of the N P rows of K scores are compared with.

    rows: (R,), which rows.  labels: (R,), their classes, or -1 for none.  further: the other classes of rows with more
    than one, as indices into all N P K scores.
    """

    rows: np.ndarray
    labels: np.ndarray
    further: np.ndarray


@dataclass
class Batch:
    """Images with their priors and true boxes.

    priors: (N, P, 4); variances: (P, 4).  locations: returns the predicted codes (N, P, L, 4); called when needed.
    objectness: (N, P), of an earlier stage, or None.
    `match` sets `best`, (N, P), the largest overlap of each prior with a true box, and `state`, (N, P): UNMATCHED,
    IGNORED, or at least 0 for a match.
    """

    param: MultiBoxLossParameter
    true: TrueBoxes
    priors: np.ndarray
    variances: np.ndarray
    locations: Callable[[], np.ndarray]
    objectness: np.ndarray | None

    def match(self) -> Matches:
        """Return the matches, by image, class and prior."""
        self.state, self.best = np.full(self.priors.shape[:2], UNMATCHED), np.zeros_like(self.priors[..., 0])
        per_prediction = self.param.match_type == MultiBoxLossParameter.PER_PREDICTION
        threshold = self.param.overlap_threshold if per_prediction else None
        found = [_NO_MATCHES]
        for image, location, boxes in self._groups():
            candidates = self._candidates(image, location)
            ignored = np.zeros(len(candidates), bool)
            if self.param.ignore_cross_boundary_bbox:
                ignored = crosses_boundary(candidates)
            overlap = overlaps(self.true.corners[boxes].T, np.ascontiguousarray(candidates.T))
            self.state[image], self.best[image] = match(overlap, threshold, ignored)
            prior = np.flatnonzero(self.state[image] >= 0)
            box = boxes[self.state[image, prior]]
            at = np.zeros_like(box) if self.param.share_location else self.true.label[box]
            found.append(Matches(np.full_like(box, image), prior, at, box))
        return Matches(*map(np.concatenate, zip(*found)))

    def _groups(self):
        """Yield image, index in L, and true boxes that are matched together: all of an image, or those of a class."""
        by_class = not (self.param.share_location or self.param.use_prior_for_matching)
        for image in np.unique(self.true.image):
            boxes = np.flatnonzero(self.true.image == image)
            labels = self.true.label[boxes]
            for label in np.unique(labels) if by_class else [0]:
                yield image, label, boxes[labels == label] if by_class else boxes

    def _candidates(self, image: int, location: int) -> np.ndarray:
        """Return the boxes (P, 4) that are matched with true boxes: the priors, or the predicted boxes."""
        if self.param.use_prior_for_matching:
            return self.priors[image]
        return self.decode(self.locations()[image, :, location], self.priors[image], self.variances)

    def decode(self, codes: np.ndarray, priors: np.ndarray, variances: np.ndarray) -> np.ndarray:
        """Return the boxes (n, 4) of codes (n, 4)."""
        in_target = self.param.encode_variance_in_target
        return decode(codes, priors, None if in_target else variances, self.param.code_type)

    def labels(self, matches: Matches) -> np.ndarray:
        """Return the label (N, P) of each prior's true box, or background_label_id."""
        labels = np.full(self.state.shape, self.param.background_label_id)
        labels[matches.image, matches.prior] = self.true.label[matches.box]
        return labels

    def mine(self, matches: Matches, losses: np.ndarray) -> tuple[Matches, np.ndarray]:
        """Return the matches that count, and the negatives, as indices into all N P priors.

        losses: (N, P).  An image without true boxes has no negatives.
        """
        selected, hard = np.zeros(self.state.shape, bool), self.param.mining_type == MultiBoxLossParameter.HARD_EXAMPLE
        for image in np.unique(self.true.image):
            state = self.state[image]
            eligible = np.full(len(state), True) if hard else self._negatives(image)
            if self.objectness is not None:
                eligible &= self.objectness[image] >= self.param.objectness_score
            candidates, count = np.flatnonzero(eligible), self.param.sample_size
            if not hard:
                wanted = np.count_nonzero(state >= 0) * self.param.neg_pos_ratio
                count = int(np.float32(min(wanted, len(candidates))))  # a product of floats, cut off
            selected[image, candidates[self._hardest(image, candidates, losses[image, candidates], count)]] = True
        if hard:
            matches = matches.of(selected[matches.image, matches.prior])
        return matches, np.flatnonzero(selected & (self.state == UNMATCHED))

    def _negatives(self, image: int) -> np.ndarray:
        return (self.state[image] == UNMATCHED) & (self.best[image] < self.param.neg_overlap)

    def _hardest(self, image: int, candidates: np.ndarray, losses: np.ndarray, count: int) -> np.ndarray:
        """Return the indices of at most `count` large losses of candidates."""
        nms = self.param.nms_param
        if not (self.param.HasField("nms_param") and nms.nms_threshold > 0):
            return largest(losses, count)
        boxes = self.priors[image][candidates]
        if not self.param.use_prior_for_nms:
            boxes = self.decode(self.locations()[image, candidates, 0], boxes, self.variances[candidates])
        most = nms.top_k if nms.HasField("top_k") and nms.top_k >= 0 else None
        return hardest_apart(losses, boxes, count, nms.nms_threshold, most)

    def box_targets(self, matches: Matches) -> BoxTargets:
        """Return what the matched locations are compared with."""
        image, prior, location, box = matches
        priors, variances = self.priors[image, prior], self.variances[prior]
        codes, inside = encode(self.true.corners[box], priors, variances, self.param.code_type), None
        if self.param.bp_inside:
            boxes = priors
            if not self.param.use_prior_for_matching:
                boxes = self.decode(self.locations()[image, prior, location], priors, variances)
            inside = (boxes >= 0) & (boxes <= 1)
        locations = 1 if self.param.share_location else self.param.num_classes
        cells = (image * self.priors.shape[1] + prior) * locations + location
        return BoxTargets(cells, codes, variances if self.param.encode_variance_in_target else None, inside)

    def class_targets(self, matches: Matches, negatives: np.ndarray | None) -> ClassTargets:
        """Return what the scores are compared with: those of matches and negatives, or without mining all."""
        param, (images, count, _) = self.param, self.priors.shape
        labels = self.true.label[matches.box]
        if param.map_object_to_agnostic:
            labels = np.full_like(labels, param.background_label_id + 1)
        at = matches.image * count + matches.prior
        logistic = param.conf_loss_type == MultiBoxLossParameter.LOGISTIC
        target = np.full(images * count, -1 if logistic else param.background_label_id)
        rows = np.arange(images * count)
        if negatives is not None:
            target[negatives] = param.background_label_id
            rows = np.concatenate([at, negatives])
        target[at] = labels  # of several classes of one prior the last
        scores = np.unique(at * param.num_classes + labels) if logistic else at[:0]
        further = scores[target[scores // param.num_classes] != scores % param.num_classes]
        return ClassTargets(rows, target[rows], further)
