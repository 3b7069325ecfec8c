"""The nets of a solver after one batch: forward and backward in TRAIN, forward in TEST."""

from __future__ import annotations

import functools
from typing import Any

from minicaffe.checks.batch.causes import Zeros
from minicaffe.checks.batch.observed import LayerPass, Observed
from minicaffe.checks.subject import PhaseNet, Subject
from minicaffe.core import weights
from minicaffe.core.memory import Memory
from minicaffe.core.net import Net
from minicaffe.proto import caffe_pb2

_BY_SCRIPT = {"Input", "MemoryData"}  #: layers whose data a script sets


class FirstBatch:
    """The nets of a solver, built and run for one batch.

    train: the train net after a forward and a backward pass; None if a script sets its data.
    tests: the test nets after a forward pass, with the parameters of the train net; without those that need a script.
    filled: the parameters that were in the files of weights.

    The nets are apart from any other, and no layer writes a file.
    Raises what building the nets, loading the weights and passes raise.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        train, tests = _built(subject.train), [_built(net) for net in subject.tests]
        for net in tests:
            net.share_with(train)
        self.filled: set[Memory] = weights.load([train, *tests], subject.weights) if subject.weights else set()
        self.train = Observed(train) if _runs(train) else None
        self.tests = [Observed(net) for net in tests if _runs(net)]
        if self.train is not None:
            self.train.forward()
            if self.is_finite:
                self.train.backward()
        for observed in self.tests:
            observed.forward()

    @functools.cached_property
    def is_finite(self) -> bool:
        """Whether all values of the train net's forward pass are finite."""
        return self.train is None or not any(top.fault for each in self.train.layers for top in each.tops)

    @functools.cached_property
    def layers(self) -> list[LayerPass]:
        """What the layers of the train net have computed; none if some values are not finite."""
        return self.train.layers if self.train is not None and self.is_finite else []

    @functools.cached_property
    def zeros(self) -> Zeros:
        """Where the zeros of the train net begin."""
        return Zeros(self.train, self.layers)

    @property
    def losses(self) -> list[LayerPass]:
        """The layers of the train net whose tops count in the loss."""
        return [each for each in self.layers if each.layer.has_loss]

    @functools.cached_property
    def is_loss_zero(self) -> bool:
        """Whether all losses of the train net are exactly 0."""
        return bool(self.losses) and all(top.zero for each in self.losses for top in each.tops[:1])

    def is_filled(self, layer: Any) -> bool:
        """Whether the parameters of a layer were in the files of weights."""
        return bool(layer.blobs) and all(blob.data_memory in self.filled for blob in layer.blobs)


def _built(net: PhaseNet) -> Net:
    """Build a net whose layers write no files."""
    param = caffe_pb2.NetParameter()
    param.CopyFrom(net.param)
    for layer in param.layer:
        if layer.type == "HDF5Output":
            layer.type = "Silence"
    return Net.of_upgraded(param)


def _runs(net: Net) -> bool:
    """Whether the net has its data without a script."""
    return not any(layer.layer_param.type in _BY_SCRIPT for layer in net.layers)
