"""Grids and tick labels of the axes of plots: so few that they do not touch, and at round values."""

from __future__ import annotations

import math
from collections.abc import Iterable

_FEW_DECADES = 1.7  # of a logarithmic axis with ticks at 1, 2 and 5


def dress(ax, log_y: bool = False, most: int = 8) -> None:
    """Give axes a light grid and no frame at the top and on the right.

    log_y: whether the y axis becomes logarithmic (default False), with ticks at 1, 2 and 5 or, over more than 1.7
        decades, at powers of ten.
    most: number of tick labels on the y axis, about (default 8).
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    if log_y:
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        few = 0 < low and math.log10(high / low) <= _FEW_DECADES
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=most))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        ax.yaxis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
    ax.grid(True, which="major", color="#e5e9ee", linewidth=0.8)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def dress_rate(ax, rates: Iterable[float]) -> None:
    """Dress the axes of learning rates: one tick for a constant rate, a logarithmic axis where they span much.

    rates: all rates that are drawn; those that are not positive and finite do not count.
    """
    values = {rate for rate in rates if 0 < rate < math.inf}
    dress(ax, log_y=bool(values) and max(values) >= 5 * min(values), most=5)
    if len(values) == 1:
        from matplotlib.ticker import FixedLocator, StrMethodFormatter

        ax.yaxis.set_major_locator(FixedLocator(list(values)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
