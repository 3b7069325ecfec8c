"""Check that a layer's backward pass is the derivative of its forward pass: central differences in float64.

Also for layers of your own:

    check_gradient('type: "Power" power_param { power: 3 }', [np.random.randn(2, 3)])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import create_layer
from minicaffe.proto import TRAIN, caffe_pb2, parse_text


class GradientError(AssertionError):
    """A derivative differs; the message names layer, blob, index and both values."""


def layer_from_text(text: str, phase: int = TRAIN, dtype: np.typing.DTypeLike = np.float64) -> Layer:
    """Create a layer from the content of a `layer { }` message; the name defaults to "layer".

    phase: TRAIN (default) or TEST.  dtype: of its parameters, float64 by default.
    """
    param = parse_text(text, caffe_pb2.LayerParameter())
    param.name = param.name or "layer"
    return create_layer(param, phase, dtype)


def blobs_of(arrays: Sequence[np.ndarray], dtype: np.typing.DTypeLike) -> list[Blob]:
    """Create one blob per array, with its shape and values."""
    blobs = []
    for array in arrays:
        blob = Blob(np.shape(array), dtype)
        blob.data[...] = array
        blobs.append(blob)
    return blobs


def check_gradient(
    text: str,
    bottoms: Sequence[np.ndarray],
    *,
    num_top: int = 1,
    check_bottom: Sequence[int] | None = None,
    check_params: bool = True,
    phase: int = TRAIN,
    step: float = 1e-5,
    tolerance: float = 1e-6,
    kink: float | None = None,
    kink_range: float = 1e-3,
    most: int = 120,
    seed: int = 0,
) -> None:
    """Compare the analytic and numeric derivatives of a random weighted sum of the tops.

    text: the inside of a `layer { }` message.  bottoms: their values.
    check_bottom: indices of the bottoms to check, all by default; check_params: whether to check the parameters too.
    step: half the width of the central difference.  tolerance: allowed |analytic - numeric| / max(1, |either|).
    kink, kink_range: elements whose |value| is within `kink_range` of `kink` are skipped.
    most: at most so many elements of each blob, drawn at random.
    """
    check = _Check(text, bottoms, num_top, phase, seed)
    targets = check.targets(range(len(bottoms)) if check_bottom is None else check_bottom, check_params)
    analytic = check.analytic([index for kind, index in targets if kind == "bottom"])
    for kind, index in targets:
        blob = check.blob(kind, index)
        where = check.rng.permutation(blob.count)[:most]
        for flat in where:
            value = blob.data.flat[flat]
            if kink is not None and abs(abs(value) - kink) < kink_range:
                continue
            got, expected = analytic[kind, index].flat[flat], check.numeric(blob, flat, step)
            if not abs(got - expected) <= tolerance * max(1.0, abs(got), abs(expected)):
                at = np.unravel_index(flat, blob.shape) if blob.shape else ()
                raise GradientError(
                    f"{check.layer.type} layer '{check.layer.name}': {kind} {index} at {tuple(map(int, at))} "
                    f"(value {value:.6g}): backward gives {got:.9g}, differences give {expected:.9g}"
                )


class _Check:
    """A layer with its bottoms and weighted tops: the loss is the sum of weight * top over all tops."""

    def __init__(self, text: str, bottoms: Sequence[np.ndarray], num_top: int, phase: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.layer = layer_from_text(text, phase)
        self.bottom = blobs_of(bottoms, np.float64)
        self.top = [Blob(dtype=np.float64) for _ in range(num_top)]
        self.layer.initialize(self.bottom, self.top)
        for blob in self.layer.blobs:  # parameters filled with 0 could hide errors
            blob.data[...] = blob.data + 0.3 * self.rng.standard_normal(blob.shape)
        self.params_before = [blob.data.copy() for blob in self.layer.blobs]
        self.state = self.layer.state()
        self.forward()
        self.weights = [self._weights(i) for i in range(num_top)]

    def _weights(self, i: int) -> np.ndarray:
        if self.layer.default_loss_weight(i):  # a loss layer scales its gradient by one number, the loss weight
            return np.full(self.top[i].shape, 1.7)
        return self.rng.standard_normal(self.top[i].shape)

    def forward(self) -> float:
        """Run forward with the same random numbers each time; return the loss."""
        self.layer.load_state(self.state)
        self.layer.forward(self.bottom, self.top)
        if not hasattr(self, "weights"):
            return 0.0
        return sum(float((w * t.read_data()).sum()) for w, t in zip(self.weights, self.top))

    def targets(self, bottoms: Sequence[int], params: bool) -> list[tuple[str, int]]:
        found = [("bottom", i) for i in bottoms]
        if params:
            wanted = self.layer.param_propagate_down
            frozen = [p.HasField("lr_mult") and p.lr_mult == 0 for p in self.layer.layer_param.param]
            frozen += [False] * (len(wanted) - len(frozen))
            found += [("param", j) for j, want in enumerate(wanted) if want and not frozen[j]]
        return found

    def blob(self, kind: str, index: int) -> Blob:
        return self.bottom[index] if kind == "bottom" else self.layer.blobs[index]

    def analytic(self, bottoms: Sequence[int]) -> dict[tuple[str, int], np.ndarray]:
        """Return the diffs of one backward pass.

        Diffs start with random values: backward must overwrite those of the bottoms and add to those of parameters.
        """
        self.forward()
        for bottom in self.bottom:
            bottom.diff[...] = self.rng.standard_normal(bottom.shape)
        for top, weights in zip(self.top, self.weights):  # a top may share the diff of its bottom
            top.diff[...] = weights
        before = []
        for blob in self.layer.blobs:
            blob.diff[...] = self.rng.standard_normal(blob.shape)
            before.append(blob.diff.copy())
        down = [i in bottoms for i in range(len(self.bottom))]
        self.layer.backward(self.top, down, self.bottom)
        diffs: dict[Any, np.ndarray] = {("bottom", i): self.bottom[i].diff.copy() for i in bottoms}
        for j, (blob, old) in enumerate(zip(self.layer.blobs, before)):
            diffs["param", j] = blob.diff - old
        return diffs

    def numeric(self, blob: Blob, flat: int, step: float) -> float:
        value = blob.data.flat[flat]
        losses = []
        for sign in (1, -1):
            self._restore_params(but=blob)
            blob.data.flat[flat] = value + sign * step
            losses.append(self.forward())
        blob.data.flat[flat] = value
        return (losses[0] - losses[1]) / (2 * step)

    def _restore_params(self, but: Blob) -> None:
        """Undo a forward pass's changes of parameters (BatchNorm's statistics)."""
        for blob, values in zip(self.layer.blobs, self.params_before):
            if blob is not but:
                blob.data[...] = values
