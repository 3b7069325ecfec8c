"""A synthetic data set with the format of CIFAR-10: 32x32 colour images of ten kinds of shapes, generated with numpy.

Each image contains one shape at a random position, size and angle, in a random colour with a random texture, on a
textured background of another random colour, with two small distractors and noise.  Light on dark and dark on light are
equally likely and colours carry no information, so the mean image of every class is the same grey: the accuracy of a
linear classifier is near chance, while a small convolutional net learns to distinguish the shapes.

Measured test accuracy: ridge regression on 10000 images 0.13 (chance is 0.10); cifar10_quick 0.38, 0.73 and 0.88 after
500, 1000 and 1500 iterations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from minicaffe.data.datasets import cifar10
from minicaffe.data.datasets.records import describe, write_data_set
from minicaffe.errors import DataError

_SHAPES = "ten kinds of shapes, drawn by minicaffe."
ABOUT = f"Synthetic images in place of CIFAR-10: {_SHAPES}"
SIZE = 32
_CHUNK = 1000

Field = np.ndarray  # (N, 32, 32): one value per pixel of each image


def _disc(u: Field, v: Field) -> Field:
    return np.hypot(u, v) - 0.8


def _ring(u: Field, v: Field) -> Field:
    return np.abs(np.hypot(u, v) - 0.72) - 0.2


def _box(u: Field, v: Field, half_u: float, half_v: float) -> Field:
    return np.maximum(np.abs(u) - half_u, np.abs(v) - half_v)


def _square(u: Field, v: Field) -> Field:
    return _box(u, v, 0.72, 0.72)


def _triangle(u: Field, v: Field) -> Field:
    slope = 0.866 * np.abs(u)
    return np.maximum(slope + 0.5 * v - 0.5, -v - 0.5)


def _cross(u: Field, v: Field) -> Field:
    return np.minimum(_box(u, v, 0.95, 0.27), _box(u, v, 0.27, 0.95))


def _star(u: Field, v: Field) -> Field:
    turn = np.arctan2(v, u) * (5 / (2 * np.pi))
    spike = 2 * np.abs(turn - np.floor(turn) - 0.5)  # 1 in the direction of a spike, 0 between two
    return (np.hypot(u, v) - 0.38 - 0.62 * spike) * 0.6


def _crescent(u: Field, v: Field) -> Field:
    return np.maximum(np.hypot(u, v) - 0.9, 0.75 - np.hypot(u - 0.45, v))


def _bars(u: Field, v: Field) -> Field:
    return _box(np.abs(u) - 0.48, v, 0.22, 0.85)


def _angle(u: Field, v: Field) -> Field:
    return np.minimum(_box(u + 0.5, v, 0.24, 0.85), _box(u, v + 0.62, 0.74, 0.24))


def _checker(u: Field, v: Field) -> Field:
    return np.maximum(_box(u, v, 0.85, 0.85), -np.minimum(np.abs(u), np.abs(v)) * np.sign(u * v))


#: By class name, a function of two coordinates: the approximate distance to the shape's edge, negative inside.
SHAPES: dict[str, Callable[[Field, Field], Field]] = {
    "disc": _disc, "ring": _ring, "square": _square, "triangle": _triangle, "cross": _cross,
    "star": _star, "crescent": _crescent, "bars": _bars, "angle": _angle, "checker": _checker,
}  # fmt: skip
CLASSES = tuple(SHAPES)


def batches(count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Generate images (N, 3, 32, 32) uint8 and labels (N,), N up to 1000 per batch; reproducible by `seed`."""
    rng = np.random.Generator(np.random.Philox(seed))
    for start in range(0, count, _CHUNK):
        labels = rng.permutation(np.arange(min(_CHUNK, count - start)) % len(CLASSES))
        yield draw(labels, rng), labels


