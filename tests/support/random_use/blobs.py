"""Operations on single blobs: reads and writes, directly or through views that are held."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minicaffe.core.blob import Blob
from random_use.operation import Operation
from random_use.player import Address, Player


@dataclass(frozen=True)
class OfBlob(Operation):
    """Base class of operations on a blob.  what: "data" or "diff"."""

    address: Address
    what: str

    def possible(self, player):
        if not super().possible(player) or not player.has(self.net, self.address):
            return False
        return player.defined[self.net] or not isinstance(self.address, str)


@dataclass(frozen=True)
class Read(OfBlob):
    """Read a blob.

    way: "read" (by `read_data`), "live" (by the view `data`) or "share" (through another blob that shares the memory).
    """

    way: str = "read"

    @classmethod
    def draw(cls, names):
        net = names.net()
        way = names.rng.choice(("read", "read", "live", "share"))
        return cls(net, names.address(net, 0.25), names.what(0.3), way)

    def run(self, player):
        blob = player.blob(self.net, self.address)
        if self.way == "live":
            values = getattr(blob, self.what)
        elif self.way == "read":
            values = getattr(blob, f"read_{self.what}")()
        else:
            other = Blob((blob.count,))
            getattr(other, f"share_{self.what}")(blob)
            values = getattr(other, f"read_{self.what}")().reshape(blob.shape)
        return [(f"{self.address} {self.what}", values)]


@dataclass(frozen=True)
class Write(OfBlob):
    """Write all values of a blob, or, if `poke`, up to three of them."""

    seed: int = 0
    poke: bool = False

    @classmethod
    def draw(cls, names):
        net = names.net()
        return cls(net, names.address(net, 0.4), names.what(0.2), names.seed(), names.maybe(0.4))

    def run(self, player):
        blob = player.blob(self.net, self.address)
        kind = player.kind(self.net, self.address, self.what)
        if self.poke:
            _poke(player, getattr(blob, self.what), kind, self.seed)
        else:
            setattr(blob, self.what, player.values(kind, self.seed, blob.shape))


def _poke(player: Player, array: np.ndarray, kind: str, seed: int) -> None:
    at = np.random.default_rng(seed).integers(0, array.size, 3)
    array.reshape(-1)[at] = player.values(kind, seed, (3,)) * (3 if kind == "any" else 1)


# -- views -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hold(OfBlob):
    """Hold the view `blob.data` or `blob.diff` in a slot, in place of the previous view."""

    slot: int = 0

    @classmethod
    def draw(cls, names):
        net = names.net()
        return cls(net, names.address(net, 0.3), names.what(0.25), names.rng.randrange(3))

    def run(self, player):
        array = getattr(player.blob(self.net, self.address), self.what)
        player.views[self.slot] = self.net, self.address, self.what, array


@dataclass(frozen=True)
class OfView(Operation):
    slot: int = 0

    @classmethod
    def draw(cls, names):
        return cls(0, names.rng.randrange(3))

    def possible(self, player):
        return self.slot in player.views


@dataclass(frozen=True)
class Look(OfView):
    def run(self, player):
        _, address, what, array = player.views[self.slot]
        return [(f"view of {address} {what}", array)]


@dataclass(frozen=True)
class WriteView(OfView):
    """Write up to three values through a view."""

    seed: int = 0

    @classmethod
    def draw(cls, names):
        return cls(0, names.rng.randrange(3), names.seed())

    def run(self, player):
        net, address, what, array = player.views[self.slot]
        _poke(player, array, player.kind(net, address, what), self.seed)


@dataclass(frozen=True)
class Drop(OfView):
    """Drop a view, and the last result that was kept."""

    def run(self, player):
        del player.views[self.slot]
        player.outputs = {}
