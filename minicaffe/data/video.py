"""Frames of videos: folders of numbered images, and files with several pictures."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from minicaffe.data.color import bgr_to_gray
from minicaffe.data.image import read_pixels
from minicaffe.data.image_file import has_signature, opened, read_bytes
from minicaffe.errors import DataError

_POSITION, _FRAME_COUNT = 1, 7  #: cv2.CAP_PROP_POS_FRAMES, cv2.CAP_PROP_FRAME_COUNT


class FrameFolder:
    """A folder of images, which have the numbers of their names.

    pattern: the name of a frame's file, with a number such as %04d.  planes: values for a %c in front of the number; a
    frame has an image for each, which are stacked as its channels.  "" (default): there is no %c.
    """

    def __init__(self, path: str, pattern: str, planes: str = "") -> None:
        self.path, self.pattern, self.planes = path, pattern, planes

    def read(self, numbers: list[int], color: bool) -> list[np.ndarray]:
        """Return frames as `read_pixels` does, gray if they have planes; DataError for one that is missing."""
        if not self.planes:
            return [read_pixels(self._file(number), color) for number in numbers]
        return [np.concatenate([read_pixels(self._file(n, plane), False) for plane in self.planes]) for n in numbers]

    def _file(self, number: int, plane: str = "") -> str:
        try:
            return os.path.join(self.path, self.pattern % ((plane, number) if plane else number))
        except (TypeError, ValueError):
            wanted = "a %c, and a number such as %04d," if plane else "a number such as %04d"
            raise DataError(f"name_pattern must have {wanted} in it, got '{self.pattern}'") from None


class PictureFile:
    """A file with several pictures, such as a GIF or a TIFF, numbered from 0."""

    def __init__(self, path: str) -> None:
        self.path = path

    def count(self) -> int:
        """Return the number of frames; DataError when the file cannot be read."""
        with opened(read_bytes(self.path), self.path) as picture:
            return getattr(picture, "n_frames", 1)

    def read(self, numbers: list[int], color: bool) -> list[np.ndarray]:
        """Return frames, (3, H, W), BGR, or (1, H, W), gray; DataError for one that is missing."""
        frames = []
        with opened(read_bytes(self.path), self.path) as picture:
            for number in numbers:
                _check(self.path, number, getattr(picture, "n_frames", 1))
                picture.seek(number)
                pixels = np.asarray(picture.convert("RGB" if color else "L"))
                frames.append(pixels[:, :, ::-1].transpose(2, 0, 1) if color else pixels[None])
        return frames


class CapturedFile:
    """A video file that OpenCV decodes, with frames numbered from 0."""

    def __init__(self, path: str) -> None:
        self.path = path

    def count(self) -> int:
        """Return the number of frames; DataError when the file cannot be read."""
        return int(self._open().get(_FRAME_COUNT))

    def read(self, numbers: list[int], color: bool) -> list[np.ndarray]:
        """Return frames, (3, H, W), BGR, or (1, H, W), gray; DataError for one that is missing."""
        capture, frames = self._open(), []
        for number in numbers:
            _check(self.path, number, int(capture.get(_FRAME_COUNT)))
            if number != int(capture.get(_POSITION)):
                capture.set(_POSITION, number)
            found, pixels = capture.read()
            if not found:
                raise DataError(f"cannot decode frame {number} of video {self.path}")
            frames.append(pixels.transpose(2, 0, 1) if color else bgr_to_gray(pixels.transpose(2, 0, 1)))
        return frames

    def _open(self) -> Any:
        try:
            import cv2
        except ImportError:
            raise DataError(
                f"cannot decode video {self.path}: Pillow does not read this format, and opencv-python is not "
                f"installed; or write the frames into a folder, `ffmpeg -i {self.path} FOLDER/image_%04d.jpg`, and "
                "name that instead"
            ) from None
        capture = cv2.VideoCapture(self.path)
        if not capture.isOpened():
            raise DataError(f"cannot decode video {self.path}: OpenCV cannot open it")
        return capture


def video_file(path: str) -> PictureFile | CapturedFile:
    """Return the frames of a file, by its signature; DataError when it cannot be read."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError as error:
        raise DataError(f"cannot read video {path}: {error.strerror or error}") from error
    return PictureFile(path) if has_signature(start) else CapturedFile(path)


def _check(path: str, number: int, count: int) -> None:
    if not 0 <= number < count:
        raise DataError(f"video {path} has {count} frames: there is no frame {number}, counted from 0")
