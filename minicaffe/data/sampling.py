"""Random parts of an image with boxes: batch_sampler (SSD) and yolo_data_jitter (YOLO) of annotated_data_param.

Liu et al., SSD, 2016, section 2.2, "Data augmentation".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.data.box_rows import areas, common
from minicaffe.data.resize_param import Resizer
from minicaffe.errors import DataError
from minicaffe.proto.caffe_pb2 import AnnotatedDataParameter, BatchSampler, ResizeParameter

_MOST_TRIALS = 100_000  # of all samplers: they are drawn together
_MEASURES = ("jaccard_overlap", "sample_coverage", "object_coverage")


class Samplers:
    """The samplers of a layer.

    Each draws up to max_trials parts and keeps those that meet its sample_constraint, at most max_sample of them.  One
    of the parts that all samplers keep is chosen, each with the same probability; without any, the whole image stays.

    A part has scale s and aspect ratio a, uniform between the sampler's limits; a is cut to [s^2, 1 / s^2].  The part
    is s sqrt(a) wide and s / sqrt(a) high, at a uniform position.
    A part meets a constraint if one box does.  Of the measures with limits only the first counts, in the order jaccard
    overlap, sample coverage (share of the part), object coverage (share of the box): in the fork a box that passes the
    first one makes the part accepted, whatever the tests after it find.

    params: the batch_sampler messages; those with use_original_image: false draw nothing.
    DataError for limits that are no interval, and for more than 100,000 trials.
    """

    def __init__(self, params: Sequence[BatchSampler]) -> None:
        params = [param for param in params if param.use_original_image]
        trials = [min(param.max_trials, _MOST_TRIALS + 1) for param in params]
        if sum(trials) > _MOST_TRIALS:
            raise DataError(f"batch_sampler: max_trials must be at most {_MOST_TRIALS} in total")
        ranges = np.array([_ranges(param) for param in params]).reshape(-1, 4)
        measures = np.array([_limits(param) for param in params]).reshape(-1, 3)
        most = np.array([param.max_sample if param.HasField("max_sample") else param.max_trials for param in params])
        self._sampler = np.repeat(np.arange(len(params)), np.array(trials, np.intp))  # of each trial
        self._low, self._span = ranges[:, ::2][self._sampler], np.diff(ranges)[:, ::2][self._sampler]
        self._measure, self._limits = measures[self._sampler, 0], measures[self._sampler, 1:]
        self._most = most[self._sampler]
        self._starts = np.searchsorted(self._sampler, self._sampler)  # the first trial of each trial's sampler

    def draw(self, generator: np.random.Generator, boxes: np.ndarray) -> np.ndarray | None:
        """Draw a part of an image with these boxes (n, 4): its (xmin, ymin, xmax, ymax); None: the whole image.

        All corners are fractions of the image.  The trials are drawn together.
        """
        parts = self._parts(generator.random((len(self._sampler), 4)))
        choice = generator.random()
        kept = self._accepted(parts, boxes.astype(np.float64))
        before = np.cumsum(kept) - kept
        kept &= before - before[self._starts] < self._most
        chosen = np.flatnonzero(kept)
        return parts[chosen[int(choice * len(chosen))]] if len(chosen) else None

    def _parts(self, draws: np.ndarray) -> np.ndarray:
        """Return parts (n, 4) from uniform numbers (n, 4) for scale, aspect ratio and position."""
        scale, ratio = (self._low + draws[:, :2] * self._span).T
        root = np.sqrt(ratio.clip(scale**2, scale**-2))
        size = np.stack([scale * root, scale / root], 1).clip(0, 1)
        corner = draws[:, 2:] * (1 - size)
        return np.concatenate([corner, corner + size], 1)

    def _accepted(self, parts: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Return which parts (n, 4) meet the constraint of their sampler, bool (n,)."""
        of_part, of_box = areas(parts)[:, None], areas(boxes)
        shared = areas(common(parts[:, None], boxes))
        measure = self._measure[:, None]
        whole = np.where(measure == 0, of_part + of_box - shared, np.where(measure == 1, of_part, of_box))
        share = shared / np.where(shared > 0, whole, 1)
        met = (share >= self._limits[:, :1]) & (share <= self._limits[:, 1:])
        return met.any(1) | (self._measure < 0)


class Jitter:
    """Parts of an image whose width and height are uniform between 1 - jitter and 1, at a uniform position.

    Of 5 images 1 stays whole, and 1 has a part with half of the jitter.
    jitter: between 0 and 1.  same: whether width and height are the same share of those of the image.
    """

    def __init__(self, jitter: float, same: bool) -> None:
        if not 0 <= jitter < 1:
            raise DataError(f"yolo_data_jitter must be at least 0 and below 1, got {jitter:g}")
        self._jitter, self._same = jitter, same

    def draw(self, generator: np.random.Generator, boxes: np.ndarray) -> np.ndarray | None:
        """Draw a part, as `Samplers.draw`; it does not depend on the boxes, and always takes 5 numbers."""
        kind, *lost, left, top = generator.random(5).tolist()
        if kind < 0.2:
            return None
        size = 1 - np.array(lost) * self._jitter * (0.5 if kind < 0.4 else 1)
        if self._same:
            size[1] = size[0]
        corner = np.array([left, top]) * (1 - size)
        return np.concatenate([corner, corner + size])


def part_sampler(param: AnnotatedDataParameter, resizer: Resizer | None) -> Samplers | Jitter | None:
    """Return what draws parts of images, for an annotated_data_param; None: images stay whole.

    resizer: what happens to the parts; padding keeps their aspect ratio, and so does the jitter.
    """
    if param.batch_sampler:
        return Samplers(param.batch_sampler)
    given = param.yolo_data_type == 1 or param.HasField("yolo_data_jitter")
    if not given or not param.yolo_data_jitter:
        return None
    padded = resizer is not None and resizer.param.resize_mode == ResizeParameter.FIT_LARGE_SIZE_AND_PAD
    return Jitter(param.yolo_data_jitter, padded)


def _ranges(param: BatchSampler) -> tuple[float, float, float, float]:
    """Return the limits of scale and aspect ratio."""
    sampler = param.sampler
    if not 0 < sampler.min_scale <= sampler.max_scale <= 1:
        raise DataError(
            "batch_sampler: min_scale and max_scale must be 0 < min_scale <= max_scale <= 1, "
            f"got {sampler.min_scale:g} and {sampler.max_scale:g}"
        )
    if not 0 < sampler.min_aspect_ratio <= sampler.max_aspect_ratio < np.inf:
        raise DataError(
            "batch_sampler: min_aspect_ratio and max_aspect_ratio must be 0 < min_aspect_ratio <= max_aspect_ratio, "
            f"got {sampler.min_aspect_ratio:g} and {sampler.max_aspect_ratio:g}"
        )
    return sampler.min_scale, sampler.max_scale, sampler.min_aspect_ratio, sampler.max_aspect_ratio


def _limits(param: BatchSampler) -> tuple[int, float, float]:
    """Return the number of the first measure that has limits, -1 if none has, and its limits."""
    constraint = param.sample_constraint
    for number, name in enumerate(_MEASURES):
        low, high = f"min_{name}", f"max_{name}"
        if constraint.HasField(low) or constraint.HasField(high):
            return (
                number,
                getattr(constraint, low) if constraint.HasField(low) else -np.inf,
                getattr(constraint, high) if constraint.HasField(high) else np.inf,
            )
    return -1, -np.inf, np.inf
