"""Fused layers, which an engine computes as one: the matcher that finds them in a net, and the protocol of a group.

An engine lists what it computes as one by classes derived from `Fused`:

    @fuses("ONEDNN")
    class OneDNNSumReLU(Fused):
        patterns = ("Eltwise ReLU",)

        def compute(self): ...

`find` goes through the layers of a net once.  At each layer it takes the first class, in the order of registration,
one of whose patterns matches the layers from there on; a layer is in one group at most.

A blob always shows what the layers one by one would have left in it.  Layers run one by one while callbacks or
`debug_info` observe them, and where a pass begins or ends inside a group; a layer that runs backward by itself then
finds what its own forward pass would have kept (`Fused.restore`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from minicaffe.core.blob import settle
from minicaffe.core.engine import Engine, engines
from minicaffe.core.in_place import complete_in_themselves
from minicaffe.core.places import observed
from minicaffe.core.registry import load

if TYPE_CHECKING:
    from minicaffe.core.blob import Blob
    from minicaffe.core.layer import Layer


class Fused:
    """Layers `start` to `end` (inclusive) of a net, computed as one.

    layers, bottoms, tops: those of the net, from `start` to `end`.
    bottom, top: the blobs that the group reads first, and those that it leaves last.
    propagate_down: for each blob of `bottom`, whether it needs a gradient; needs: for the bottoms of each layer.

    A subclass states `patterns` and `compute`; `runs_backward` and `gradients` if it has a backward pass, else the
    layers run backward one by one; and `restore` for what they then need beside their blobs.
    """

    #: Types in order: of the first layer, which has one top, and of layers that work in place on this top.  A type in
    #: brackets may be missing.  One behind a plus sign does not work in place: it reads the top, which no other layer
    #: does, as one of its bottoms, and layers after it work on its own top.  Behind the last one, which may have
    #: several tops, there are none: "Eltwise ReLU +Split".
    #: "Convolution BatchNorm [Scale] +Eltwise [ReLU]" is the end of a residual block.
    patterns: tuple[str, ...] = ()
    also: tuple[str, ...] = ()  #: further engines whose variants of layers may be in a group
    until_backward = False  #: whether it is used only in nets that have run no backward pass so far
    refusals: tuple[type[Exception], ...] = ()  #: what `compute` raises where the engine has no code for these shapes

    def __init__(self, net: Any, start: int, count: int, runner: Engine) -> None:
        self.start, self.end = start, start + count - 1
        self.layers: list[Any] = net.layers[start : start + count]
        self.bottoms: list[list[Blob]] = net.bottoms[start : start + count]
        self.tops: list[list[Blob]] = net.tops[start : start + count]
        self.bottom, self.top = self.bottoms[0], self.tops[-1]
        self.propagate_down: list[bool] = net.bottom_need_backward[start]
        self.needs: list[list[bool]] = net.bottom_need_backward[start : start + count]
        self._parts = tuple(zip(self.layers, self.bottoms, self.tops))
        blobs = [blob for layer, bottom, top in self._parts for blob in (*bottom, *top, *layer.blobs)]
        self._blobs: tuple[Blob, ...] = tuple({id(blob): blob for blob in blobs}.values())
        self._runner = runner
        self._refused: list | None = None  # shapes of the bottoms for which the engine has no code

    def layer_for(self, kind: str) -> Any:
        """The first layer that matches a type of the pattern; None if there is none."""
        return next((layer for layer in self.layers if _kind(layer) == kind), None)

    # -- what a subclass states ------------------------------------------------------------------------------------

    def fits(self) -> bool:
        """Whether layers that match a pattern may be computed as one, whatever their shapes; called once."""
        return True

    def possible(self) -> bool:
        """Whether they may with the shapes that they have now; called in each forward pass."""
        return True

    def compute(self) -> None:
        """The forward pass of all layers; raises one of `refusals` only before it has written to a blob."""
        raise NotImplementedError

    def finish(self) -> None:
        """Called at the end of the forward pass of the net in which the group ran."""

    @property
    def runs_backward(self) -> bool:
        """Whether `gradients` replaces the layers' own backward passes after the last forward pass."""
        return False

    def gradients(self) -> None:
        """The backward pass of all layers."""
        raise NotImplementedError

    def restore(self, layer: Layer) -> None:
        """Leave in a layer, its `kept_blobs` included, what its own forward pass would have kept for backward."""

    # -- running ---------------------------------------------------------------------------------------------------

    def forward(self) -> None:
        """Run the layers forward, as one where that is possible."""
        for layer, bottom, top in self._parts:
            layer.reshape_if_needed(bottom, top)
        if self.possible() and self._computed():
            self.take_over()
            if observed.observer is not None:
                observed.observer.before_replay(self.take_over)
            self._settle()
        else:
            for layer, bottom, top in self._parts:
                layer.forward(bottom, top)

    def _computed(self) -> bool:
        """Compute, unless that has been refused for these shapes; whether it is done."""
        if self._refused is not None and self._refused == [blob.shape for blob in self.bottom]:
            return False
        try:
            self.compute()
        except self.refusals:
            self._refused = [blob.shape for blob in self.bottom]
            return False
        return True

    def take_over(self) -> None:
        """Mark the layers: their last forward pass was this group's."""
        for layer in self.layers:
            layer.fused = self

    @property
    def intact(self) -> bool:
        """Whether the last forward pass of all these layers was this group's."""
        return all(layer.fused is self for layer in self.layers)

    def backward(self) -> None:
        """Run the layers backward, as one."""
        self.gradients()
        self._settle()

    def release(self) -> None:
        """Leave each layer whose last forward pass was this group's as if it had run by itself.

        Called before one of them runs backward by itself.  No blob with a name is written to.
        """
        layers = [layer for layer in self.layers if layer.fused is self]
        for layer in layers:
            self.restore(layer)
        for layer in layers:
            layer.fused = None

    def _settle(self) -> None:
        """Bring views that scripts hold of the layers' blobs up to date."""
        if self._runner.settles_each_layer:
            settle(self._blobs)


