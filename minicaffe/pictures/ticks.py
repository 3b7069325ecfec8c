"""Grids and tick labels of the axes of plots: so few that they do not touch, and at round values."""

from __future__ import annotations

import math

import numpy as np

_FEW_DECADES = 1.7  # of a logarithmic axis with ticks at 1, 2 and 5


def dress(ax, log_y: bool = False, most: int = 8) -> None:
    """Give the axes of lines a light grid, no frame at the top and on the right, and tick labels that do not touch.

    Where all values are equal, that value is the only tick on the y axis.

    log_y: whether the y axis becomes logarithmic (default False), with ticks at 1, 2 and 5 or, over more than 1.7
        decades, at powers of ten.
    most: number of tick labels on the y axis, about (default 8).
    """
    from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    if log_y:
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        few = 0 < low and math.log10(high / low) <= _FEW_DECADES
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=most))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        ax.yaxis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
    values = _values(ax)
    if len(values) == 1:
        ax.yaxis.set_major_locator(FixedLocator(list(values)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.grid(True, which="major", color="#e5e9ee", linewidth=0.8)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def dress_rate(ax) -> None:
    """Dress the axes of learning rates, which are logarithmic where the positive ones span a factor of 5."""
    values = _values(ax)
    positive = values[values > 0]
    dress(ax, log_y=len(positive) > 0 and bool(positive.max() >= 5 * positive.min()), most=5)


def _values(ax) -> np.ndarray:
    """Return the different finite values of the lines in axes, sorted."""
    numbers = np.unique(np.concatenate([np.zeros(0), *(line.get_ydata() for line in ax.lines)]))
    return numbers[np.isfinite(numbers)]
