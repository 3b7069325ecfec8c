"""Names and colours by which the runs in one plot are distinguished."""

from __future__ import annotations

import os
from collections.abc import Sequence

COLORS = ("#2563a8", "#d1602b", "#2f8f5b", "#8a4fa3", "#b3922a", "#3a9aa6", "#c2456b", "#6b7280")


def run_labels(paths: Sequence[str | os.PathLike]) -> list[str]:
    """Return the file names without extension or, if names repeat, the parts in which the paths differ.

    That of runs/a/train.log and runs/b/train.log are a and b.
    """
    parts = [os.path.splitext(os.path.abspath(path))[0].split(os.sep) for path in paths]
    names = [part[-1] for part in parts]
    if len(set(names)) == len(names) or len(set(map(tuple, parts))) == 1:
        return names
    for end in (-1, 0):  # drop common parts from the end, then from the start
        while all(len(part) > 1 for part in parts) and len({part[end] for part in parts}) == 1:
            for part in parts:
                del part[end]
    return [os.path.join(*part) for part in parts]


def run_colors(count: int) -> list:
    """Return a colour for each of `count` runs: those of COLORS or, for more of them, of a colour map."""
    if count <= len(COLORS):
        return list(COLORS[:count])
    from matplotlib import colormaps

    return [colormaps["turbo"](0.03 + 0.94 * i / (count - 1)) for i in range(count)]