F = TypeVar("F", bound=type[Fused])

_classes: dict[str, list[type[Fused]]] = {}  # by engine's name; written to when modules of an engine are imported


def fuses(engine: str) -> Callable[[F], F]:
    """Class decorator: what an engine, by name, computes as one.  ValueError for a pattern that cannot be read."""

    def add(cls: F) -> F:
        for pattern in cls.patterns:
            _steps(pattern)
        _classes.setdefault(engine, []).append(cls)
        return cls

    return add


def patterns_of(engine: str) -> list[str]:
    """Return the patterns of what an engine, by name, computes as one, in the order in which they are tried."""
    load(engine)
    return list(dict.fromkeys(pattern for cls in _classes.get(engine, ()) for pattern in cls.patterns))


# -- finding groups ----------------------------------------------------------------------------------------------------


class _Step(NamedTuple):
    """A type in a pattern."""

    kind: str
    optional: bool
    joins: bool  # whether it reads the top and leaves another one, instead of working in place
    last: bool


def find(net: Any, runner: Engine) -> dict[int, Fused]:
    """The groups that engine `runner` and the engines based on it compute as one in a net, by their first layers."""
    listed = [(cls, engine) for engine in engines() if _takes_part(engine, net, runner) for cls in _listed(engine)]
    groups: dict[int, Fused] = {}
    end = -1
    for start in range(len(net.layers)):
        if start > end:
            found = (_group(cls, engine, net, start, runner) for cls, engine in listed)
            group = next((group for group in found if group is not None), None)
            if group is not None:
                groups[start], end = group, group.end
    return groups


def _takes_part(engine: Engine, net: Any, runner: Engine) -> bool:
    """Whether an engine computes layers of a net in the passes of `runner`."""
    return engine is runner or (engine.base is runner and any(layer.engine == engine.name for layer in net.layers))


def _listed(engine: Engine) -> Sequence[type[Fused]]:
    load(engine.name)
    return _classes.get(engine.name, ())


def _group(cls: type[Fused], engine: Engine, net: Any, start: int, runner: Engine) -> Fused | None:
    """The group of a class that begins at layer `start`, if there is one."""
    if cls.until_backward and net.ran_backward:
        return None
    for pattern in cls.patterns:
        count = _match(_steps(pattern), net, start)
        layers = net.layers[start : start + count]
        usable = all(not layer.has_loss and _computes(layer, runner) in (engine.name, *cls.also) for layer in layers)
        if count > 1 and usable and complete_in_themselves(layers, start):
            group = cls(net, start, count, runner)
            if group.fits():
                return group
    return None


def _computes(layer: Layer, runner: Engine) -> str:
    """The name of the engine whose code for a layer runs in the passes of `runner`."""
    variant = any(engine.name == layer.engine and engine.base is runner for engine in engines())
    return layer.engine if variant else runner.name


@functools.cache
def _steps(pattern: str) -> tuple[_Step, ...]:
    if not re.fullmatch(r"\w+( \+?\w+| \[\+?\w+\])+", pattern):
        raise ValueError(f"expected a pattern such as 'Convolution [Scale] +Eltwise ReLU', got {pattern!r}")
    words = re.findall(r"(\[?)(\+?)(\w+)", pattern)
    last = len(words) - 1
    return tuple(_Step(kind, bool(bracket), bool(plus), i == last) for i, (bracket, plus, kind) in enumerate(words))


def _match(steps: tuple[_Step, ...], net: Any, start: int) -> int:
    """How many layers match a pattern from layer `start` on; 0 if they do not."""
    if _kind(net.layers[start]) != steps[0].kind or len(net.tops[start]) != 1:
        return 0
    (top,), i = net.tops[start], start + 1
    for step in steps[1:]:
        if i < len(net.layers) and _kind(net.layers[i]) == step.kind and _continues(step, net, i, top):
            top = net.tops[i][0]
            i += 1
        elif not step.optional:
            return 0
    return i - start


def _continues(step: _Step, net: Any, i: int, top: Blob) -> bool:
    """Whether layer i works on a top in the way that a step of a pattern requires."""
    if not step.joins:
        return net.bottoms[i] == [top] and net.tops[i] == [top]
    alone = net.bottoms[i].count(top) == 1 and not any(top in bottoms for bottoms in net.bottoms[i + 1 :])
    return alone and (step.last or len(net.tops[i]) == 1) and net.tops[i] != [top]


def _kind(layer: Layer) -> str:
    """The type by which a layer is matched in patterns."""
    return layer.fuses_as or layer.type
