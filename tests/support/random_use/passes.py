"""Operations that run passes: forward, backward, solver step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from random_use.operation import Operation


@dataclass(frozen=True)
class Pass(Operation):
    """A pass over the layers from `start` to `end`; None: all."""

    start: str | None = None
    end: str | None = None
    continues_pass = True

    def possible(self, player):
        if not super().possible(player):
            return False
        names = player.nets[self.net].layer_names
        given = [names.index(name) for name in (self.start, self.end) if name in names]
        asked = [name for name in (self.start, self.end) if name]
        return len(given) == len(asked) and (len(given) < 2 or self.in_order(*given))

    def in_order(self, start: int, end: int) -> bool:
        return start <= end

    @property
    def whole(self) -> bool:
        return not self.start and not self.end


@dataclass(frozen=True)
class Forward(Pass):
    """`net.forward`.

    inputs: seed of new inputs, passed as keyword arguments; None for none.  keep: whether the result is held.
    """

    inputs: int | None = None
    keep: bool = False
    begins_pass = True

    @classmethod
    def draw(cls, names):
        return cls(names.net(), inputs=names.maybe_seed(0.6), keep=names.maybe(0.2))

    def possible(self, player):
        return super().possible(player) and (self.whole or player.defined[self.net])

    def run(self, player):
        given = {} if self.inputs is None else player.inputs(self.net, self.inputs)
        shown = player.nets[self.net].forward(start=self.start, end=self.end, **given)
        if self.whole:
            player.passed(self.net)
        if self.keep:
            player.outputs = shown
            return [(f"{name} data", values) for name, values in shown.items()]


@dataclass(frozen=True)
class PartialForward(Forward):
    begins_pass = False

    @classmethod
    def draw(cls, names):
        net = names.net()
        return cls(net, *names.part(net), inputs=names.maybe_seed(0.4), keep=names.maybe(0.1))


@dataclass(frozen=True)
class RunForward(Operation):
    """A forward pass over all layers by `run_forward`, as in a solver."""

    begins_pass = True

    def run(self, player):
        net = player.nets[self.net]
        net.run_forward()
        net.settle()
        player.passed(self.net)


@dataclass(frozen=True)
class Backward(Pass):
    """`net.backward`.  diffs: seed of new diffs for the outputs without a loss weight; None for none."""

    diffs: int | None = None

    @classmethod
    def draw(cls, names):
        return cls(names.net(), diffs=names.maybe_seed(0.5))

    def possible(self, player):
        return super().possible(player) and player.ready[self.net]

    def in_order(self, start, end):
        return start >= end

    def run(self, player):
        net = player.nets[self.net]
        for i, name in enumerate(net.outputs if self.diffs is not None else ()):
            if not net.blob_loss_weights.get(name):
                net.blobs[name].diff = player.values("any", self.diffs + i, net.blobs[name].shape)
        net.backward(start=self.start, end=self.end)


@dataclass(frozen=True)
class PartialBackward(Backward):
    @classmethod
    def draw(cls, names):
        net = names.net()
        end, start = names.part(net)
        return cls(net, start, end, diffs=names.maybe_seed(0.5))


@dataclass(frozen=True)
class ClearDiffs(Operation):
    def run(self, player):
        player.nets[self.net].clear_param_diffs()


@dataclass(frozen=True)
class Step(Operation):
    """`solver.step(count)`, if the program has a solver."""

    count: int = 1
    begins_pass = True

    @classmethod
    def draw(cls, names):
        return cls(0, names.rng.choice((1, 1, 2, 4)))

    def possible(self, player):
        return player.solver is not None

    def run(self, player):
        player.solver.step(self.count)
        player.passed(0)


@dataclass(frozen=True)
class Loss(Operation):
    def possible(self, player):
        return super().possible(player) and player.defined[self.net]

    def run(self, player):
        return [("loss", np.array(player.nets[self.net].loss()))]
