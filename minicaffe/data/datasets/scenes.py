"""Scenes for object detection, drawn with numpy: coloured shapes of five classes that overlap, on textured backgrounds.

A scene has one to six shapes of random class, size, colour, stretch and angle.  Later shapes hide parts of earlier
ones, and the picture's edge cuts some.  Short strokes behind the shapes and noise over all are of no class.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicaffe.data.annotations.records import Box
from minicaffe.data.datasets.synthetic import SHAPES

#: class names by label - 1, and the outline of each: a function of `synthetic.SHAPES`
_OUTLINES = {
    "circle": SHAPES["disc"], "square": SHAPES["square"], "triangle": SHAPES["triangle"], "star": SHAPES["star"],
    "ring": SHAPES["ring"],
}  # fmt: skip
CLASSES = tuple(_OUTLINES)

_MOST_SHAPES = 6
_SMALLEST, _LARGEST = 1 / 10, 1 / 4  # radius of a shape, as a fraction of the picture's side
_STRETCH = 1.25  # largest ratio of a shape's stretched axis to its own length; the other axis is divided by it
_LEAST_VISIBLE = 0.15  # of a shape's area: what would hide more is placed elsewhere
_DIFFICULT = 0.5  # visible fraction of the area below which a shape is marked as difficult
_ATTEMPTS = 20  # places tried for a shape before it is left out
_LEAST_CONTRAST = 0.2  # mean difference of a shape's colour and the background's, of 1
_GRID = 9  # random brightnesses along each axis of the background's smooth noise


class Scene(NamedTuple):
    """A drawn picture, (3, size, size) uint8, BGR, the boxes of what is visible of its shapes, and the label that is
    visible at each pixel, (1, size, size) uint8, 0 for the background."""

    picture: np.ndarray
    boxes: list[Box]
    labels: np.ndarray


class _Shape(NamedTuple):
    """A shape in the picture: what it covers, 0 to 1, in the rows and columns of a window that may exceed it."""

    label: int
    cover: np.ndarray
    top: int
    left: int

    @property
    def area(self) -> int:
        """The number of pixels, also outside the picture, that are more than half covered."""
        return int((self.cover > 0.5).sum())

    def clipped(self, size: int) -> tuple[tuple[slice, slice], np.ndarray]:
        """Return the part of the picture in the window, and the cover of its pixels."""
        height, width = self.cover.shape
        y0, y1 = max(self.top, 0), min(self.top + height, size)
        x0, x1 = max(self.left, 0), min(self.left + width, size)
        part = self.cover[y0 - self.top : y1 - self.top, x0 - self.left : x1 - self.left]
        return (slice(y0, y1), slice(x0, x1)), part


def draw_scene(rng: np.random.Generator, size: int) -> Scene:
    """Draw a scene of `size` x `size` pixels.

    A box is that of all visible pixels of a shape, those that it covers by more than half and no later shape does.
    """
    back = rng.uniform(0, 1, 3)
    picture = _background(rng, back, size)
    owner = np.full((size, size), -1)  # the number of the shape that is visible at each pixel
    shapes: list[_Shape] = []
    for _ in range(rng.integers(1, _MOST_SHAPES + 1)):
        shape = _place(rng, shapes, owner)
        if shape is not None:
            window, cover = shape.clipped(size)
            owner[window][cover > 0.5] = len(shapes)
            surface = _texture(rng, _colour_unlike(rng, back), *cover.shape)
            part = picture[:, window[0], window[1]]
            part += cover * (surface - part)
            shapes.append(shape)
    picture += rng.uniform(0.01, 0.05) * rng.standard_normal(picture.shape, np.float32)
    pixels = np.rint(picture.clip(0, 1) * 255).astype(np.uint8)
    labels = np.array([0, *(shape.label for shape in shapes)], np.uint8)[owner + 1]
    return Scene(pixels, [_box(shape, owner == i) for i, shape in enumerate(shapes)], labels[None])


def _place(rng: np.random.Generator, shapes: list[_Shape], owner: np.ndarray) -> _Shape | None:
    """Draw a shape where enough of it and of each earlier one remains visible; None when no such place is found."""
    size = len(owner)
    for _ in range(_ATTEMPTS):
        shape = _random_shape(rng, size)
        window, cover = shape.clipped(size)
        inside = cover > 0.5
        hidden = np.bincount(owner[window][inside] + 1, minlength=len(shapes) + 1)[1:]
        seen = np.bincount(owner.ravel() + 1, minlength=len(shapes) + 1)[1:] - hidden
        least = [_LEAST_VISIBLE * each.area for each in shapes]
        if inside.sum() > 0.6 * shape.area and (seen >= least).all():
            return shape
    return None


def _random_shape(rng: np.random.Generator, size: int) -> _Shape:
    label = int(rng.integers(len(CLASSES))) + 1
    radius = size * np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST)))
    y, x = rng.uniform(0, size, 2)
    stretch, angle = _STRETCH ** rng.uniform(-1, 1), rng.uniform(0, 2 * np.pi)
    half = int(np.ceil(1.2 * radius * max(stretch, 1 / stretch))) + 1
    top, left = int(y) - half, int(x) - half
    rows, columns = np.mgrid[top : top + 2 * half + 1, left : left + 2 * half + 1].astype(np.float32) + np.float32(0.5)
    dy, dx = (rows - np.float32(y)) / np.float32(radius), (columns - np.float32(x)) / np.float32(radius)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = (cos * dx + sin * dy) / np.float32(stretch), (cos * dy - sin * dx) * np.float32(stretch)
    distance = _OUTLINES[CLASSES[label - 1]](u, v) * np.float32(radius)
    return _Shape(label, (0.5 - distance).clip(0, 1).astype(np.float32), top, left)


def _box(shape: _Shape, visible: np.ndarray) -> Box:
    size = len(visible)
    rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
    xmin, ymin, xmax, ymax = (int(edge) / size for edge in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    difficult = bool(visible.sum() < _DIFFICULT * shape.area)
    return Box(shape.label, xmin, ymin, xmax, ymax, difficult)


def _background(rng: np.random.Generator, colour: np.ndarray, size: int) -> np.ndarray:
    """Return (3, size, size): a texture, smooth noise, and strokes of random colours."""
    picture = _texture(rng, colour, size, size)
    picture += _smooth_noise(rng, rng.uniform(0.02, 0.12), size)
    for _ in range(rng.integers(4, 16)):
        _stroke(rng, picture)
    return picture


def _texture(rng: np.random.Generator, colour: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return (3, height, width): a colour plus a plane wave of random direction, length and amplitude."""
    angle, length = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(4), np.log(80)))
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    way = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    wave = np.sin(np.float32(2 * np.pi / length) * way + np.float32(rng.uniform(0, 2 * np.pi)))
    return colour.astype(np.float32)[:, None, None] + np.float32(rng.uniform(0, 0.12)) * wave


