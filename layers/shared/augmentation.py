"""Random changes of pictures as FlowNet 2.0 draws them: the coefficients of each sample, and what they mean.

A sample's coefficients are one row of a blob (N, 42, 1, 1), in the order of COEFFICIENTS: those that change nothing at
0 as they are, those that change nothing at 1 as their logarithm, so that a row of zeros changes nothing and two changes
are added.
"""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer, Shape

COEFFICIENTS = """mirror dx dy angle zoom_x zoom_y gamma brightness contrast color1 color2 color3
    pow_nomean0 pow_nomean1 pow_nomean2 add_nomean0 add_nomean1 add_nomean2 mult_nomean0 mult_nomean1 mult_nomean2
    pow_withmean0 pow_withmean1 pow_withmean2 add_withmean0 add_withmean1 add_withmean2 mult_withmean0 mult_withmean1
    mult_withmean2 lmult_pow lmult_add lmult_mult col_angle fog_amount fog_size motion_blur_angle motion_blur_size
    shadow_angle shadow_distance shadow_strength noise""".split()
_FACTORS = ("zoom", "gamma", "contrast", "color", "pow_", "mult_", "lmult_pow", "lmult_mult")  # and exponents
#: of each coefficient the value that changes nothing
DEFAULTS = {name: 1.0 if name.startswith(_FACTORS) else 0.0 for name in COEFFICIENTS}

#: fields of AugmentationParameter by what they change, with the coefficients that a field sets
SPATIAL = {
    "mirror": ["mirror"], "translate": ["dx", "dy"], "translate_x": ["dx"], "translate_y": ["dy"],
    "rotate": ["angle"], "zoom": ["zoom"], "squeeze": ["squeeze"],
}  # fmt: skip
OTHERS = {
    "gamma": ["gamma"], "brightness": ["brightness"], "contrast": ["contrast"], "color": ["color1", "color2", "color3"],
    "ladd_pow": ["pow_nomean0"], "col_pow": ["pow_nomean1", "pow_nomean2"],
    "ladd_add": ["add_nomean0"], "col_add": ["add_nomean1", "add_nomean2"],
    "ladd_mult": ["mult_nomean0"], "col_mult": ["mult_nomean1", "mult_nomean2"],
    "sat_pow": ["pow_withmean1"], "sat_add": ["add_withmean1"], "sat_mult": ["mult_withmean1"],
    "lmult_pow": ["lmult_pow"], "lmult_mult": ["lmult_mult"], "lmult_add": ["lmult_add"], "col_rotate": ["col_angle"],
    "shadow_angle": ["shadow_angle"], "shadow_distance": ["shadow_distance"], "shadow_strength": ["shadow_strength"],
    "noise": ["noise"],
}  # fmt: skip
_LOGS = np.array(list(DEFAULTS.values())) == 1  # which of them a row has as logarithms
_TYPES = ("uniform", "gaussian", "bernoulli", "uniform_bernoulli", "gaussian_bernoulli")
_TRIES = 50  #: of changes that keep the crop inside of the picture

Coefficients = dict[str, float]


def to_row(coefficients: Coefficients) -> np.ndarray:
    """Return coefficients, those that are not given at their neutral values, as a row of a blob."""
    values = np.array([coefficients.get(name, default) for name, default in DEFAULTS.items()])
    values[_LOGS] = np.log(values[_LOGS])
    return values


def from_row(row: np.ndarray) -> Coefficients:
    """Return the coefficients of a row of a blob."""
    return {name: float(np.exp(x) if DEFAULTS[name] else x) for name, x in zip(COEFFICIENTS, row.ravel())}


def check_rows(layer: Layer, index: int, shape: Shape, samples: int) -> None:
    """Raise LayerError unless bottom `index` has the coefficients of so many samples."""
    if shape[:1] != (samples,) or math.prod(shape[1:]) != len(COEFFICIENTS):
        raise layer.error(f"bottom {index} must be coefficients ({samples}, {len(COEFFICIENTS)}, 1, 1), got {shape}")


def given_rows(layer: Layer, index: int, blob: Blob) -> np.ndarray:
    """Return the coefficients of bottom `index`, (N, 42); LayerError for numbers that are not finite, or a factor 0."""
    rows = blob.read_data().reshape(blob.shape[0], len(COEFFICIENTS)).astype(float)
    with np.errstate(over="ignore", invalid="ignore"):
        factors = np.exp(rows[:, _LOGS])
    if not (np.isfinite(rows).all() and np.isfinite(factors).all() and (factors > 0).all()):
        raise layer.error(f"bottom {index} has coefficients that are not finite, or factors that are 0")
    return rows


