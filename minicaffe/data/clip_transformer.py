"""transform_param for clips of videos: all frames of a clip are cropped and flipped alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.data.mean import read_mean
from minicaffe.data.transformer import NUMBERED, BatchTransformer, Images, Labels, Name
from minicaffe.data.workers import Each, in_turn
from minicaffe.errors import DataError
from minicaffe.philox import Stream


class ClipTransformer(BatchTransformer):
    """The transformation of clips, which come as images whose channels are the planes of all frames.

    channels: of a frame.  frames: of a clip.  by_frame: whether the planes of one frame are adjacent, as TSN's; the
    result is (N, frames * channels, H, W) then, and else (N, channels, frames, H, W).
    A mean has one value for all planes, one for each channel of a frame, or is an image, of a frame or of all frames.
    """

    on_host_only = True  # type: ignore[assignment]  # of any parameters

    def __init__(self, param, train: bool, rng: Stream, channels: int, frames: int, by_frame: bool) -> None:
        self.channels, self.frames, self.by_frame = channels, frames, by_frame
        super().__init__(param, train, rng)
        if self.mean is not None and not self.mean_file:
            self.mean = self._spread(self.mean, "mean_value")

    def read_mean(self, path: str) -> np.ndarray:
        mean = read_mean(path, 4)
        if mean.ndim == 4:
            if mean.shape[:2] != (self.channels, self.frames):
                raise DataError(
                    f"mean file {path} has {mean.shape[1]} frames of {mean.shape[0]} channels, but clips have "
                    f"{self.frames} of {self.channels}"
                )
            return mean.reshape(-1, *mean.shape[2:])
        return self._spread(mean, f"mean file {path}")

    def _spread(self, mean: np.ndarray, name: str) -> np.ndarray:
        """Repeat the planes of a mean for all frames."""
        if len(mean) in (1, self.channels * self.frames):
            return mean
        if len(mean) == self.channels or self.by_frame and self.channels * self.frames % len(mean) == 0:
            times = self.channels * self.frames // len(mean)
            return np.tile(mean, (times, 1, 1)) if self.by_frame else np.repeat(mean, times, 0)
        raise DataError(f"{name} must have 1 or {self.channels} channels, got {len(mean)}")

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:  # type: ignore[override]  # an axis more
        planes, height, width = super().output_shape(shape)
        return (planes, height, width) if self.by_frame else (self.channels, self.frames, height, width)

    def apply(
        self, images: Images, labels: Labels, dtype: np.dtype, each: Each = in_turn, name: Name = NUMBERED
    ) -> tuple[np.ndarray, ...]:
        shape = self.output_shape(images[0].shape)
        out = np.empty((len(images), self.channels * self.frames, *shape[-2:]), dtype)
        self.transform(images, out, each, name)
        return out.reshape(len(images), *shape), np.asarray(labels)
