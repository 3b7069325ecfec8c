"""GenerateAugmentationParameters, and the coefficients that it draws."""

import math

import numpy as np
import pytest

from helpers.augmented import ALL, TEST, augmentation, rows_of
from minicaffe.errors import LayerError
from minicaffe.layers.shared.augmentation import COEFFICIENTS, DEFAULTS, from_row, matrix, to_row
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, top_of

ROW = (1, 42, 1, 1)
SIZES = "crop_width: 6 crop_height: 6 bottomwidth: 9 bottomheight: 9"


class TestProperties(LayerProperties):
    cases = [
        Case(augmentation(f"{SIZES} {ALL} num: 3", "GenerateAugmentationParameters"), [], gradient=()),
        Case(augmentation("", "GenerateAugmentationParameters"), [(2, 42, 1, 1)], gradient=()),
    ]


def test_a_row_of_zeros_changes_nothing_and_rows_add():
    assert from_row(np.zeros(42)) == DEFAULTS
    assert len(COEFFICIENTS) == 42
    both = from_row(to_row({"dx": 0.2, "zoom_x": 2}) + to_row({"dx": 0.3, "zoom_x": 4, "gamma": 0.5}))
    assert both == pytest.approx(DEFAULTS | {"dx": 0.5, "zoom_x": 8, "gamma": 0.5})


@pytest.mark.parametrize("mirror", [0, 1])
def test_the_matrix_is_the_steps_one_by_one(mirror):
    k = DEFAULTS | {"mirror": mirror, "angle": 0.3, "dx": 0.1, "dy": -0.2, "zoom_x": 1.5, "zoom_y": 0.8}
    for x, y in [(0, 0), (5, 2), (7, 3)]:
        h, v = x - 4, y - 2
        h = -h if mirror else h
        h, v = math.cos(0.3) * h - math.sin(0.3) * v, math.sin(0.3) * h + math.cos(0.3) * v
        h, v = (h + 0.1 * 8) / 1.5, (v - 0.2 * 4) / 0.8
        assert_close(matrix(k, (10, 20), (4, 8)) @ [x, y, 1], [h + 10, v + 5])


def generated(text, *bottoms, phase=0, more=""):
    return top_of(augmentation(text, "GenerateAugmentationParameters", more), *bottoms, phase=phase)[..., 0, 0]


@pytest.mark.parametrize(
    ("text", "mean", "std"),
    [
        ("rand_type: 'uniform' mean: 0.5 spread: 0.3", 0.5, 0.3 / math.sqrt(3)),
        ("rand_type: 'gaussian' mean: 0.5 spread: 0.3", 0.5, 0.3),
        ("rand_type: 'bernoulli' prob: 0.25", 0.25, math.sqrt(0.25 * 0.75)),
        ("rand_type: 'gaussian_bernoulli' prob: 0 mean: 3", 0, 0),
        ("rand_type: 'uniform' mean: 3 multiplier: 2", 6, 0),
        ("rand_type: 'uniform' mean: 2.2 spread: 0.2 discretize: true", 2, 0),
    ],
)
def test_distributions(text, mean, std):
    drawn = generated(f"num: 4000 crop_width: 2 crop_height: 2 brightness {{ {text} }}")[:, 7]
    assert drawn.mean() == pytest.approx(mean, abs=0.03)
    assert drawn.std() == pytest.approx(std, abs=0.02)


def test_exponents_and_the_saturation_of_both_components():
    rows = generated("num: 50 gamma { exp: true mean: 0.3 } sat_mult { rand_type: 'gaussian' exp: true spread: 0.2 }")
    assert_close(rows[:, 6], np.full(50, 0.3))  # a row has the logarithm
    names = [COEFFICIENTS.index(f"mult_withmean{c}") for c in (1, 2)]
    assert_close(*rows[:, names].T)
    assert rows[:, names[0]].std() > 0.1
    assert not rows[:, COEFFICIENTS.index("mult_nomean1")].any()


def test_the_schedule_widens_the_spread():
    more = "coeff_schedule_param { half_life: 10 initial_coeff: 0 final_coeff: 2 }"
    text = "num: 2000 brightness { rand_type: 'gaussian' spread: 1 } contrast { rand_type: 'gaussian' exp: true "
    layer, _, top = build_layer(
        augmentation(text + "spread: 1 apply_schedule: false }", "GenerateAugmentationParameters", more)
    )
    for iteration, expected in [(1, 0.11), (10, 1), (60, 2)]:  # after half_life half of the way
        layer.load_state(layer.state() | {"passes": iteration - 1})
        layer.forward([], top)
        assert top[0].data[:, [7, 8], 0, 0].std(0) == pytest.approx([expected, 1], rel=0.1)
    assert layer.state()["passes"] == 60


def test_what_moves_keeps_the_crop_inside():
    text = "num: 200 crop_width: 20 crop_height: 10 bottomwidth: 30 bottomheight: 20 translate { spread: 0.5 } "
    rows = generated(text + "rotate { rand_type: 'gaussian' spread: 0.3 } zoom { exp: true mean: 0.3 spread: 0.3 }")
    assert rows[:, 1].std() > 0.05
    for row in rows:
        corners = matrix(from_row(row), (20, 30), (10, 20)) @ np.array([[0, 19, 0, 19], [0, 0, 9, 9], [1] * 4])
        assert (corners >= 0).all()
        assert (corners < [[29], [19]]).all()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("add", {"dx": 0.25, "gamma": 6, "angle": 0.1}), ("replace", {"dx": 0.05, "gamma": 2}),
     ("regenerate", {"dx": 0.05, "gamma": 2})],
)  # fmt: skip
def test_modes(mode, expected):
    given = rows_of({"dx": 0.2, "gamma": 3, "angle": 0.1, "contrast": 5})
    kept = {"contrast": 5} if mode != "regenerate" else {}
    text = f"mode: '{mode}' translate_x {{ mean: 0.05 }} gamma {{ mean: 2 }}"
    rows = generated(text, given, np.zeros((1, 3, 40, 40)), np.zeros((1, 3, 4, 4)))
    assert_close(rows[0], to_row(expected | kept))


def test_in_test_nothing_is_drawn():
    given = rows_of({"dx": 0.2})
    assert_close(generated("gamma { mean: 2 }", given, phase=TEST)[0], given[0, :, 0, 0])
    assert_close(generated("gamma { mean: 2 } augment_during_test: true", given, phase=TEST)[0, 6], np.log(2))


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        ("", [], "num, or the first axis of bottom 0, must be above 0"),
        ("mode: 'x'", [ROW], 'mode must be "add", "replace" or "regenerate", got "x"'),
        ("zoom { mean: 1 }", [ROW], "sizes of pictures and crop must be given for spatial changes"),
        ("", [ROW, ROW], "takes no bottom, one, or three"),
        ("", [(1, 9)], r"bottom 0 must be coefficients \(1, 42, 1, 1\), got \(1, 9\)"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^GenerateAugmentationParameters layer 'layer': {words}"):
        top_of(augmentation(text, "GenerateAugmentationParameters"), *map(np.zeros, shapes))
