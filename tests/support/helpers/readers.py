"""Databases of images, and layers that read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.data.datum import array_to_datum
from minicaffe.data.db import open_db
from minicaffe.testing import build_layer

Path = TypeVar("Path", bound="str | os.PathLike[str]")


def write_images(path: Path, images: Iterable[np.ndarray], labels: int = 1 << 30, backend: str = "lmdb") -> Path:
    """Write a database of images (C, H, W); the labels are 0, 1, ..., `labels` - 1, 0, ...  Returns the path."""
    with open_db(path, backend, "w") as database:
        for index, image in enumerate(images):
            database.put(f"{index:05d}", array_to_datum(image, index % labels).SerializeToString())
    return path


def data_layer(text: str, tops: int = 2, phase: int = 0) -> tuple[Layer, list[Blob]]:
    """A layer without bottoms, from the inside of a `layer { }` message, and its tops."""
    layer, _, blobs = build_layer(text, num_top=tops, phase=phase, dtype=np.float32)
    return layer, blobs


def batches(layer: Layer, blobs: list[Blob], count: int) -> list[list[np.ndarray]]:
    """The values of the tops (images, labels) in the next `count` batches."""
    result = []
    for _ in range(count):
        layer.forward([], blobs)
        result.append([blob.read_data().copy() for blob in blobs])
    return result


def assert_same_batches(got: list[list[np.ndarray]], expected: list[list[np.ndarray]]) -> None:
    """Equal up to rounding."""
    for a, b in zip(got, expected, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6)
