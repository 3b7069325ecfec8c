"""Launches of the kernels of cuda/channels_last_norm.cu.

statistics: the device addresses of mean and deviation of each channel; 0, 0 for values that are not normalized.
followers: what works in place on the result.
"""

from __future__ import annotations

from typing import Any

from minicaffe.cuda import ops
from minicaffe.cuda.channels_last import Layout
from minicaffe.cuda.kernels import Kernel
from minicaffe.layers.shared.normalizer import Followers

_MERGED = 8  #: channels of a block of `merge`
Statistics = tuple[Any, Any]


def kernel(layout: Layout, name: str) -> Kernel:
    """A kernel of that file."""
    return layout.kernel(name, "channels_last_norm")


def statistics(layout: Layout, x: Any, moments: tuple, *running: Any) -> None:
    """Compute mean and deviation of each channel.

    moments: those that a convolution has left of parts of x: their address, the number of parts, the rows of a part;
        () for none.
    running: eps, fraction, and what the results are written and added to.
    """
    if moments:
        partials, parts, length = moments
        grid = (-(-layout.channels // _MERGED), 1)
        kernel(layout, "merge").launch(grid, 256, layout.rows, layout.channels, parts, length, partials, *running)
        return
    grid, parts, length = layout.parts()
    with ops.scratch(8 * layout.channels * parts) as partials:
        arguments = (layout.rows, layout.channels, parts, length, x, partials, ops.tickets(layout.chunks))
        kernel(layout, "moments").launch(grid, 256, *arguments, *running)


def normalize(layout: Layout, x: Any, statistics: Statistics, followers: Followers, y: Any) -> None:
    """y = the followers' result for the normalized x."""
    grid, step = layout.row_blocks()
    kernel(layout, "normalize").launch(grid, 256, layout.rows, layout.channels, step, x, *statistics, *followers, y)


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
