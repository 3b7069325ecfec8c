"""The even split of a product (``gemm.cuh``) over the multiprocessors.

A product has ``count`` tiles of ``steps`` steps along k. They are divided among the blocks, ``share`` steps for each,
wherever tiles begin and end; blocks with parts of the same tile leave them in global memory, and the last one adds them
up. `choose` finds the share by a small model of a multiprocessor, in its clock cycles.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

_FAN = 16  # parts that a block adds at a time, as in gemm.cuh
_ADDING = 3000  # cycles each time that parts are added: writing, waiting for it, counting, reading
_ISSUE = 4  # instructions of warps that a multiprocessor begins in a cycle
_LATENCY = 1500  # cycles until the first copies have arrived
_MOST = (1 << 31) - 1


class Tile(NamedTuple):
    """A Shape of the kernels: rows, columns, elements along k in a step; threads of a block.

    copying, ends: instructions of a thread in a step besides the multiplications, as in the machine code
        (tests/cuda/test_goals.py); and those before a tile's first step and after its last one.
    """

    rows: int
    columns: int
    depth: int
    threads: int
    copying: int = 190
    ends: int = 1900

    def over(self, m: int, n: int) -> int:
        """The number of tiles that cover m x n."""
        return -(-m // self.rows) * -(-n // self.columns)

    def steps(self, k: int) -> int:
        """The number of steps along k, at least one."""
        return -(-k // self.depth) or 1

    @property
    def step(self) -> int:
        """Instructions of a thread in a step."""
        return self.rows * self.columns * self.depth // self.threads + self.copying

    def sums(self, row_sums: bool) -> int:
        """Elements of a block's part, as Sums::SIZE."""
        return self.rows * self.columns + row_sums * -(-self.rows // self.threads) * self.threads

    def resident(self, itemsize: int) -> int:
        """Blocks that a multiprocessor holds, as Shape::BLOCKS."""
        many = self.rows * self.columns > 64 * self.threads
        return (256 if itemsize == 8 or many else 384 if self.threads < 256 else 512) // self.threads


class Choice(NamedTuple):
    """Steps of a block, the number of blocks, and the time."""

    share: int
    blocks: int
    cycles: float


@functools.lru_cache(4096)
def choose(tile: Tile, count: int, steps: int, itemsize: int, processors: int) -> Choice:
    """The fastest share for ``count`` tiles of ``steps`` steps, by the model."""
    work, resident = count * steps, tile.resident(itemsize)
    if count > _MOST:  # the launch will say so
        return Choice(steps, count, float("inf"))
    split = {-(-steps // parts) for parts in range(1, min(steps, 64) + 1)}
    even = {-(-work // (processors * each)) for each in range(1, resident + 1)}
    shares = split | {share for share in even if share < _MOST}
    return min((_cost(tile, steps, share, work, resident, processors) for share in shares), key=lambda c: c.cycles)


def _cost(tile: Tile, steps: int, share: int, work: int, resident: int, processors: int) -> Choice:
    blocks, tiles = -(-work // share), work // steps
    each = -(-blocks // processors)
    warps = min(each, resident) * tile.threads // 32
    busy = warps / (warps + 4)  # the part of its cycles in which a multiprocessor with so many warps issues
    pieces = tiles / blocks + bool(share % steps)  # of tiles, that a block has
    instructions = share * tile.step + pieces * tile.ends
    cycles = each * instructions * (tile.threads / 32) / _ISSUE / busy + _LATENCY
    if share % steps:
        parts = -(-steps // share) + bool(steps % share)
        levels = 1 + (parts > _FAN) + (parts > _FAN**2)
        cycles += levels * (_ADDING + (1 + min(parts, _FAN)) * tile.rows * tile.columns / 16)  # 64 bytes in a cycle
    return Choice(share, blocks, cycles)