def prepare(dest: str = "data/cifar10", backend: str = "lmdb", train: int = 50000, test: int = 10000) -> None:
    """Write `train` training and `test` test images to the files that the CIFAR-10 prototxts read, in folder `dest`.

    backend: "lmdb" (default) or "leveldb".
    DataError when `dest` holds the real CIFAR-10.
    """
    if describe(dest) == cifar10.ABOUT:
        raise DataError(
            f"{dest} holds the real CIFAR-10: choose another --dest for synthetic images, or remove it first"
        )
    parts = {"train": (batches(train, seed=1), train), "test": (batches(test, seed=2), test)}
    write_data_set(dest, backend, parts, cifar10.NAME, digits=5, classes=CLASSES, about=ABOUT)


def is_about(about: str) -> bool:
    """Whether the description of a data set is ABOUT, also with the first words of earlier versions."""
    return about.endswith(_SHAPES)


def draw(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Generate one image per label, (N, 3, 32, 32) uint8."""
    count = len(labels)
    back, front = _two_colours(rng, count)
    picture = _textured(rng, back)
    radius = rng.uniform(8, 13, count)
    centre = rng.uniform(0.75, SIZE / radius - 0.75, (2, count)) * radius
    u, v = _coordinates(centre, radius, rng.uniform(0, 2 * np.pi, count))
    distance = np.empty_like(u)
    for number, shape in enumerate(SHAPES.values()):
        rows = labels == number
        distance[rows] = shape(u[rows], v[rows])
    _paint(picture, distance * radius[:, None, None].astype(np.float32), _textured(rng, front))
    for _ in range(2):
        _clutter(picture, rng)
    picture += np.float32(0.04) * rng.standard_normal(picture.shape, np.float32)
    return np.rint(picture.clip(0, 1) * 255).astype(np.uint8)


def _two_colours(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw two clearly different colours per image, (N, 3) each; either may be the lighter one."""
    first = rng.uniform(0, 1, (count, 3))
    second = rng.uniform(0, 1, (count, 3))
    while (near := np.abs(first - second).mean(1) < 0.35).any():
        second[near] = rng.uniform(0, 1, (int(near.sum()), 3))
    return first.astype(np.float32), second.astype(np.float32)


def _textured(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    """Return (N, 3, 32, 32): each colour plus a plane wave of random direction, wavelength and amplitude."""
    count = len(colours)
    angle, length = rng.uniform(0, np.pi, count), np.exp(rng.uniform(np.log(4), np.log(60), count))
    phase, strength = rng.uniform(0, 2 * np.pi, count), rng.uniform(0, 0.12, count)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    wave = np.float32(2 * np.pi) / length[:, None, None].astype(np.float32)
    way = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    texture = strength[:, None, None] * np.sin(wave * way + phase[:, None, None])
    return colours[:, :, None, None] + texture[:, None].astype(np.float32)


def _coordinates(centre: np.ndarray, radius: np.ndarray, angle: np.ndarray) -> tuple[Field, Field]:
    """Return the pixel coordinates relative to each shape: translated to its centre, rotated, divided by its radius."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    dy, dx = (
        (y - centre[0][:, None, None]) / radius[:, None, None],
        (x - centre[1][:, None, None]) / radius[:, None, None],
    )
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    return (cos * dx + sin * dy).astype(np.float32), (cos * dy - sin * dx).astype(np.float32)


def _paint(picture: np.ndarray, distance: Field, colours: np.ndarray) -> None:
    """Blend the colours into the pixels inside the shape (distance below 0, in pixels), antialiased over one pixel."""
    cover = (0.5 - distance).clip(0, 1)[:, None]
    picture += cover * (colours - picture)


def _clutter(picture: np.ndarray, rng: np.random.Generator) -> None:
    """Paint a short bar or a dot of a random colour at a random position in each image."""
    count = len(picture)
    centre, angle = rng.uniform(0, SIZE, (2, count)), rng.uniform(0, np.pi, count)
    u, v = _coordinates(centre, np.ones(count), angle)
    half_length, half_width = rng.uniform(0.8, 4, count), rng.uniform(0.6, 1.1, count)
    distance = np.maximum(np.abs(u) - half_length[:, None, None], np.abs(v) - half_width[:, None, None])
    _paint(picture, distance.astype(np.float32), rng.uniform(0, 1, (count, 3, 1, 1)).astype(np.float32))
