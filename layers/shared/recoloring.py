"""Changes of colors and effects, as FlowNet 2.0's DataAugmentation computes them; pictures are (3, H, W)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from minicaffe.layers.shared.augmentation import COEFFICIENTS, DEFAULTS, Coefficients

CHROMATIC = ("gamma", "brightness", "contrast", "color1", "color2", "color3")
EIGEN = tuple(n for n in COEFFICIENTS if n.startswith(("pow_", "add_", "mult_", "lmult_", "col_angle")))
EFFECTS = ("shadow_strength", "noise")
_SMALL = 1e-2  #: lengths up to it are not divided by
_TOLERANCE = 1e-3  #: a coefficient as near to its neutral value changes nothing


def changes(coefficients: Coefficients, names: tuple[str, ...]) -> bool:
    """Whether one of the coefficients is not at its neutral value."""
    return any(abs(coefficients[name] - DEFAULTS[name]) >= _TOLERANCE for name in names)


class ColorSpace(NamedTuple):
    """The eigenvectors of colors, and how pictures are distributed along them.

    vectors: (3, 3), one a row.  mean: of the colors.  largest: absolute value of each component.
    """

    vectors: np.ndarray
    mean: np.ndarray
    largest: np.ndarray

    @classmethod
    def of(cls, pictures: np.ndarray, vectors: np.ndarray) -> ColorSpace:
        """That of pictures (N, 3, H, W)."""
        colors = pictures.transpose(1, 0, 2, 3).reshape(3, -1)
        return cls(vectors, colors.mean(1), np.abs(vectors @ colors).max(1))

    def changed(self, picture: np.ndarray, k: Coefficients, most: float) -> np.ndarray:
        """Return a picture with other powers, shifts and factors of its components, their saturation and length."""
        scale = np.where(self.largest > _SMALL, self.largest, 1)
        used = self.largest > _SMALL
        e = self.vectors @ (picture.reshape(3, -1) - self.mean[:, None]) / scale[:, None]
        for c in np.flatnonzero(used):
            e[c] = _bent(e[c], k, f"nomean{c}")
        e += (self.vectors @ self.mean / scale)[:, None]
        if used[0]:
            e[0] = _bent(e[0], k, "withmean0")
        saturation = np.hypot(e[1], e[2])
        wanted = np.maximum(saturation ** k["pow_withmean1"] + k["add_withmean1"], 0) * k["mult_withmean1"]
        cos, sin = math.cos(k["col_angle"]), math.sin(k["col_angle"])
        e[1:] = np.array([[cos, -sin], [sin, cos]]) @ e[1:]
        e *= scale[:, None]
        longest = math.sqrt((self.largest**2).sum())
        before = np.sqrt((e * e).sum(0)) / (longest if longest > _SMALL else 1)
        e[1:] *= np.where(saturation > _SMALL, wanted / np.maximum(saturation, _SMALL), 1)
        if longest > _SMALL:
            length = np.sqrt((e * e).sum(0))
            target = np.maximum(before ** k["lmult_pow"] + k["lmult_add"], 0) * k["lmult_mult"] * longest
            long = length > _SMALL
            factor = np.where(long, target / np.maximum(length, _SMALL), 1)
            e = np.where(long, np.minimum(e * factor, self.largest[:, None]), e)
        return np.clip(self.vectors.T @ e, 0, most).reshape(picture.shape)


def _bent(x: np.ndarray, k: Coefficients, which: str) -> np.ndarray:
    """Return (sign(x) |x|^pow + add) mult."""
    return (np.sign(x) * np.abs(x) ** k[f"pow_{which}"] + k[f"add_{which}"]) * k[f"mult_{which}"]


def recolored(picture: np.ndarray, k: Coefficients, most: float) -> np.ndarray:
    """Return a picture with factors of its channels, at the same brightness, and other gamma, brightness, contrast."""
    colors = picture * np.array([k["color1"], k["color2"], k["color3"]])[:, None, None]
    colors *= picture.sum(0) / (colors.sum(0) + 0.01)
    colors = np.clip(colors, 0, 1) ** k["gamma"] + k["brightness"]
    return np.clip(0.5 + (colors - 0.5) * k["contrast"], 0, most)


def with_effects(picture: np.ndarray, k: Coefficients, most: float, generator: np.random.Generator) -> np.ndarray:
    """Return a picture with a shadow and noise."""
    _, height, width = picture.shape
    rows, columns = np.arange(height)[:, None] - height // 2, np.arange(width) - width // 2
    side = columns * math.cos(k["shadow_angle"]) + rows * math.sin(k["shadow_angle"])
    dark = np.where(side > k["shadow_distance"], k["shadow_strength"], 0)
    return np.clip(picture - dark, 0, most) + max(k["noise"], 0) * generator.standard_normal(picture.shape)
