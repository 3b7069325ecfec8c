"""A drawn data set for text recognition: grey pictures of random words with their letters, as HDF5 files.

A word has three to seven of the 26 capital letters, all equally likely.  Letters are strokes.  Size, width, slant,
angle, thickness, contrast and place of a word are random; the background is textured, with noise and lines.  A picture
depends on the seed, its part (train or test) and its number alone.
"""

from __future__ import annotations

import functools
import os

import numpy as np

from minicaffe.data.datasets.records import write_about
from minicaffe.errors import DataError
from minicaffe.files import write_atomically
from minicaffe.hdf5_file import content
from minicaffe.progress.counting import Progress

NAME, ABOUT = "words", "Words of capital letters, drawn by minicaffe."
HEIGHT, WIDTH = 32, 96
SHORTEST, LONGEST = 3, 7
#: the strokes of each letter: lines through points xy, x from 0 to 4 and y from 0 to 6, downwards
STROKES = {
    "A": "06 20 46,14 34", "B": "00 06 36 45 44 33 03,33 42 41 30 00", "C": "41 30 10 01 05 16 36 45",
    "D": "00 06 26 44 42 20 00", "E": "40 00 06 46,03 33", "F": "40 00 06,03 33", "G": "41 30 10 01 05 16 36 45 43 23",
    "H": "00 06,40 46,03 43", "I": "20 26,10 30,16 36", "J": "40 45 36 16 05", "K": "00 06,40 03 46", "L": "00 06 46",
    "M": "06 00 23 40 46", "N": "06 00 46 40", "O": "10 30 41 45 36 16 05 01 10", "P": "06 00 30 41 42 33 03",
    "Q": "10 30 41 45 36 16 05 01 10,24 46", "R": "06 00 30 41 42 33 03,23 46",
    "S": "41 30 10 01 02 13 33 44 45 36 16 05", "T": "00 40,20 26", "U": "00 05 16 36 45 40", "V": "00 26 40",
    "W": "00 16 23 36 40", "X": "00 46,40 06", "Y": "00 23 40,23 26", "Z": "00 40 06 46",
}  # fmt: skip
LETTERS = "".join(STROKES)
_PARTS = ("train", "test")


def _lines(strokes: str) -> np.ndarray:
    """Return the lines of a letter, (lines, 2 ends, x and y), in widths and heights of it."""
    paths = [[(int(xy[0]) / 4, int(xy[1]) / 6) for xy in path.split()] for path in strokes.split(",")]
    return np.array([pair for path in paths for pair in zip(path, path[1:])])


_LINES = [_lines(strokes) for strokes in STROKES.values()]


def prepare(dest: str = "data/words", *, train: int = 12000, test: int = 1000, seed: int = 1) -> None:
    """Write train.h5 and test.h5, and the lists train.txt and test.txt of these files, into folder `dest`.

    data: (N, 1, 32, 96) bytes.  label: (N, 7) bytes, 1 for A to 26 for Z, 0 behind the word.
    train, test: numbers of pictures.  seed: of the random numbers, 0 or more (default 1).
    DataError for an argument out of its range, and when a file cannot be written.
    """
    if min(train, test) < 1 or seed < 0:
        raise DataError(f"expected at least one picture and a seed of 0 or more, got {train}, {test} and seed {seed}")
    os.makedirs(dest, exist_ok=True)
    for part, count in zip(_PARTS, (train, test), strict=True):
        data, label = np.empty((count, 1, HEIGHT, WIDTH), np.uint8), np.zeros((count, LONGEST), np.uint8)
        with Progress(part, count) as progress:
            for i in range(count):
                rng = np.random.Generator(np.random.Philox(key=[seed, _PARTS.index(part) << 32 | i]))
                word = rng.integers(0, len(LETTERS), rng.integers(SHORTEST, LONGEST + 1))
                data[i, 0], label[i, : len(word)] = draw_word(rng, word), word + 1
                progress(i + 1)
        path = os.path.join(dest, part)
        write_atomically(f"{path}.h5", content(functools.partial(_fill, data, label)))
        write_atomically(f"{path}.txt", f"{path}.h5\n")
    write_about(dest, ["(blank)", *LETTERS], ABOUT)


