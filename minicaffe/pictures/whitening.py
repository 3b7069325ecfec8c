"""Plot of a whitening: filters, eigenvalues, and images before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minicaffe.data.whitening import Whitening
from minicaffe.pictures.plot import new_figure
from minicaffe.pictures.runs import COLORS
from minicaffe.pictures.show import filter_tiles, mosaic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TILES = 64
_WINDOW = 11  # pixels of a side of a filter, of those of whole images
_SMALLEST = 1e-12  # eigenvalue that is drawn, relative to the largest
_DEVIATIONS = 3.0  # from the mean, that are drawn from black to white


def plot_whitening(whitening: Whitening, images: np.ndarray, bgr: bool = True) -> Figure:
    """Return a figure with 64 filters (rows of the matrix), the eigenvalues, and images before and after.

    Of a ZCA of whole images the part of each filter around its pixel is drawn.

    images: (N, C, H, W) of the database, of which 64 are drawn.  bgr: order of three channels (default True).
    Of a PCA of whole images the components are rotated back, and of patches the first component of each image is drawn.
    Of kinds mean and std, which have no filters, the mean is drawn in their place.
    """
    images = images[:_TILES]
    after = _rotated_back(whitening, whitening.transform(images))
    figure = new_figure(9, 9)
    filters, spectrum, before, whitened = figure.subplots(2, 2).ravel()
    if whitening.method.is_diagonal:
        _show(filters, _image_tiles(_mean_image(whitening)[None], bgr), "mean")
    else:
        _draw_filters(filters, whitening, bgr)
    _draw_eigenvalues(spectrum, whitening)
    _show(before, _image_tiles(images, bgr), "images")
    _show(whitened, _image_tiles(after, bgr, _DEVIATIONS), f"after {whitening.method.kind}")
    return figure


def _draw_filters(ax, whitening: Whitening, bgr: bool) -> None:
    kernels = whitening.filters().kernels
    total, chosen, title = len(kernels), np.arange(min(_TILES, len(kernels))), "filters"
    if whitening.method.kind == "zca" and whitening.method.patch is None:  # one for each value, around its pixel
        chosen = np.linspace(0, total - 1, len(chosen)).astype(int)
        kernels = np.stack([_around(kernels[i], i % kernels[i, 0].size) for i in chosen])
        title = f"{kernels.shape[2]}x{kernels.shape[3]} pixels of filters"
    else:
        kernels = kernels[chosen]
    scaled = kernels / np.abs(kernels).max((1, 2, 3), keepdims=True)
    _show(ax, filter_tiles(scaled, bgr)[:_TILES], f"{title}, {len(chosen)} of {total}")


def _around(kernel: np.ndarray, pixel: int) -> np.ndarray:
    """Return the part (C, h, w) of a kernel that contains a pixel, in its middle unless the border is near."""
    shape = kernel.shape[1:]
    sides = [min(length, _WINDOW) for length in shape]
    starts = [
        min(max(at - side // 2, 0), length - side) for at, side, length in zip(divmod(pixel, shape[1]), sides, shape)
    ]
    return kernel[:, starts[0] : starts[0] + sides[0], starts[1] : starts[1] + sides[1]]


def _draw_eigenvalues(ax, whitening: Whitening) -> None:
    diagonal, eps = whitening.method.is_diagonal, whitening.method.eps
    for color, values in zip(np.resize(COLORS, len(whitening.eigenvalues)), whitening.eigenvalues):
        values = np.sort(values)[::-1]
        values = np.where(values > values[0] * _SMALLEST, values, np.nan)  # without those that are 0 but for rounding
        ax.plot(np.arange(1, len(values) + 1), values, ".-" if len(values) < 100 else "-", color=color)
    if eps:
        ax.axhline(eps, color=COLORS[-1], linestyle=":", label=f"eps {eps:g}")
        ax.legend(fontsize=8, frameon=False)
    ax.set_yscale("log")
    ax.set_title("variances, sorted" if diagonal else "eigenvalues", fontsize=10)
    ax.tick_params(which="both", labelsize=7)


def _mean_image(whitening: Whitening) -> np.ndarray:
    channels = whitening.image_shape[0]
    mean = whitening.mean.reshape(channels, *whitening.method.kernel(whitening.image_shape))
    return np.broadcast_to(mean, whitening.image_shape)


def _rotated_back(whitening: Whitening, after: np.ndarray) -> np.ndarray:
    """Return what a PCA gives as images (N, C, H, W), or (N, 1, h, w) of the first component of patches."""
    if whitening.method.kind != "pca":
        return after
    if whitening.method.patch is not None:
        return after[:, :1]
    rows = whitening.matrix / np.linalg.norm(whitening.matrix, axis=2, keepdims=True)
    components = after.reshape(len(after), len(rows), 1, -1)
    return np.matmul(components, rows).reshape(len(after), *whitening.image_shape)


def _image_tiles(images: np.ndarray, bgr: bool, deviations: float = 0.0) -> np.ndarray:
    """Return tiles (N, h, w, 3) or, of other than three channels, (N, h, w) of the first, with values in [0, 1].

    deviations: 0 (default): the range of all images is drawn from black to white; otherwise, so many standard
    deviations of all values on both sides of 0.
    """
    values = images.astype(np.float64)
    if deviations:
        values = 0.5 + 0.5 * values / (deviations * (values.std() or 1.0))
    else:
        low, high = values.min(), values.max()
        values = (values - low) / ((high - low) or 1.0)
    values = values.clip(0, 1)
    return values[:, :: -1 if bgr else 1].transpose(0, 2, 3, 1) if images.shape[1] == 3 else values[:, 0]


def _show(ax, tiles: np.ndarray, title: str) -> None:
    ax.imshow(mosaic(tiles), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(title, fontsize=10)
