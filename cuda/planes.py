"""How kernels whose blocks work on planes, that is channels of samples, or on strips of their rows, are launched."""

from __future__ import annotations

from minicaffe.cuda import context
from minicaffe.cuda.kernels import BLOCK

SHARED = 48 << 10  # bytes of shared memory that a block may have without asking for more
_MOST_PLANES = 64  # threads along z


def threads(columns: int, rows: int, planes: int, plane_bytes: int = 0) -> tuple[int, int, int]:
    """Threads of a block along columns, rows and planes; plane_bytes: of shared memory, for a plane."""
    x = _share(columns, 64)
    y = _share(rows, BLOCK // x)
    fitting = SHARED // plane_bytes if plane_bytes else _MOST_PLANES
    return x, y, max(1, min(planes, BLOCK // (x * y), fitting, _MOST_PLANES))


def strip(rows: int, planes: int, block: tuple[int, int, int]) -> int:
    """The rows of a strip: all, or fewer where there would not be two blocks for each multiprocessor."""
    blocks = -(-planes // block[2])
    strips = min(2 * context.current().multiprocessors // max(blocks, 1), -(-rows // block[1]))
    return -(-rows // max(strips, 1))


def _share(count: int, most: int) -> int:
    """The length of the shares of `count`, at most `most`, that are as few and as even as possible."""
    return -(-count // -(-count // most)) if count else 0
