"""Plots of a net's weights and activations: filters of the first layer, histograms, channels of blobs.

Figures are matplotlib's; `minicaffe.pictures.plot.save` writes them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from minicaffe.core.matching import numbered
from minicaffe.core.stored_weights import LayerBlobs, open_weights
from minicaffe.errors import SnapshotError, UsageError, nearest
from minicaffe.io import resize_image
from minicaffe.pictures.plot import label_text, new_figure
from minicaffe.pictures.runs import COLORS
from minicaffe.text import printable_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Weights = dict[str, list[np.ndarray]]

MAX_TILES = 256  # of filters or channels in one mosaic
MAX_PANELS = 60  # of histograms in one figure
_SIDE = 36  # pixels of a filter in a mosaic, at least


def read_weights(path: str | os.PathLike) -> Weights:
    """Return the blobs of a .caffemodel or .caffemodel.h5 file, float32, by layer name.

    Layers without blobs are omitted.  The layers of a .caffemodel are in net order.  The second layer of a name is
    called "name #2", and so on.
    SnapshotError for a file that is missing, holds no weights, or whose blobs do not have the size of their shape;
    SnapshotError or PrototxtError for a damaged file.
    """
    path = os.fspath(path)
    with open_weights(path) as layers:
        full = [layer for layer in layers if layer.blobs]
        names = [f"{name} #{k + 1}" if k else name for name, k in numbered(layer.name for layer in full)]
        weights = {name: _arrays(layer) for name, layer in zip(names, full)}
    if not weights:
        raise SnapshotError(f"'{path}' holds no weights")
    return weights


def _arrays(layer: LayerBlobs) -> list[np.ndarray]:
    return [blob.values().astype(np.float32) for _, blob in sorted(layer.blobs.items())]


def table(weights: Weights) -> list[list[str]]:
    """Return one row per blob: layer, index, shape, mean, standard deviation, minimum, maximum, non-finite count.

    The statistics are those of the finite values.  The first row holds the headings.  Control characters in names are
    escaped.
    """
    rows = [["layer", "blob", "shape", "mean", "std", "min", "max", ""]]
    for name, blobs in weights.items():
        for i, blob in enumerate(blobs):
            values = blob[np.isfinite(blob)].astype(np.float64)
            numbers = [values.mean(), values.std(), values.min(), values.max()] if values.size else [math.nan] * 4
            bad = blob.size - values.size
            rows.append(
                [
                    printable_line(name),
                    str(i),
                    "×".join(map(str, blob.shape)) or "scalar",
                    *(f"{v:.4g}" for v in numbers),
                    f"{bad} not finite" if bad else "",
                ]
            )
    return rows


# -- mosaics -----------------------------------------------------------------------------------------------------------


def mosaic(tiles: np.ndarray, border: int = 1, columns: int | None = None, background: float = 1.0) -> np.ndarray:
    """Arrange tiles (N, h, w) or (N, h, w, 3) in a grid; return one image of float32.

    border: pixels between tiles.  columns: number of columns; None (default): the square root of N, rounded up.
    background: value of the border.
    """
    count, height, width = tiles.shape[:3]
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    rows = math.ceil(count / columns)
    step_y, step_x = height + border, width + border
    out = np.full((rows * step_y + border, columns * step_x + border, *tiles.shape[3:]), background, np.float32)
    for i, tile in enumerate(tiles):
        y, x = border + i // columns * step_y, border + i % columns * step_x
        out[y : y + height, x : x + width] = tile
    return out


def filter_tiles(filters: np.ndarray, bgr: bool = True) -> np.ndarray:
    """Convert filters (N, C, h, w) to tiles with values in [0, 1], where 0.5 is a weight of 0.

    With C = 3, returns N tiles (h, w, 3), RGB; bgr: whether the channels of the filters are BGR (default).
    Otherwise returns the first MAX_TILES of the N * C tiles (h, w).
    """
    scale = np.abs(filters).max() or 1.0
    tiles = 0.5 + 0.5 * filters / scale
    if filters.shape[1] == 3:
        return tiles[:, :: -1 if bgr else 1].transpose(0, 2, 3, 1)
    return tiles.reshape(-1, *filters.shape[2:])[:MAX_TILES]


def find_filters(weights: Weights, layer: str | None = None) -> tuple[str, np.ndarray]:
    """Return name and filters (N, C, h, w) of `layer`, or of a suitable layer.

    layer: None (default) selects the first layer with filters larger than 1x1 on 1 or 3 channels, else the first with
    filters larger than 1x1.
    UsageError when there is no such layer.
    """
    if layer is not None:
        if layer not in weights:
            raise UsageError(f"show: no layer '{layer}' has weights{nearest(layer, weights)}")
        if weights[layer][0].ndim != 4:
            raise UsageError(
                f"show: layer '{layer}' has no filters (N, C, h, w), its weights are {weights[layer][0].shape}"
            )
        return layer, weights[layer][0]
    windows = [
        (name, blobs[0]) for name, blobs in weights.items() if blobs[0].ndim == 4 and max(blobs[0].shape[2:]) > 1
    ]
    if not windows:
        raise UsageError("show: no layer has filters (N, C, h, w) larger than 1x1")
    return next((pair for pair in windows if pair[1].shape[1] in (1, 3)), windows[0])


# -- figures -----------------------------------------------------------------------------------------------------------


def plot_weights(weights: Weights, layer: str | None = None, bgr: bool = True) -> Figure:
    """Return a figure with filters above and histograms of the weights of every layer below.

    layer: the layer of the filters, see `find_filters`; None (default): a suitable one, if any.
    bgr: whether the net's three channels are BGR (default), as in most nets of Caffe.
    UsageError when `layer` has no filters.
    """
    try:
        name, filters = find_filters(weights, layer)
    except UsageError:
        if layer is not None:
            raise
        name, filters = "", None
    panels = [(n, blobs[0]) for n, blobs in weights.items() if blobs[0].ndim >= 2] or [
        (n, blobs[0]) for n, blobs in weights.items()
    ]
    shown = panels[:MAX_PANELS]
    columns = min(len(shown), 5)
    rows = math.ceil(len(shown) / columns)
    heights = [4.6 if filters is not None else 0.0, 1.45 * rows + 0.5]
    figure = new_figure(9, sum(heights))
    parts = figure.subfigures(2, 1, height_ratios=heights) if filters is not None else [None, figure]
    if filters is not None:
        _draw_mosaic(parts[0], filter_tiles(filters, bgr), f"filters of {name}, {_shape(filters)}")
    _draw_histograms(parts[1], shown, rows, columns, len(panels))
    return figure


def _draw_mosaic(part, tiles: np.ndarray, title: str) -> None:
    ax = part.subplots()
    columns = math.ceil(math.sqrt(2 * len(tiles)))
    larger = math.ceil(_SIDE / max(tiles.shape[1:3]))  # so that a border of one pixel is thin
    tiles = tiles.repeat(larger, 1).repeat(larger, 2)
    picture = mosaic(tiles, max(1, max(tiles.shape[1:3]) // 12), columns)
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(label_text(title), fontsize=10)


def _draw_histograms(part, panels: Sequence[tuple[str, np.ndarray]], rows: int, columns: int, total: int) -> None:
    from matplotlib.ticker import MaxNLocator

    more = f", {len(panels)} of {total} layers" if total > len(panels) else ""
    part.suptitle(f"weights{more}", fontsize=10)
    axes = part.subplots(rows, columns, squeeze=False).ravel()
    for ax, (name, blob) in zip(axes, panels):
        values = blob[np.isfinite(blob)].astype(np.float64)  # bins of float32 may be too narrow
        ax.hist(values, bins=50, color=COLORS[0])
        ax.set_title(
            f"{label_text(name)}\n{_shape(blob)}, σ {values.std() if values.size else math.nan:.3g}", fontsize=7
        )
        ax.tick_params(labelsize=6.5, length=2)
        ax.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_yticks([])
        for side in ("top", "right", "left"):
            ax.spines[side].set_visible(False)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()


def plot_activations(activations: Mapping[str, np.ndarray], image: np.ndarray | None = None) -> Figure:
    """Return a figure with one panel per blob: a mosaic of channels for (C, H, W), bars for (C,).

    activations: arrays by blob name, (C, H, W) or (C,), of one image.
    image: (H, W, 3) in [0, 1], drawn in the first panel; None (default): no such panel.
    """
    panels = [("image", image)] if image is not None else []
    panels += list(activations.items())
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(3.4 * columns, 3.5 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (name, values) in zip(axes, panels):
        if name == "image" and image is not None and values is image:
            ax.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1)
            ax.set_axis_off()
            ax.set_title("image", fontsize=9)
        else:
            _draw_activation(ax, name, np.asarray(values, np.float32))
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    return figure


def plot_maps(image: np.ndarray, maps: Mapping[str, np.ndarray], title: str, overlay: bool = True) -> Figure:
    """Return a figure with the image and, beside it, maps of the parts of it that matter.

    image: (H, W, 3) or (H, W, 1) in [0, 1].
    maps: (h, w) by name, of any size, at least 0; their largest value is drawn brightest, 0 not at all.
    title: of the whole figure, such as the class.
    overlay: whether maps are drawn over the image (default True) or alone.
    """
    height, width = image.shape[:2]
    across = 3.6 * min(max(width / height, 0.5), 2.0)
    figure = new_figure(across * (1 + len(maps)), 4.3)
    axes = figure.subplots(1, 1 + len(maps), squeeze=False)[0]
    figure.suptitle(label_text(title), fontsize=11)
    for ax, (name, values) in zip(axes, [("image", None), *maps.items()]):
        if values is None or overlay:
            ax.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1)
        if values is not None:
            _draw_map(ax, values, height, width, overlay)
        ax.set_axis_off()
        ax.set_title(label_text(name), fontsize=9)
    return figure


def _draw_map(ax, values: np.ndarray, height: int, width: int, overlay: bool) -> None:
    """Draw a map over the image's area: smooth and half transparent over the image, or alone and pixel by pixel."""
    top = values.max() if overlay else np.quantile(values, 0.995)  # a few pixels' gradients may be far larger
    share = np.clip(values / (top or 1.0), 0, 1).astype(np.float32)
    area = (-0.5, width - 0.5, height - 0.5, -0.5)
    if not overlay:
        ax.imshow(share, cmap="magma", vmin=0, vmax=1, extent=area, interpolation="nearest")
        return
    share = resize_image(share[..., None], (height, width))[..., 0].clip(0, 1)
    ax.imshow(share, cmap="jet", vmin=0, vmax=1, alpha=0.15 + 0.5 * share, extent=area, interpolation="nearest")


def _draw_activation(ax, name: str, values: np.ndarray) -> None:
    if values.ndim == 3 and values.shape[1] * values.shape[2] > 1:
        low, high = values.min(), values.max()
        tiles = (values[:MAX_TILES] - low) / ((high - low) or 1.0)
        border = max(1, tiles.shape[1] // 16)
        picture = mosaic(tiles, border, background=math.nan)  # nan is transparent
        ax.imshow(picture, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        ax.set_axis_off()
        ax.set_title(f"{label_text(name)}  {_shape(values)}\n{low:.3g} to {high:.3g}", fontsize=8)
        return
    flat = values.ravel()
    ax.bar(range(len(flat)), flat, width=1.0 if len(flat) > 40 else 0.8, color=COLORS[0])
    ax.set_title(f"{label_text(name)}  {_shape(values)}\nlargest at {flat.argmax()}: {flat.max():.3g}", fontsize=8)
    ax.tick_params(labelsize=6)


def _shape(values: np.ndarray) -> str:
    return "×".join(map(str, values.shape))
