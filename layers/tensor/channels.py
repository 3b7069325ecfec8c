"""Launches of the kernels of cuda/channels_last_norm.cu.

statistics: the device addresses of mean and deviation of each channel; 0, 0 for values that are not normalized.
followers: what works in place on the result.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from minicaffe.cuda import ops
from minicaffe.cuda.channels_last import Layout
from minicaffe.cuda.kernels import Kernel
from minicaffe.layers.shared.normalizer import Followers

_FEW_PARTS = 64  #: of which each block of `normalize` adds the moments
_MERGED = 8  #: channels of a block of `merge`
Statistics = tuple[Any, Any]


def kernel(layout: Layout, name: str) -> Kernel:
    """A kernel of that file."""
    return layout.kernel(name, "channels_last_norm")


class Running(NamedTuple):
    """What becomes of the statistics of a batch: eps and the fraction that stays, and addresses of the results."""

    eps: float
    fraction: float
    mean: Any
    deviation: Any
    means: Any
    variances: Any
    weight: Any


def normalize_batch(layout: Layout, x: Any, moments: tuple, running: Running, followers: Followers, y: Any) -> None:
    """Compute the statistics of x, and y.

    moments: those that a convolution has left of parts of x: their address, the number of parts, the rows of a part;
        () for none.
    """
    partials, parts, length = moments or (0, 0, 0)
    if moments and parts > _FEW_PARTS:
        grid = (-(-layout.channels // _MERGED), 1)
        kernel(layout, "merge").launch(grid, 256, layout.rows, layout.channels, parts, length, partials, *running)
        parts = 0
    elif not moments:
        _moments(layout, x, running)
    _normalize(layout, x, (parts, length, partials, *running), followers, y)


def _moments(layout: Layout, x: Any, running: Running) -> None:
    grid, parts, length = layout.parts()
    with ops.scratch(8 * layout.channels * parts) as partials:
        arguments = (layout.rows, layout.channels, parts, length, x, partials, ops.tickets(layout.chunks))
        kernel(layout, "moments").launch(grid, 256, *arguments, *running)


def normalize(layout: Layout, x: Any, statistics: Statistics, followers: Followers, y: Any) -> None:
    """y = the followers' result for the normalized x."""
    _normalize(layout, x, (0, 0, 0, *Running(0.0, 0.0, *statistics, 0, 0, 0)), followers, y)


def _normalize(layout: Layout, x: Any, source: tuple, followers: Followers, y: Any) -> None:
    grid, step = layout.row_blocks()
    arguments = (layout.rows, layout.channels, step, *source, x, *followers, y)
    kernel(layout, "normalize").launch(grid, 256, *arguments)


def gradient_sums(
    layout: Layout, x: Any, dy: Any, statistics: Statistics, followers: Followers, db: Any, ds: Any, means: Any
) -> None:
    """Add the gradients of term and factor to db and ds, and write what `gradient` needs to `means`; 0: not needed."""
    grid, parts, length = layout.parts()
    with ops.scratch(8 * layout.channels * parts) as partials:
        arguments = (layout.rows, layout.channels, parts, length, x, dy, *statistics, *followers)
        work = (partials, ops.tickets(layout.chunks), db, ds, means)
        kernel(layout, "sum_gradients").launch(grid, 256, *arguments, *work)


def gradient(
    layout: Layout, x: Any, dy: Any, statistics: Statistics, followers: Followers, means: Any, dx: Any
) -> None:
    """dx = the gradient of x, after `gradient_sums`."""
    grid, step = layout.row_blocks()
    arguments = (layout.rows, layout.channels, step, x, dy, *statistics, *followers, means, dx)
    kernel(layout, "normalize_gradient").launch(grid, 256, *arguments)


def followers_gradient(layout: Layout, x: Any, dy: Any, statistics: Statistics, followers: Followers, out: Any) -> None:
    """Write the gradient before the followers, from dy behind them."""
    grid, step = layout.row_blocks()
    arguments = (layout.rows, layout.channels, step, x, *statistics, *followers, dy, out)
    kernel(layout, "followers_gradient").launch(grid, 256, *arguments)
