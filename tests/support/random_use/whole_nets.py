"""Operations on whole nets: reshape, save, load, add callbacks, share parameters."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from random import Random

import numpy as np

from random_use.blobs import Read
from random_use.operation import Operation


@dataclass(frozen=True)
class Reshape(Operation):
    """Another batch or picture size, by `net.reshape()` or by the next forward pass.  Views of blobs are dropped."""

    batch: int
    size: tuple[int, int] | None
    now: bool

    @classmethod
    def draw(cls, names):
        rng, resize = names.rng, names.resizable and names.maybe(0.7)
        size = (rng.randint(4, 10), rng.randint(4, 10)) if resize else None
        return cls(names.net(), rng.choice((1, 2, 3, 5)), size, names.maybe(0.5))

    def run(self, player):
        net = player.nets[self.net]
        player.views = {k: v for k, v in player.views.items() if v[0] != self.net or not isinstance(v[1], str)}
        player.outputs = {}
        for name in net.inputs:
            _, *rest = net.blobs[name].shape
            if len(rest) == 3 and self.size:
                rest[1:] = self.size
            net.blobs[name].reshape(self.batch, *rest)
        for name, values in player.inputs(self.net, 7).items():
            net.blobs[name].data = values
        if self.now:
            net.reshape()
        player.ready[self.net] = player.defined[self.net] = False


@dataclass(frozen=True)
class Save(Operation):
    """Read weights and their diffs from the message that `to_proto` returns."""

    def run(self, player):
        return [
            (f"saved {layer.name} {j} {what}", np.array(getattr(blob, what)))
            for layer in player.nets[self.net].to_proto(write_diff=True).layer
            for j, blob in enumerate(layer.blobs)
            for what in ("data", "diff")
        ]


@dataclass(frozen=True)
class Load(Operation):
    """Load random weights from a file."""

    seed: int

    @classmethod
    def draw(cls, names):
        return cls(names.net(), names.seed())

    def run(self, player):
        net = player.nets[self.net]
        param = net.to_proto()
        blobs = [(layer.name, j, blob) for layer in param.layer for j, blob in enumerate(layer.blobs)]
        for i, (name, j, blob) in enumerate(blobs):
            kind = player.kind(self.net, (name, j), "data")
            blob.data[:] = player.values(kind, self.seed + i, tuple(blob.shape.dim)).ravel()
        if blobs:
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "weights.caffemodel")
                with open(path, "wb") as file:
                    file.write(param.SerializeToString())
                net.copy_from(path)


@dataclass(frozen=True)
class Watch(Operation):
    """Add a callback that does nothing, so that layers run one by one from then on."""

    when: str

    @classmethod
    def draw(cls, names):
        whens = ("before_forward", "after_forward", "before_backward", "after_backward")
        return cls(names.net(), names.rng.choice(whens))

    def run(self, player):
        getattr(player.nets[self.net], self.when)(lambda i: None)


@dataclass(frozen=True)
class Debug(Operation):
    on: bool

    @classmethod
    def draw(cls, names):
        return cls(names.net(), names.maybe(0.5))

    def run(self, player):
        player.nets[self.net].debug_info = self.on


@dataclass(frozen=True)
class Share(Operation):
    """Share the parameters of the first net again."""

    def run(self, player):
        for net in player.nets[1:]:
            net.share_with(player.nets[0])


@dataclass(frozen=True)
class ReadAll(Operation):
    """All blobs and parameters of all nets, in an order drawn from `seed`, as reading may compute deferred values."""

    seed: int

    def run(self, player):
        reads = [
            Read(net, address, what)
            for net in range(len(player.nets))
            for address in player.addresses(net)
            for what in ("data", "diff")
        ]
        Random(self.seed).shuffle(reads)
        return [item for read in reads if read.possible(player) for item in read.run(player)]
