"""Base class of operations.

An operation is plain data, so a program can be printed, shortened and written into a test.  `draw` makes one at random;
`possible`: whether it makes sense after the operations so far (backward needs a forward pass); `run` does it
and returns what the script would see.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from random_use.player import Address, Player, Shown


class Names:
    """Random choice of the nets, layers and blobs of a program, for its operations."""

    def __init__(self, rng: Random, player: Player, resizable: bool) -> None:
        self.rng, self.player, self.resizable = rng, player, resizable

    def maybe(self, chance: float) -> bool:
        return self.rng.random() < chance

    def seed(self) -> int:
        return self.rng.randrange(1000)

    def maybe_seed(self, chance: float) -> int | None:
        return self.seed() if self.maybe(chance) else None

    def net(self) -> int:
        return self.rng.randrange(len(self.player.nets)) if self.maybe(0.5) else 0

    def part(self, net: int) -> tuple[str | None, str | None]:
        """Return the names of a first and a last layer; one of them may be None."""
        names = list(self.player.nets[net].layer_names)
        first, last = sorted((self.rng.randrange(len(names)), self.rng.randrange(len(names))))
        if self.maybe(0.5):
            return None, names[last]
        return names[first], names[last] if self.maybe(0.5) else None

    def address(self, net: int, params: float) -> Address:
        """Return the address of a parameter, with probability `params`, or of a blob."""
        known = self.player.nets[net]
        if known.params and self.maybe(params):
            name = self.rng.choice(list(known.params))
            return name, self.rng.randrange(len(known.params[name]))
        return self.rng.choice(known.inputs) if self.maybe(0.2) else self.rng.choice(list(known.blobs))

    def what(self, diff: float) -> str:
        return "diff" if self.maybe(diff) else "data"


@dataclass(frozen=True)
class Operation:
    """Base class of operations.

    net: index of the net.  begins_pass: whether it is a forward pass over all layers.  continues_pass: whether it is
    a partial or backward pass.
    """

    net: int
    begins_pass: ClassVar[bool] = False
    continues_pass: ClassVar[bool] = False

    @classmethod
    def draw(cls, names: Names) -> Operation:
        return cls(names.net())

    def possible(self, player: Player) -> bool:
        return self.net < len(player.nets)

    def run(self, player: Player) -> Shown | None:
        raise NotImplementedError
