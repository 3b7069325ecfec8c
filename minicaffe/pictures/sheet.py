"""A sheet of pictures: a grid of images (C, H, W), each with a caption, under a title and notes."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minicaffe.pictures.canvas import text_width
from minicaffe.pictures.plot import label_text, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _TALLEST = 1.25, 2.5  # of a picture, in inches
_GAP = 0.14  # between pictures
_SIZE, _NOTE_SIZE = 6.5, 7  # of a caption and of a note, in points
_LINE = 0.13  # height of a line of a caption
_NARROWEST = 5.6  # sheet, so that the notes fit
_HUE_STEP = 0.381966  # of the colour circle, between the hues of successive groups: (3 - sqrt(5)) / 2
_PLANES = 8  # of a picture whose channels are not colours, drawn side by side


class Frame(NamedTuple):
    """A rectangle over a picture, its edges as fractions of the picture's width and height.

    group: a number that gives its colour.  text: written at its upper left corner.  line: "-" drawn through, "--"
    dashed, ":" dotted.
    """

    xmin: float
    ymin: float
    xmax: float
    ymax: float
    group: int = 0
    text: str = ""
    line: str = "-"


class Tile(NamedTuple):
    """A picture (C, H, W), the lines below it, the first of them in bold, and rectangles over it."""

    picture: np.ndarray
    caption: Sequence[str] = ()
    frames: Sequence[Frame] = ()


class Place(NamedTuple):
    """Where a picture is drawn, in inches from the upper left corner of the sheet."""

    left: float
    top: float
    width: float
    height: float


class Range(NamedTuple):
    """The values drawn as black and as white; those outside are drawn as the nearer of the two."""

    low: float
    high: float

    @classmethod
    def of(cls, pictures: Iterable[np.ndarray]) -> Range:
        """Return the least and the largest finite value of some pictures."""
        finite = [values for values in (picture[np.isfinite(picture)] for picture in pictures) if values.size]
        if not finite:
            return cls(0.0, 1.0)
        return cls(float(min(values.min() for values in finite)), float(max(values.max() for values in finite)))

    @property
    def note(self) -> str:
        """The range in words."""
        return f"black is {self.low:.4g}, white is {self.high:.4g}"


BYTES = Range(0.0, 255.0)


def draw_sheet(
    tiles: Sequence[Tile], title: str, notes: Sequence[str], shown: Range, bgr: bool = True, width: float = _WIDTH
) -> Figure:
    """Return a figure of the tiles, row by row, about 1.6 times as wide as high; `plot.save` writes it.

    One channel is drawn in gray, three in colour, any other number side by side in gray, the first 8 of them.  nan is
    drawn as black.  Texts that are too wide end in "…".

    title, notes: the lines above the tiles.  shown: the values of black and white, the same for all tiles.
    bgr: whether three channels are blue, green, red (default), not red, green, blue.
    width: of a picture, in inches (default 1.25).
    """
    images = [_image(tile.picture, shown, bgr) for tile in tiles]
    tallest = _TALLEST * max(width / _WIDTH, 1)
    width *= min(max(_planes(tile.picture) for tile in tiles), 4)
    height = min(max(width * image.shape[0] / image.shape[1] for image in images), tallest)
    step_x, step_y = width + _GAP, height + _GAP + _LINE * max(len(tile.caption) for tile in tiles) + 0.05
    columns = _columns(len(tiles), step_y / step_x)
    rows, head = math.ceil(len(tiles) / columns), 0.42 + 0.16 * len(notes)
    page = max(columns * step_x + _GAP, _NARROWEST)
    figure, ax = _page(page, head + rows * step_y)
    ax.text(_GAP, 0.26, label_text(title), fontsize=10, fontweight="bold")
    for i, note in enumerate(notes):
        text = label_text(_fitted(note, 70 * (page - 2 * _GAP), False, _NOTE_SIZE))
        ax.text(_GAP, 0.47 + 0.16 * i, text, fontsize=_NOTE_SIZE, color="#52606d")
    for i, (tile, image) in enumerate(zip(tiles, images)):
        left, top = _GAP + i % columns * step_x, head + i // columns * step_y
        _frame(ax, tile.frames, _place(ax, image, left, top, width, height))
        for k, line in enumerate(tile.caption):
            weight = "bold" if k == 0 else "normal"
            text = label_text(_fitted(line, 70 * width, k == 0))
            ax.text(left, top + height + 0.04 + _LINE * (k + 0.75), text, fontsize=_SIZE, fontweight=weight)
    return figure


def _columns(count: int, ratio: float) -> int:
    """Return the number of columns for `count` tiles; ratio: the height of a tile over its width."""
    about = min(math.ceil(math.sqrt(1.6 * count * ratio)), count)
    return next((columns for columns in (about, about + 1, max(about - 1, 1)) if count % columns == 0), about)


def channel_names(channels: int, bgr: bool) -> list[str]:
    """Return the names of the channels of a picture: gray, the three colours in their order, or numbers."""
    if channels == 3:
        return ["blue", "green", "red"] if bgr else ["red", "green", "blue"]
    return ["gray"] if channels == 1 else [f"channel {i}" for i in range(channels)]


def channel_table(pictures: np.ndarray, bgr: bool) -> list[list[str]]:
    """Return a table with a row for each channel of pictures (N, C, H, W): least, largest, mean, std, not finite.

    The statistics are those of the finite values.  The first row holds the headings.
    """
    rows = [["channel", "min", "max", "mean", "std", ""]]
    for i, name in enumerate(channel_names(pictures.shape[1], bgr)):
        channel = pictures[:, i]
        values = channel[np.isfinite(channel)].astype(np.float64)
        numbers = [values.min(), values.max(), values.mean(), values.std()] if values.size else [math.nan] * 4
        bad = channel.size - values.size
        rows.append([name, *(f"{number:.4g}" for number in numbers), f"{bad} not finite" if bad else ""])
    return rows


def _page(width: float, height: float) -> tuple[Figure, Any]:
    """Return a figure and its only axes, whose coordinates are inches from the upper left corner."""
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    figure.suppressComposite = True  # in SVG and PDF, each image keeps its own pixels
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    return figure, ax


def _place(ax, image: np.ndarray, left: float, top: float, width: float, height: float) -> Place:
    """Draw an image as large as it fits into a box, in the middle of it; return where."""
    scale = min(width / image.shape[1], height / image.shape[0])
    w, h = scale * image.shape[1], scale * image.shape[0]
    x, y = left + (width - w) / 2, top + (height - h) / 2
    ax.imshow(image, cmap="gray", vmin=0, vmax=1, aspect="auto", extent=(x, x + w, y + h, y))
    return Place(x, y, w, h)


def _frame(ax, frames: Sequence[Frame], place: Place) -> None:
    """Draw rectangles over a picture, clipped to it, in colours that differ on any background, and their texts."""
    from matplotlib.patches import Rectangle

    for frame in frames:
        xmin, ymin, xmax, ymax = (min(max(edge, 0.0), 1.0) for edge in frame[:4])
        x, y = place.left + xmin * place.width, place.top + ymin * place.height
        size = (xmax - xmin) * place.width, (ymax - ymin) * place.height
        color = group_color(frame.group)
        for line_width, edge, line in ((1.8, "black", "-"), (1.0, color, frame.line)):
            ax.add_patch(Rectangle((x, y), *size, fill=False, edgecolor=edge, linewidth=line_width, linestyle=line))
        if frame.text:
            ax.text(
                x, max(y, place.top + 0.09), label_text(frame.text), fontsize=4.5, va="bottom",
                bbox={"facecolor": color, "edgecolor": "none", "pad": 0.6},
            )  # fmt: skip


def group_color(group: int) -> tuple[float, float, float]:
    """Return the colour of a group, red, green and blue in [0, 1]; successive numbers have different hues."""
    return colorsys.hsv_to_rgb(group * _HUE_STEP % 1, 0.6, 1.0)


def _planes(picture: np.ndarray) -> int:
    """Return how many images a picture is drawn as."""
    return 1 if len(picture) == 3 else min(len(picture), _PLANES)


def _image(picture: np.ndarray, shown: Range, bgr: bool) -> np.ndarray:
    """Convert a picture (C, H, W) to an image (H, W) or (H, W, 3) of float32 in [0, 1]."""
    values = np.clip(np.asarray(picture, np.float64), *shown) - shown.low
    values = np.nan_to_num(values / ((shown.high - shown.low) or 1.0)).astype(np.float32)
    if len(values) == 3:
        return values[:: -1 if bgr else 1].transpose(1, 2, 0)
    planes = values[:_PLANES]
    gap = np.ones((planes.shape[1], max(1, planes.shape[2] // 32)), np.float32)
    parts = [part for plane in planes for part in (gap, plane)]
    return np.concatenate(parts[1:], 1)


def _fitted(text: str, width: float, bold: bool, size: float = _SIZE) -> str:
    """Return a text, shortened to a width in points; size: of its letters, in points."""
    size *= 1.06 if bold else 1  # bold letters are wider than text_width states
    if text_width(text, size, bold) <= width:
        return text
    while text and text_width(f"{text}…", size, bold) > width:
        text = text[:-1]
    return f"{text.rstrip()}…"
