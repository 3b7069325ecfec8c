"""C3D's files of volumes: videos with a truth for each voxel, for VideoSegmentationData and VideoWithVoxelTruthData.

A file is five 32-bit numbers N = 1, C, L, H, W, then the values (C, L, H, W), as bytes or 32-bit floats; the last
channels are the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minicaffe.data.clip_transformer import ClipTransformer
from minicaffe.data.image_list import ImageListReader, lines_of
from minicaffe.data.transformer import NUMBERED, Images, Labels, Name
from minicaffe.data.workers import Each, in_turn
from minicaffe.errors import DataError
from minicaffe.files import read_bytes
from minicaffe.philox import Stream

_HEAD = 5  #: numbers


class Volume(NamedTuple):
    """A file before it is read.  of_bytes: whether its values are bytes."""

    path: str
    of_bytes: bool

    def read(self) -> np.ndarray:
        """Return the values, (C, L, H, W); DataError for a file that is missing or has another size."""
        try:
            content = read_bytes(self.path)
        except OSError as error:
            raise DataError(f"cannot read volume {self.path}: {error.strerror or error}") from error
        kind = np.dtype(np.uint8 if self.of_bytes else "<f4")
        head = np.frombuffer(content[: 4 * _HEAD], "<i4").tolist() if len(content) >= 4 * _HEAD else []
        size = len(content) - 4 * _HEAD
        if len(head) < _HEAD or min(head) < 1 or head[0] != 1 or math.prod(head) * kind.itemsize != size:
            raise DataError(
                f"volume {self.path} must be 1, C, L, H, W and so many {'bytes' if self.of_bytes else 'floats'}, "
                f"got {head} and {max(size, 0)} bytes"
            )
        return np.frombuffer(content, kind, offset=4 * _HEAD).reshape(head[1:])

    def pixels(self) -> np.ndarray:
        """Return the values with all planes as channels."""
        values = self.read()
        return values.reshape(-1, *values.shape[2:])


class VolumeReader(ImageListReader):
    """Endless reader of batches of the volumes in a list of paths; of_bytes as of `Volume`."""

    def __init__(self, *args: Any, of_bytes: bool) -> None:
        self.of_bytes = of_bytes
        super().__init__(*args)

    def read_entries(self) -> list[tuple[str, Any]]:
        return [(line.strip(), 0) for _, line in lines_of(self.source)]

    def load(self, entry: int) -> tuple[Volume, Any]:
        """Return the volume of an entry, not read yet; it has no label."""
        path, label = self.entries[entry]
        return Volume(self.root_folder + path, self.of_bytes), label


class TruthRules(NamedTuple):
    """What becomes of the truth: the number of its channels, a factor, and whether it is horizontal and vertical flow.

    Of flow the first channel changes its sign where a volume is mirrored.
    """

    channels: int = 1
    scale: float = 1.0
    is_flow: bool = False


class VolumeTransformer(ClipTransformer):
    """transform_param for volumes, whose last channels, the truth, are only cropped and mirrored.

    shape: of a volume, (C, L, H, W).  DataError if that has no channels beside the truth.
    """

    def __init__(self, param, train: bool, rng: Stream, shape: Sequence[int], truth: TruthRules) -> None:
        planes, self.truth = shape[0] - truth.channels, truth
        if planes < 1:
            raise DataError(f"a volume must have more than {truth.channels} channels of truth, got {shape[0]} in all")
        super().__init__(param, train, rng, planes, shape[1], False)
        self._scale_of_data, self.scale = self.scale, 1.0
        if self.mean is not None:
            mean = np.broadcast_to(self.mean, (planes * shape[1], *self.mean.shape[1:]))
            self.mean = np.concatenate([mean, np.zeros((truth.channels * shape[1], *mean.shape[1:]), np.float32)])

    def apply(
        self, images: Images, labels: Labels, dtype: np.dtype, each: Each = in_turn, name: Name = NUMBERED
    ) -> tuple[np.ndarray, ...]:
        size = self.output_shape(images[0].shape)[-2:]
        out = np.empty((len(images), (self.channels + self.truth.channels) * self.frames, *size), dtype)
        flip = self.transform(images, out, each, name).flip
        volumes = out.reshape(len(images), -1, self.frames, *size)
        data, truth = volumes[:, : self.channels] * self._scale_of_data, volumes[:, self.channels :] * self.truth.scale
        if self.truth.is_flow:
            truth[flip, 0] *= -1
        return data.astype(dtype, copy=False), truth.astype(dtype, copy=False)
