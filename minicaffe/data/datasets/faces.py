"""A drawn data set for verification: pictures of faces, and pairs of faces of one identity or of two.

An identity is a set of proportions, of the head, hair, eyes, brows, nose and mouth, and colours of skin, hair and eyes.
Its pictures differ in place, size and angle, the direction of the look, the expression, the light and its colour, the
background, noise, and strokes in front.  A picture depends on the seed, its identity and its number alone.

The identities of the pairs are not those for training.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from minicaffe.data.datasets.records import replacing_database, write_about, write_database
from minicaffe.errors import DataError

NAME, ABOUT = "faces", "Faces of drawn identities, by minicaffe."
SIZE = 32
PICTURES = 20  #: of each identity
_CHUNK = 500
_PAIRS = 1 << 40  # the first key of the random numbers of the pairs

Field = np.ndarray  # (32, 32): one value for each pixel


class Face(NamedTuple):
    """The proportions of an identity, in halves of the picture's side; the origin is between the eyes."""

    width: float  #: of the head, to each side
    crown: float  #: from the eyes to the top
    chin: float  #: from the eyes to the bottom
    jaw: float  #: how much narrower the head is at the chin
    hairline: float  #: from the eyes to the hair
    fringe: float  #: slant of the hairline
    hair_width: float  #: of the hair beside the head
    hair_length: float  #: how far down it reaches
    eyes: float  #: from the middle to an eye
    eye_width: float
    eye_height: float
    brows: float  #: from an eye to its brow
    brow_angle: float
    brow_width: float  #: thickness
    nose: float  #: length
    nose_width: float
    mouth: float  #: from the eyes to the mouth
    mouth_width: float
    lips: float  #: thickness
    beard: float  #: darkness, 0 for most


_RANGES: tuple[tuple[float, float], ...] = (  # in the order of Face
    (0.5, 0.72), (0.5, 0.68), (0.72, 0.92), (0.1, 0.5), (0.28, 0.5), (-0.35, 0.35), (0, 0.16), (-0.1, 0.9), (0.2, 0.34),
    (0.08, 0.15), (0.04, 0.09), (0.13, 0.22), (-0.4, 0.4), (0.025, 0.06), (0.18, 0.36), (0.05, 0.14), (0.42, 0.6),
    (0.14, 0.3), (0.03, 0.08), (-0.6, 0.5),
)  # fmt: skip
_SKIN = np.array([[255, 224, 196], [92, 58, 40]]) / 255  # light and dark, RGB
_HAIR = np.array([[30, 24, 20], [96, 60, 32], [190, 140, 70], [225, 200, 140], [120, 120, 125], [130, 50, 25]]) / 255


class Identity(NamedTuple):
    face: Face
    skin: np.ndarray  #: RGB, 0 to 1, as the others
    hair: np.ndarray
    iris: np.ndarray
    mouth: np.ndarray


def prepare(
    dest: str = "data/faces", backend: str = "lmdb", *, train: int = 8000, test: int = 2000, seed: int = 1
) -> None:
    """Write train_<backend> and pairs_<backend> into folder `dest`.

    train_<backend>: `train` pictures (3, 32, 32) of train / 20 identities, with their numbers as labels.
    pairs_<backend>: `test` pairs, (6, 32, 32), of other identities; label 1 for two pictures of one, else 0.
    backend: "lmdb" (default) or "leveldb".  seed: of the random numbers, 0 or more (default 1).
    DataError for an argument out of its range, and when a database cannot be written.
    """
    if min(train, test) < 1 or seed < 0:
        raise DataError(f"expected at least one picture and a seed of 0 or more, got {train}, {test} and seed {seed}")
    os.makedirs(dest, exist_ok=True)
    for part, batches, count in (("train", pictures(seed, train), train), ("pairs", pairs(seed, test), test)):
        with replacing_database(os.path.join(dest, f"{part}_{backend}")) as fresh:
            write_database(fresh, backend, batches, count, 8)
    write_about(dest, [f"identity {i}" for i in range(identities(train))], ABOUT)


def identities(train: int) -> int:
    """Return the number of identities of so many training pictures."""
    return -(-train // PICTURES)


def pictures(seed: int, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield training pictures and their identities, in chunks; the identities take turns."""
    people = [draw_identity(_generator(seed, i)) for i in range(identities(count))]
    for start in range(0, count, _CHUNK):
        numbers = range(start, min(start + _CHUNK, count))
        turns = [divmod(number, len(people)) for number in numbers]
        images = [draw_picture(_generator(seed, who, 1 + turn), people[who]) for turn, who in turns]
        yield np.stack(images), np.array([who for _, who in turns])


def pairs(seed: int, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of pictures and whether they are of one identity, in chunks; every second pair is."""
    for start in range(0, count, _CHUNK):
        labels = np.arange(start, min(start + _CHUNK, count)) % 2
        images = []
        for number, same in enumerate(labels, start):
            first, second = (_generator(seed, _PAIRS + number, k) for k in (0, 1))
            one = draw_identity(first)
            other = one if same else draw_identity(second)
            images.append(np.concatenate([draw_picture(first, one), draw_picture(second, other)]))
        yield np.stack(images), labels


def _generator(seed: int, identity: int, number: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, identity << 20 | number]))