def _fill(data: np.ndarray, label: np.ndarray, file) -> None:
    file["data"], file["label"] = data, label


def text_of(labels: np.ndarray) -> str:
    """Return the word of a row of labels, which ends before the first that is not positive."""
    row = [int(label) for label in np.ravel(labels)]
    end = next((i for i, label in enumerate(row) if label <= 0), len(row))
    return "".join(LETTERS[label - 1] for label in row[:end])


def draw_word(rng: np.random.Generator, word: np.ndarray) -> np.ndarray:
    """Draw a word, given by the numbers of its letters, as a picture (32, 96) of bytes."""
    lines, size = _layout(rng, word)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32) + np.float32(0.5)
    half = rng.uniform(0.06, 0.1) * size
    cover = (half + 0.5 - _distance(lines, x, y)).clip(0, 1)
    dark, light = np.sort(rng.uniform(0, 1, 2))
    while light - dark < 0.3:
        dark, light = np.sort(rng.uniform(0, 1, 2))
    front, back = (dark, light) if rng.random() < 0.5 else (light, dark)
    picture = back + _wave(rng, x, y)
    for _ in range(rng.integers(0, 3)):  # lines of no letter
        ends = (rng.uniform(0, 1, (1, 2, 2)) * (WIDTH, HEIGHT)).astype(np.float32)
        picture += (1 - _distance(ends, x, y)).clip(0, 1) * rng.uniform(-0.15, 0.15)
    picture += cover * (front + _wave(rng, x, y) - picture)
    picture += rng.uniform(0.01, 0.06) * rng.standard_normal(picture.shape)
    return np.rint(picture.clip(0, 1) * 255).astype(np.uint8)


def _layout(rng: np.random.Generator, word: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the lines of all letters at their places in the picture, and the height of a letter."""
    height, aspect, gap = rng.uniform(13, 20), rng.uniform(0.5, 0.75), rng.uniform(0.22, 0.4)
    widths = aspect * np.where(word == LETTERS.index("I"), 0.7, 1) * rng.uniform(0.9, 1.1, len(word))
    starts = np.concatenate([[0], np.cumsum(widths + gap)])
    height = min(height, 0.92 * WIDTH / (starts[-1] - gap + 0.3))  # all of the word is in the picture
    parts = [_LINES[k] * (w, 1) + (x, 0) for k, w, x in zip(word, widths, starts)]
    lines = np.concatenate(parts) * height
    centre = np.array([(starts[-1] - gap) / 2, 0.5]) * height
    lines = lines - centre
    slant, angle = rng.uniform(-0.25, 0.25), rng.uniform(-0.06, 0.06)
    lines[..., 0] -= slant * lines[..., 1]
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    lines = lines @ turn
    room = np.maximum(np.array([WIDTH, HEIGHT]) / 2 - np.abs(lines).max((0, 1)) - 1.5, 0)
    lines += np.array([WIDTH, HEIGHT]) / 2 + rng.uniform(-1, 1, 2) * room
    return lines.astype(np.float32), height


def _distance(lines: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the distance of each place to the nearest of the lines (L, 2, 2)."""
    (x0, y0), (way_x, way_y) = (part[:, :, None, None] for part in (lines[:, 0].T, (lines[:, 1] - lines[:, 0]).T))
    dx, dy = x - x0, y - y0
    along = ((dx * way_x + dy * way_y) / np.maximum(way_x**2 + way_y**2, np.float32(1e-9))).clip(0, 1)
    return np.sqrt(((dx - along * way_x) ** 2 + (dy - along * way_y) ** 2).min(0))


def _wave(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    angle, length = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(6), np.log(80)))
    way = np.cos(angle) * x + np.sin(angle) * y
    return rng.uniform(0, 0.08) * np.sin(2 * np.pi / length * way + rng.uniform(0, 2 * np.pi))
