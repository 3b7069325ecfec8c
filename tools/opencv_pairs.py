#!/usr/bin/env python
"""What OpenCV makes of small pictures, for the tests of resizing, of colour spaces and of noise_param.

    OPENCV_IPP=disabled python tools/opencv_pairs.py    # needs cv2; writes tests/golden/opencv.npz

The file has the results of cv2 and its version, so that the tests compare minicaffe with them without OpenCV.  IPP, in
the packages of OpenCV for x86, replaces some operations by faster ones whose last bits differ.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT / "tests" / "golden" / "opencv.npz"
MODES = ("NEAREST", "LINEAR", "CUBIC", "AREA", "LANCZOS4")
NOISE = ("decolorize", "gauss_blur", "hist_eq", "clahe", "jpeg", "erode", "posterize", "inverse")
COLORS = ("BGR2HSV", "HSV2BGR", "BGR2GRAY", "BGR2YCrCb", "YCrCb2BGR", "BGR2Lab")
#: height, width, new height, new width: smaller, larger, both, by whole factors, one pixel
SIZES = (
    (23, 31, 9, 12), (11, 9, 29, 22), (30, 7, 13, 20), (9, 28, 17, 11), (24, 20, 12, 10), (27, 12, 9, 4),
    (12, 30, 6, 6), (8, 8, 24, 16), (1, 1, 5, 7), (1, 17, 4, 5), (19, 1, 7, 3), (33, 40, 2, 3), (21, 21, 20, 22),
)  # fmt: skip


class Resizing(NamedTuple):
    """A picture and the size that it gets."""

    name: str
    pixels: np.ndarray  # (H, W, C)
    height: int
    width: int
    mode: str


def picture(height: int, width: int, channels: int, seed: int) -> np.ndarray:
    """Pixels (height, width, channels), uint8: waves with noise, and black and white where they end."""
    y, x, c = np.mgrid[:height, :width, :channels]
    noise = ((y * 193 + x * 71 + c * 37 + seed * 101) * 2654435761 % (1 << 32) >> 20) % 97
    waves = abs((y * 23 + seed * 40) % 220 - 110) + abs((x * 15 + c * 90) % 300 - 150)
    return (waves + noise - 50).clip(0, 255).astype(np.uint8)


def resizings() -> Iterator[Resizing]:
    """All cases of resizing: each size in each mode with 1, 3 or 4 channels, and some of floats."""
    for number, (height, width, new_height, new_width) in enumerate(SIZES):
        for place, mode in enumerate(MODES):
            channels = (1, 3, 4)[(number + place) % 3]
            pixels = picture(height, width, channels, number)
            name = f"{mode} {height}x{width}x{channels} {new_height}x{new_width}"
            yield Resizing(name, pixels, new_height, new_width, mode)
            if number % 2:
                floats = np.float32(pixels) * np.float32(1 / 7) - np.float32(3)
                yield Resizing(f"{name} float32", floats, new_height, new_width, mode)


def colors() -> np.ndarray:
    """A picture (64, 4, 3) for conversions; OpenCV converts so narrow ones value by value, without vectors."""
    return np.concatenate([picture(48, 4, 3, 3), np.linspace(0, 255, 192).reshape(16, 4, 3).astype(np.uint8)])


def noisy() -> np.ndarray:
    """A picture (29, 42, 3) for noise_param."""
    return picture(29, 42, 3, 8) // 2 + 40


def _resized(case: Resizing) -> np.ndarray:
    import cv2

    mode = getattr(cv2, f"INTER_{case.mode}")
    resized = cv2.resize(case.pixels, (case.width, case.height), interpolation=mode)
    return resized.reshape(case.height, case.width, -1)


def _converted(name: str) -> np.ndarray:
    import cv2

    pixels = colors()
    if name == "BGR2Lab":
        pixels = pixels.astype(np.float32) * np.float32(1 / 255)
    return cv2.cvtColor(pixels, getattr(cv2, f"COLOR_{name}"))


def _changed(name: str) -> np.ndarray:
    """The picture after one operation of `ApplyNoise` of the SSD fork."""
    import cv2

    pixels = noisy()
    if name in ("hist_eq", "clahe"):
        planes = list(cv2.split(cv2.cvtColor(pixels, cv2.COLOR_BGR2YCrCb)))
        planes[0] = cv2.equalizeHist(planes[0]) if name == "hist_eq" else cv2.createCLAHE(4).apply(planes[0])
        return cv2.cvtColor(cv2.merge(planes), cv2.COLOR_YCrCb2BGR)
    if name == "jpeg":
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 40])
        return cv2.imdecode(data, cv2.IMREAD_COLOR)
    return {
        "decolorize": lambda: cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR),
        "gauss_blur": lambda: cv2.GaussianBlur(pixels, (7, 7), 1.5),
        "erode": lambda: cv2.erode(pixels, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))),
        "posterize": lambda: cv2.LUT(pixels, (np.arange(256) // 64 * 64 + 32).astype(np.uint8)),
        "inverse": lambda: cv2.bitwise_not(pixels),
    }[name]()


def main() -> int:
    os.environ["OPENCV_IPP"] = "disabled"  # read when cv2 is imported
    import cv2

    arrays = {case.name: _resized(case) for case in resizings()}
    arrays.update((name, _converted(name)) for name in COLORS)
    arrays.update((name, _changed(name)) for name in NOISE)
    np.savez_compressed(RECORDED, version=np.array(cv2.__version__), **arrays)
    print(f"{RECORDED.relative_to(ROOT)}: {len(arrays)} results of OpenCV {cv2.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
