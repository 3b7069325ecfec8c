"""Statistics of what the layers of a net compute in one forward and one backward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.net import Net
from minicaffe.core.running import Callbacks
from minicaffe.layers.batch_norm import BatchNorm
from minicaffe.layers.shared.softmax import three_axes

LARGEST = -math.log(np.finfo(np.float32).tiny)  #: the loss of a probability of 0 in SoftmaxWithLoss, 87.3365


@dataclass(frozen=True)
class Stats:
    """Statistics of the values of a blob.

    fault: "nan" or "infinite values" if there are any, else "".  zero: whether all are 0.
    mean, rms: their mean and root mean square; nan with a fault, 0 for an empty blob.
    """

    fault: str
    zero: bool
    mean: float
    rms: float

    @property
    def is_shifted(self) -> bool:
        """Whether the mean is more than three standard deviations from 0."""
        return abs(self.mean) > 3 * math.sqrt(max(self.rms**2 - self.mean**2, 0))

    @classmethod
    def of(cls, values: np.ndarray) -> Stats:
        """Return the statistics of an array."""
        if not values.size:
            return cls("", True, 0.0, 0.0)
        if not np.isfinite(values).all():
            return cls("nan" if np.isnan(values).any() else "infinite values", False, math.nan, math.nan)
        mean = float(values.mean(dtype=np.float64))
        square = float(np.square(values, dtype=np.float64).mean())
        return cls("", not values.any(), mean, math.sqrt(square))


@dataclass(frozen=True)
class ClassLoss:
    """The loss of a SoftmaxWithLoss, computed anew for each position.

    classes: their number.  counted: positions whose label is not ignored.
    loss: mean of -log p(label) over these, each at most LARGEST; nan without any.
    saturated: share of these with a probability of 0 in float32.
    spread: standard deviation of the scores over the batch, mean over classes and positions.
    """

    classes: int
    counted: int
    loss: float
    saturated: float
    spread: float

    @property
    def chance(self) -> float:
        """The loss of equal probabilities."""
        return math.log(self.classes)


@dataclass
class LayerPass:
    """What one layer has computed.

    index: of the layer in the net.  bottoms, tops: statistics of the data when the layer has read or written them.
    arrives: whether any gradient has arrived at its tops.  passes: whether any gradient has left through its bottoms;
        None if none should.  faults: what is not finite after its backward pass: names of bottoms and "parameters".
    statistics: of the bottom of a BatchNorm, mean and variance of each channel, and the values that each has.
    class_loss: of a SoftmaxWithLoss.
    """

    index: int
    layer: Layer
    bottoms: list[Stats] = field(default_factory=list)
    tops: list[Stats] = field(default_factory=list)
    arrives: bool = False
    passes: bool | None = None
    faults: list[str] = field(default_factory=list)
    statistics: tuple[np.ndarray, np.ndarray, int] | None = None
    class_loss: ClassLoss | None = None

    @property
    def where(self) -> str:
        """The layer, for findings."""
        return f"layer '{self.layer.name}'"

    @property
    def called(self) -> str:
        """Type and name of the layer, for sentences."""
        return f"{self.layer.layer_param.type} layer '{self.layer.name}'"


class Observed:
    """A net whose layers are observed in its passes.

    net: the net.  layers: what each layer has computed, by index.  loss: the weighted loss of the forward pass.
    stored: for each BatchNorm, by index, the mean and variance in its blobs before the passes; 0 if never trained.
    """

    def __init__(self, net: Net) -> None:
        self.net = net
        self.layers = [LayerPass(i, layer) for i, layer in enumerate(net.layers)]
        self.stored = {
            i: layer.stored_statistics() for i, layer in enumerate(net.layers) if isinstance(layer, BatchNorm)
        }
        self._now: dict[int, Stats] = {}  # by id of the blob: statistics of the data that it has now
        self.loss = math.nan

    def forward(self) -> None:
        """Run one forward pass, and read the loss, which is the moment when a device reports labels out of range."""
        self.net.callbacks = Callbacks([self._before_forward], [self._after_forward])
        self.net.run_forward()
        self.net.callbacks = Callbacks()
        with np.errstate(all="ignore"):
            self.loss = self.net.loss()

    def backward(self) -> None:
        """Run one backward pass."""
        self.net.callbacks = Callbacks([], [], [self._before_backward], [self._after_backward])
        self.net.run_backward()
        self.net.callbacks = Callbacks()

    # -- callbacks -------------------------------------------------------------------------------------------------

    def _before_forward(self, i: int) -> None:
        own, bottoms = self.layers[i], self.net.bottoms[i]
        own.bottoms = [self._now[id(blob)] for blob in bottoms]
        if i in self.stored:
            own.statistics = _channel_statistics(bottoms[0].read_data())

    def _after_forward(self, i: int) -> None:
        own = self.layers[i]
        own.tops = [Stats.of(blob.read_data()) for blob in self.net.tops[i]]
        self._now.update(zip(map(id, self.net.tops[i]), own.tops))
        if own.layer.layer_param.type == "SoftmaxWithLoss":
            own.class_loss = _class_loss(own.layer, self.net.bottoms[i])

    def _before_backward(self, i: int) -> None:
        if self.net.layer_need_backward[i]:
            self.layers[i].arrives = any(blob.read_diff().any() for blob in self.net.tops[i])

    def _after_backward(self, i: int) -> None:
        if not self.net.layer_need_backward[i]:
            return
        own, needed = self.layers[i], self.net.bottom_need_backward[i]
        diffs = [blob.read_diff() for blob, need in zip(self.net.bottoms[i], needed) if need]
        own.passes = any(diff.any() for diff in diffs) if diffs else None
        names = [name for name, need in zip(self.net.names_of_bottoms[i], needed) if need]
        own.faults = [f"bottom '{name}'" for name, diff in zip(names, diffs) if not np.isfinite(diff).all()]
        if not all(np.isfinite(blob.read_diff()).all() for blob in learned(self.net, i)):
            own.faults.append("its parameters")


def learned(net: Net, i: int) -> Sequence[Blob]:
    """Return the parameters of a layer that get a gradient and have a learning rate."""
    rates = {id(blob.data_memory): rate for blob, rate in zip(net.learnable_params, net.lr_mults)}
    layer = net.layers[i]
    return [
        blob
        for blob, wanted in zip(layer.blobs, layer.param_propagate_down)
        if wanted and rates.get(id(blob.data_memory), 0)
    ]


def _channel_statistics(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Return mean and variance of each channel of (N, C, ...), in float64, and how many values a channel has."""
    channels = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
    return channels.mean(1, dtype=np.float64), channels.var(1, dtype=np.float64), channels.shape[1]


def _class_loss(layer: Any, bottoms: Sequence[Blob]) -> ClassLoss:
    """Compute the loss of a SoftmaxWithLoss from its bottoms, in float64."""
    outer, classes, inner = three_axes(bottoms[0].shape, layer.given_axis)
    scores = bottoms[0].read_data().reshape(outer, classes, inner).astype(np.float64)
    labels = bottoms[1].read_data().reshape(outer, inner).astype(np.int64)
    valid = (labels >= 0) & (labels < classes)  # on a device, others are reported after the pass
    if layer.ignored is not None:
        valid &= labels != layer.ignored
    spread = float(scores.std(0).mean()) if scores.size else 0.0
    with np.errstate(all="ignore"):
        scores -= scores.max(1, keepdims=True)
        losses = (
            np.log(np.exp(scores).sum(1)) - np.take_along_axis(scores, np.where(valid, labels, 0)[:, None], 1)[:, 0]
        )
    losses = np.minimum(losses[valid], LARGEST)
    if not losses.size:
        return ClassLoss(classes, 0, math.nan, 0.0, spread)
    return ClassLoss(classes, losses.size, float(losses.mean()), float((losses >= LARGEST).mean()), spread)
