"""The part of a picture with the object on it, where the background has one colour.

Source: `CropMask` and `CenterObjectAndFillBg` of ducha-aiki's Caffe (im_transforms), its margins as there.
"""

from __future__ import annotations

import numpy as np

from minicaffe.data.color import bgr_to_gray

_MARGIN = 2


def cut_to_object(image: np.ndarray) -> np.ndarray:
    """Return the part of a picture (C, H, W), uint8, BGR or gray, that is not background; all of it where none is.

    Background is what is on the same side of Otsu's threshold of the gray as the first pixel; all of the first row and
    column, and of the last but one, must be.
    """
    gray = bgr_to_gray(image)[0] if len(image) == 3 else image[0]
    height, width = gray.shape
    if height < 2 or width < 2:
        return image
    dark = gray <= otsu(gray)
    object_ = dark != dark[0, 0]
    if object_[[0, -2]].any() or object_[:, [0, -2]].any() or not object_.any():
        return image
    rows, columns = object_.any(1).nonzero()[0], object_.any(0).nonzero()[0]
    top, high = _with_margin(rows[0], rows[-1] + 2 - rows[0], height)
    left, wide = _with_margin(columns[0], columns[-1] + 2 - columns[0], width)
    return image[:, top : top + high, left : left + wide]


def _with_margin(start: int, length: int, size: int) -> tuple[int, int]:
    """Return start and length with the margin, where there is room for it."""
    start -= _MARGIN if start > _MARGIN else 0
    return start, length + (_MARGIN if start + length + _MARGIN < size else 0)


def otsu(gray: np.ndarray) -> int:
    """Return the threshold of a plane of bytes that separates its values best; the upper class is above it."""
    share = np.bincount(gray.ravel(), minlength=256) / gray.size
    low, total = np.cumsum(share), np.cumsum(share * np.arange(256))
    high = 1 - low
    apart = np.zeros(256)
    both = (low > np.finfo(np.float32).eps) & (high > np.finfo(np.float32).eps)
    apart[both] = low[both] * high[both] * (total[both] / low[both] - (total[-1] - total[both]) / high[both]) ** 2
    return int(apart.argmax())