def draw_identity(rng: np.random.Generator) -> Identity:
    """Draw the proportions and colours of an identity."""
    face = Face(*(rng.uniform(low, high) for low, high in _RANGES))
    tone, (first, second) = rng.uniform(0, 1), rng.integers(0, len(_HAIR), 2)
    skin = _SKIN[0] + tone * (_SKIN[1] - _SKIN[0])
    hair = _HAIR[first] + rng.uniform(0, 0.5) * (_HAIR[second] - _HAIR[first])
    iris = np.array([0.15, 0.2, 0.2]) + rng.uniform(0, 0.4, 3)
    return Identity(face, skin, hair, iris, skin * (0.85, 0.5, 0.5) + (0.1, 0, 0))


def draw_picture(rng: np.random.Generator, who: Identity) -> np.ndarray:
    """Draw a picture of an identity: (3, 32, 32) uint8, BGR."""
    face = who.face
    x, y = _placed(rng)
    sharp = 7.0  # how fast an edge falls, in halves of the side
    look, tilt = rng.uniform(-0.09, 0.09), rng.uniform(-0.05, 0.05)
    canvas = np.empty((3, SIZE, SIZE))
    canvas[...] = rng.uniform(0, 1, (3, 1, 1)) + rng.uniform(-0.3, 0.3) * x + rng.uniform(-0.3, 0.3) * y

    def paint(inside: Field, colour: np.ndarray, strength: float = 1) -> None:
        cover = np.clip(inside * sharp + 0.5, 0, 1) * strength
        canvas[...] += cover * (np.reshape(colour, (3, 1, 1)) - canvas)

    narrow = face.width * (1 - face.jaw * np.clip(y / face.chin, 0, 1) ** 2)
    head = 1 - np.hypot(x / narrow, y / np.where(y > 0, face.chin, face.crown))
    outer = face.width + face.hair_width
    hair = np.minimum(1 - np.hypot(x / outer, np.minimum(y, 0) / (face.crown + 0.12)), face.hair_length - y)
    paint(hair * outer, who.hair)
    paint(np.minimum(0.16 - np.abs(y - 0.1), np.hypot(0, face.width + 0.05) - np.abs(x)), who.skin * 0.9)
    paint(head * face.width, who.skin)
    beard = np.minimum(head, (y - face.mouth + 0.12) / face.width)
    paint(beard * face.width, who.hair, max(face.beard, 0))
    fringe = -face.hairline + face.fringe * x - y
    paint(np.minimum(fringe, head * face.width + 0.02), who.hair)
    x, y = x - look, y - tilt
    _paint_eyes(paint, rng, who, x, y)
    paint(np.minimum(face.nose_width * (0.4 + y / face.nose) - np.abs(x), face.nose - np.abs(y - face.nose / 2) * 2),
          who.skin * 0.75, 0.8)  # fmt: skip
    smile, opening = rng.uniform(-0.9, 0.9), rng.uniform(0, 0.05)
    bent = y - face.mouth + smile * (x * x - 0.02)
    paint((1 - np.hypot(x / face.mouth_width, bent / (face.lips + opening))) * face.lips, who.mouth)
    return _lit(rng, canvas, x, y)


def _placed(rng: np.random.Generator) -> tuple[Field, Field]:
    """Return the coordinates of the pixels of a face at a random place, size and angle."""
    v, u = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE * 2 - 1
    angle, size = rng.uniform(-0.22, 0.22), rng.uniform(0.88, 1.12)
    u, v = u - rng.uniform(-0.1, 0.1), v + 0.12 - rng.uniform(-0.1, 0.1)
    return (np.cos(angle) * u + np.sin(angle) * v) / size, (np.cos(angle) * v - np.sin(angle) * u) / size


def _paint_eyes(paint, rng: np.random.Generator, who: Identity, x: Field, y: Field) -> None:
    face = who.face
    opening, raised, gaze = rng.uniform(0.5, 1.1), rng.uniform(-0.02, 0.03), rng.uniform(-0.3, 0.3)
    for side in (-1, 1):
        dx = x - side * face.eyes
        inside = 1 - np.hypot(dx / face.eye_width, y / (face.eye_height * opening))
        paint(inside * face.eye_height, np.array([0.95, 0.95, 0.95]))
        radius = face.eye_height * 0.8
        iris = radius - np.hypot(dx - gaze * face.eye_width, y)
        paint(np.minimum(iris, inside * face.eye_height), who.iris)
        above = y + face.brows + raised + side * face.brow_angle * dx
        paint(np.minimum(face.brow_width - np.abs(above), face.eye_width * 1.3 - np.abs(dx)), who.hair * 0.8)


def _lit(rng: np.random.Generator, canvas: np.ndarray, x: Field, y: Field) -> np.ndarray:
    """Light the picture from a side, in a colour; add strokes in front, and noise."""
    light = rng.uniform(0.65, 1.15) * rng.uniform(0.85, 1.1, (3, 1, 1))
    canvas = canvas * (light * (1 + rng.uniform(-0.35, 0.35) * x + rng.uniform(-0.2, 0.2) * y))
    for _ in range(rng.integers(0, 3)):
        angle, offset, width = rng.uniform(0, np.pi), rng.uniform(-0.8, 0.8), rng.uniform(0.02, 0.08)
        distance = np.abs(np.cos(angle) * x + np.sin(angle) * y - offset)
        cover = np.clip((width - distance) * 7 + 0.5, 0, 1)
        canvas += cover * (rng.uniform(0, 1, (3, 1, 1)) - canvas)
    canvas += rng.uniform(0.01, 0.06) * rng.standard_normal(canvas.shape)
    return np.rint(np.clip(canvas[::-1], 0, 1) * 255).astype(np.uint8)
