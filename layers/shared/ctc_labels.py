"""Where the layers of CTC find labels, and numbers of labels and steps, among their bottoms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from minicaffe.layers.shared.loss import bad_label
from minicaffe.layers.shared.views import truncated


class LabelForm(NamedTuple):
    """The bottoms behind the scores (T, N, K); a bottom is given by its index, 0 where there is none.

    labels: (N, L), or (L, N) with `by_step`.  lengths: how many labels each sequence has, (N); without, those up to the
    first negative one, or all.  Blanks among them are left out; `collapse`: and labels that repeat the one before.
    shift: added to each label.
    steps: how many steps each sequence has, (N).  continuation: (T, N), a sequence ends before the first 0 behind step
    0; there a sequence without labels has no steps.  Without either all sequences have `most_steps`, or T if that is 0.
    """

    labels: int
    by_step: bool = False
    lengths: int = 0
    steps: int = 0
    continuation: int = 0
    shift: int = 0
    collapse: bool = False
    most_steps: int = 0

    def names(self) -> Iterator[tuple[int, str]]:
        """Yield index and content of each bottom."""
        for name in ("labels", "lengths", "steps", "continuation"):
            if index := getattr(self, name):
                yield index, name

    def check(self, layer, shapes) -> None:
        """Raise the layer's error for shapes that do not fit."""
        (steps, sequences, _), labels = shapes[0][:3], shapes[self.labels]
        if labels[self.by_step : 1 + self.by_step] != (sequences,):
            form = "(L, N)" if self.by_step else "(N, L)"
            raise layer.error(f"bottom {self.labels} must be labels {form} with N = {sequences}, got {labels}")
        for index, name in self.names():
            count = {"lengths": sequences, "steps": sequences, "continuation": steps * sequences}.get(name)
            if count is not None and math.prod(shapes[index]) != count:
                raise layer.error(f"bottom {index} ({name}) must hold {count} numbers, got {shapes[index]}")
        if self.most_steps > steps:
            raise layer.error(f"time_step must be at most {steps}, the steps of bottom 0, got {self.most_steps}")

    def most_labels(self, bottom) -> int:
        """Return L."""
        return bottom[self.labels].count // bottom[0].shape[1]

    def source_gpu(self, bottom) -> tuple:
        """Return the arguments of ctc.cu's `read_targets` that say where the labels are."""
        given = (self.lengths, self.steps, self.continuation)
        pointers = (bottom[i].gpu_data() if i else 0 for i in given)
        return (self.by_step, self.shift, self.collapse, self.most_steps, bottom[self.labels].gpu_data(), *pointers)


class Targets(NamedTuple):
    """Labels (N, L), -1 behind the last; how many each sequence has, (N); its numbers of steps, (N)."""

    labels: np.ndarray
    counts: np.ndarray
    steps: np.ndarray


def read_targets(layer, bottom) -> Targets:
    """Return the targets of a `CTC` layer's bottoms."""
    form, (most, sequences, classes) = layer.form, layer.view
    given = bottom[form.labels].read_data()
    given = given.reshape(-1, sequences).T if form.by_step else given.reshape(sequences, -1)
    whole = truncated(given)
    if form.lengths:
        counted = np.arange(given.shape[1]) < truncated(bottom[form.lengths].read_data().reshape(-1, 1))
    else:
        counted = np.logical_and.accumulate(~(given < 0), axis=1)
    first = np.ones(whole.shape, bool)
    first[:, 1:] = whole[:, 1:] != whole[:, :-1]
    whole += form.shift
    wrong = counted & ((whole < 0) | (whole >= classes))
    if wrong.any():
        raise bad_label(layer, given[wrong][0], classes)
    counted &= (whole != layer.blank) & (first | (not form.collapse))
    order, counts = np.argsort(~counted, axis=1, kind="stable"), counted.sum(1)
    labels = np.take_along_axis(np.where(counted, whole, -1), order, 1)
    return Targets(labels, counts, _steps(layer, bottom, most, counts))


def _steps(layer, bottom, most: int, counts: np.ndarray) -> np.ndarray:
    form, sequences = layer.form, len(counts)
    if form.steps:
        steps = bottom[form.steps].read_data().reshape(-1)
        wrong = ~((steps >= 0) & (steps <= most))
        if wrong.any():
            raise layer.error(f"numbers of steps must be 0 to {most}, got {steps[wrong][0]:g}")
        return steps.astype(int)
    if form.continuation:
        ends = bottom[form.continuation].read_data().reshape(most, sequences)[1:] < 0.5
        steps = np.where(ends.any(0), ends.argmax(0) + 1, most) if most > 1 else np.full(sequences, most)
        return np.where(counts > 0, steps, 0)
    return np.full(sequences, form.most_steps or most)
