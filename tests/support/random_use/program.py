"""Programs: a net, optionally a second net that shares its parameters, and operations on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from minicaffe.testing import NUMPY
from random_use.nets import Grammar
from random_use.operation import Names, Operation
from random_use.operations import WEIGHTS
from random_use.passes import Backward, Forward, RunForward
from random_use.player import Player
from random_use.whole_nets import ReadAll

_PHASES = ("TRAIN", "TEST")


@dataclass(frozen=True)
class Program:
    """A program.

    text: the prototxt.  operations: the operations, in order.  phase: phase of the first net.
    twin: phase of the second net, which shares the first one's parameters; None for no second net.
    trained: whether the first net belongs to a solver.  classes: {label blob: number of classes}.
    seed: seed of parameters and dropout masks.
    """

    text: str
    operations: Sequence[Operation]
    phase: int = 0
    twin: int | None = None
    trained: bool = False
    classes: dict[str, int] = field(default_factory=dict)
    seed: int = 0

    def __str__(self) -> str:
        twin = "None" if self.twin is None else _PHASES[self.twin]
        head = f"seed {self.seed}, phase {_PHASES[self.phase]}, twin {twin}, trained {self.trained}, {self.classes}"
        return "\n".join([head, self.text, *(f"    {operation}," for operation in self.operations)])


def draw(seed: int) -> Program:
    """Return the program generated from an integer."""
    rng = Random(seed)
    grammar = Grammar(rng)
    phase = rng.randint(0, 1)
    trained = phase == 0 and "Loss" in grammar.text and rng.random() < 0.25
    twin = 1 if phase == 0 and rng.random() < 0.3 else 0 if rng.random() < 0.05 else None
    empty = Program(grammar.text, (), phase, twin, trained, grammar.classes, seed)
    operations = _draw_operations(Names(rng, Player(empty, NUMPY), grammar.resizable))
    return Program(grammar.text, operations, phase, twin, trained, grammar.classes, seed)


def _draw_operations(names: Names) -> list[Operation]:
    """Draw operations: a forward pass of each net, random ones, and a read of all blobs."""
    operations: list[Operation] = [Forward(net, inputs=names.seed()) for net in range(len(names.player.nets))]
    for _ in range(names.rng.randint(3, 16)):
        kind = names.rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        operations.append(kind.draw(names))
    if names.maybe(0.25):
        operations += [RunForward(0), Backward(0, diffs=names.seed())]
    return [*operations, ReadAll(0, names.seed())]