class Draws:
    """The random coefficients of a layer's augmentation_param.

    LayerError for an unknown rand_type, or a half_life that is not above 0.
    """

    def __init__(self, layer: Layer) -> None:
        self.param, self._factors = layer.layer_param.augmentation_param, layer.layer_param.coeff_schedule_param
        if self._factors.half_life <= 0:
            raise layer.error(f"half_life must be above 0, got {self._factors.half_life:g}")
        for name in (*SPATIAL, *OTHERS):
            kind = getattr(self.param, name).rand_type
            if kind not in _TYPES:
                raise layer.error(f'rand_type of {name} must be one of {", ".join(_TYPES)}, got "{kind}"')

    def given(self, fields: dict[str, list[str]]) -> list[str]:
        """Return which of the fields are given."""
        return [name for name in fields if self.param.HasField(name)]

    def factor(self, iteration: int) -> float:
        """Return the factor of the spreads in an iteration, the first of which is 1."""
        factors = self._factors
        part = 2 / (1 + math.exp(-1.0986 * iteration / factors.half_life)) - 1
        return factors.initial_coeff + (factors.final_coeff - factors.initial_coeff) * part

    def others(self, generator: np.random.Generator, factor: float) -> Coefficients:
        """Draw what changes colors, and effects.  factor: of the spread, where a field applies the schedule."""
        drawn = {
            each: self._draw(name, generator, factor, DEFAULTS[each])
            for name in self.given(OTHERS)
            for each in OTHERS[name]
        }
        for kind in ("pow", "add", "mult"):  # both components of the saturation
            if f"{kind}_withmean1" in drawn:
                drawn[f"{kind}_withmean2"] = drawn[f"{kind}_withmean1"]
        return drawn

    def spatial(
        self, generator: np.random.Generator, factor: float, given: np.ndarray, size: tuple, crop: tuple
    ) -> np.ndarray:
        """Draw what moves pictures of `size` (H, W), until the corners of the crop are inside, and add it to a row.

        given: the row.  After 50 attempts it is returned as it is.
        """
        if not self.given(SPATIAL):
            return given
        for _ in range(_TRIES):
            drawn = {
                each: self._draw(name, generator, factor, float(each in ("zoom", "squeeze")))
                for name in self.given(SPATIAL)
                for each in SPATIAL[name]
            }
            zoom, squeeze = drawn.pop("zoom", 1.0), drawn.pop("squeeze", 1.0)
            row = given + to_row(drawn | {"zoom_x": zoom * squeeze, "zoom_y": zoom / squeeze})
            if _inside(from_row(row), size, crop):
                return row
        return given

    def _draw(self, field: str, generator: np.random.Generator, factor: float, neutral: float) -> float:
        param = getattr(self.param, field)
        spread = abs(param.spread * (factor if param.apply_schedule else 1))
        drawn = generator.random() < param.prob if param.rand_type.endswith("bernoulli") else True
        if param.rand_type == "bernoulli":
            value = float(drawn)
        elif not drawn:
            return neutral
        else:
            uniform = param.rand_type.startswith("uniform")
            shift = generator.uniform(-1, 1) if uniform else generator.standard_normal()
            value = param.mean + spread * shift
            value = math.exp(value) if param.exp else value
        return (round(value) if param.discretize else value) * param.multiplier


def matrix(coefficients: Coefficients, size: tuple[int, int], crop: tuple[int, int]) -> np.ndarray:
    """Return the (2, 3) matrix from a place (column, row, 1) of the crop to its position in the picture.

    size, crop: height and width of both.
    """
    (height, width), (crop_h, crop_w) = size, crop
    mirror = -1 if round(coefficients["mirror"]) else 1
    centred = np.array([[mirror, 0, -mirror * crop_w / 2], [0, 1, -crop_h / 2]])
    cos, sin = math.cos(coefficients["angle"]), math.sin(coefficients["angle"])
    turned = np.array([[cos, -sin], [sin, cos]]) @ centred
    turned[:, 2] += coefficients["dx"] * crop_w, coefficients["dy"] * crop_h
    zoomed = turned / np.array([[coefficients["zoom_x"]], [coefficients["zoom_y"]]])
    zoomed[:, 2] += width / 2, height / 2
    return zoomed


def _inside(coefficients: Coefficients, size: tuple[int, int], crop: tuple[int, int]) -> bool:
    """Whether the corners of the crop are in the picture."""
    corners = np.array([[x, y, 1] for x in (0, crop[1] - 1) for y in (0, crop[0] - 1)])
    columns, rows = np.floor(matrix(coefficients, size, crop) @ corners.T)
    return bool(((columns >= 0) & (columns <= size[1] - 2) & (rows >= 0) & (rows <= size[0] - 2)).all())
