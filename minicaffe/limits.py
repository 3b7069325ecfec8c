"""Limits for files of unknown origin: what is larger is refused before memory is allocated for it.

Each limit has an environment variable that raises it.
"""

from __future__ import annotations

import os

from minicaffe.errors import UsageError

MAX_COUNT = 2**31 - 1  #: values in a blob, as in Caffe


def max_pixels() -> int:
    """Largest number of pixels of an image: MINICAFFE_MAX_PIXELS, by default 2^26 (67 million)."""
    return _from_environment("MINICAFFE_MAX_PIXELS", 1 << 26)


def max_expanded() -> int:
    """Largest number of bytes into which compressed data may expand: MINICAFFE_MAX_EXPANDED, by default 2^29.

    It applies to data that take up less than a hundredth of that in their file.
    """
    return _from_environment("MINICAFFE_MAX_EXPANDED", 1 << 29)


def max_covariance() -> int:
    """Largest size of a covariance matrix in bytes: MINICAFFE_MAX_COVARIANCE, by default 2^31 (16384 x 16384 values).

    The computation of a whitening needs about six times this memory.
    """
    return _from_environment("MINICAFFE_MAX_COVARIANCE", 1 << 31)


def expands_too_far(size: int, stored: int) -> bool:
    """Whether `size` bytes of data, stored in a file of `stored` bytes, exceed `max_expanded`."""
    return size > max_expanded() and size > 100 * stored


def _from_environment(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    if not text.isdecimal():
        raise UsageError(f"the environment variable {name} must be a whole number, got '{text}'")
    return int(text)
