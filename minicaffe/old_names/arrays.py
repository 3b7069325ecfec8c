"""Names that numpy 1.24 to 2.3 have removed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

#: numpy's old names, and what they meant
NAMES: dict[str, Any] = {
    "float": float, "int": int, "bool": bool, "object": object, "str": str, "complex": complex, "long": int,
    "unicode": str, "float_": np.float64, "complex_": np.complex128, "Inf": np.inf, "infty": np.inf, "NaN": np.nan,
    "product": np.prod, "cumproduct": np.cumprod, "alltrue": np.all, "sometrue": np.any,
}  # fmt: skip


def add_names() -> None:
    """Add to numpy those of its old names that it lacks, and what `np.fromstring` and `np.loadtxt` could do."""
    for name, value in NAMES.items():
        if name not in vars(np):  # `hasattr` would warn
            setattr(np, name, value)
    if not hasattr(np.fromstring, "__wrapped__"):
        np.fromstring = _reading_bytes(np.fromstring)  # type: ignore[assignment]  # takes any arguments
        np.loadtxt = _reading_lines(np.loadtxt)


def _reading_bytes(fromstring: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Return `fromstring` with its binary mode, that without `sep`: a new array of the bytes of a string."""

    @functools.wraps(fromstring)
    def reading_bytes(string: Any, dtype: Any = float, count: int = -1, sep: str = "", **options: Any) -> np.ndarray:
        if sep != "":
            return fromstring(string, dtype, count, sep=sep, **options)
        content = string.encode("latin-1") if isinstance(string, str) else string
        return np.frombuffer(content, dtype, count).copy()

    return reading_bytes


def _reading_lines(loadtxt: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Return `loadtxt` with `delimiter="\\n"`: each line is one value."""

    @functools.wraps(loadtxt)
    def reading_lines(*args: Any, **options: Any) -> np.ndarray:
        if options.get("delimiter") == "\n":
            options["delimiter"] = "\x1e"  # a control character, which separates records
        return loadtxt(*args, **options)

    return reading_lines