def _smooth_noise(rng: np.random.Generator, strength: float, size: int) -> np.ndarray:
    """Return (3, size, size): random numbers on a coarse grid, interpolated linearly."""
    grid = rng.standard_normal((3, _GRID, _GRID), np.float32) * np.float32(strength)
    at = np.linspace(0, _GRID - 1, size, dtype=np.float32)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(_GRID, dtype=np.float32)))
    return np.einsum("yi,cij,xj->cyx", weights, grid, weights, optimize=True)


def _stroke(rng: np.random.Generator, picture: np.ndarray) -> None:
    """Paint a bar, up to a fifth of the picture long and three pixels wide, at a random position and angle."""
    size = picture.shape[1]
    half_length, half_width = rng.uniform(2, max(size / 10, 3)), rng.uniform(0.5, 1.5)
    y, x = rng.uniform(0, size, 2)
    angle = rng.uniform(0, np.pi)
    reach = int(half_length) + 3
    window = (slice(max(int(y) - reach, 0), int(y) + reach), slice(max(int(x) - reach, 0), int(x) + reach))
    part = picture[:, window[0], window[1]]
    dy = np.arange(window[0].start, window[0].start + part.shape[1])[:, None] + 0.5 - y
    dx = np.arange(window[1].start, window[1].start + part.shape[2]) + 0.5 - x
    along, across = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
    distance = np.maximum(np.abs(along) - half_length, np.abs(across) - half_width)
    cover = (0.5 - distance).clip(0, 1).astype(np.float32)
    part += cover * (rng.uniform(0, 1, (3, 1, 1)).astype(np.float32) - part)


def _colour_unlike(rng: np.random.Generator, other: np.ndarray) -> np.ndarray:
    while np.abs((colour := rng.uniform(0, 1, 3)) - other).mean() < _LEAST_CONTRAST:
        pass
    return colour
