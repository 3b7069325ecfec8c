"""DataAugmentation, GenerateAugmentationParameters and FlowAugmentation."""

import math

import numpy as np
import pytest

from minicaffe.core.net import Net
from minicaffe.errors import LayerError
from minicaffe.layers.shared.augmentation import COEFFICIENTS, DEFAULTS, from_row, matrix, to_row
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, run_layer, top_of

TEST = 1
EIGVEC = "chromatic_eigvec: [0.51, 0.56, 0.65, 0.79, 0.01, -0.62, 0.35, -0.83, 0.44]"
EIGEN_FIELDS = (
    "ladd_pow col_pow ladd_add col_add ladd_mult col_mult sat_pow sat_add sat_mult lmult_pow lmult_mult col_rotate"
)
ALL = " ".join(
    f"{name} {{ rand_type: 'uniform_bernoulli' exp: {str(exp).lower()} spread: {spread} }}"
    for name, exp, spread in [
        ("translate", False, 0.1), ("rotate", False, 0.2), ("zoom", True, 0.2), ("squeeze", True, 0.1),
        *((name, name.endswith(("pow", "mult")), 0.1) for name in EIGEN_FIELDS.split()),
        ("lmult_add", False, 0.03), ("gamma", True, 0.1), ("brightness", False, 0.1), ("contrast", True, 0.1),
        ("color", True, 0.1), ("noise", False, 0.01),
    ]
)  # fmt: skip


def augmentation(text, kind="DataAugmentation", more=""):
    return f"type: '{kind}' augmentation_param {{ {text} }} {more}"


def rows_of(*changes):
    return np.stack([to_row(change) for change in changes])[:, :, None, None]


def pictures(rng, shape):
    return rng.random(shape)


class TestProperties(LayerProperties):
    cases = [
        Case(augmentation("crop_width: 4 crop_height: 3"), [(2, 3, 5, 6)], gradient=(), params=False),
        Case(
            augmentation(f"crop_width: 6 crop_height: 6 {EIGVEC} {ALL} max_multiplier: 1"),
            [(2, 3, 12, 12)], pictures, gradient=(), params=False, num_top=2,
        ),
        Case(augmentation("recompute_mean: 5"), [(2, 3, 4, 5)], gradient=(), params=False, phase=TEST),
        Case(
            augmentation(f"crop_width: 6 crop_height: 6 {ALL} num: 3 bottomwidth: 9 bottomheight: 9",
                         "GenerateAugmentationParameters"),
            [], gradient=(), params=False,
        ),
    ]  # fmt: skip

    def test_parameter_diffs_add_up(self):
        pytest.skip("there are no parameters that learn")

    def test_stale_buffers_change_nothing(self):
        pytest.skip("the number of iterations is a blob")


# -- coefficients ------------------------------------------------------------------------------------------------------


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


# -- pictures ----------------------------------------------------------------------------------------------------------


def by_loops(x, m, crop):
    """Linear interpolation of (C, H, W) at the positions of a crop, at most the size less 1.05."""
    y = np.zeros((len(x), *crop))
    for i, j in np.ndindex(*crop):
        w, h = m @ [j, i, 1]
        w, h = min(max(w, 0), x.shape[2] - 1.05), min(max(h, 0), x.shape[1] - 1.05)
        a, b = int(h), int(w)
        for p, q in [(a, b), (a, b + 1), (a + 1, b), (a + 1, b + 1)]:
            y[:, i, j] += (1 - abs(h - p)) * (1 - abs(w - q)) * x[:, p, q]
    return y


def test_the_centre_is_cropped_in_test():
    x = np.random.default_rng(0).standard_normal((2, 4, 8, 9))
    text = augmentation(f"crop_width: 5 crop_height: 4 {ALL}")
    y = top_of(text, x, phase=TEST)
    assert_close(y, x[:, :, 2:6, 2:7])
    y = top_of(augmentation("crop_width: 4 crop_height: 8"), x)  # half a place, and the last row
    assert_close(y, [by_loops(each, np.array([[1, 0, 2.5], [0, 1, 0]]), (8, 4)) for each in x])


def test_given_coefficients_move_pictures():
    x = np.random.default_rng(0).random((2, 1, 8, 9))
    changes = {"mirror": 1, "dx": 0.1, "zoom_x": 2}, {"angle": 0.4, "dy": -0.3, "zoom_y": 0.7}
    layer, _, top = run_layer(augmentation("crop_width: 6 crop_height: 5"), x, rows_of(*changes), num_top=2, phase=TEST)
    assert_close(top[0].data, [by_loops(p, matrix(DEFAULTS | k, (8, 9), (5, 6)), (5, 6)) for p, k in zip(x, changes)])
    assert_close(top[1].data, rows_of(*changes))


def test_drawn_coefficients_are_a_top_and_reproducible():
    x = np.random.default_rng(0).random((2, 3, 12, 12))
    text = augmentation(f"crop_width: 6 crop_height: 6 {EIGVEC} {ALL} max_multiplier: 1")
    layer, bottom, top = build_layer(text, x, num_top=2)
    state = layer.state()
    layer.forward(bottom, top)
    first = [blob.data.copy() for blob in top]
    assert np.abs(first[1]).max() > 0.01
    layer.blobs[0].data[...] = 0
    layer.load_state(state)
    layer.forward(bottom, top)
    for blob, values in zip(top, first):
        np.testing.assert_array_equal(blob.data, values)
    noiseless = first[1].copy()
    noiseless[:, COEFFICIENTS.index("noise")] = 0
    again = top_of(augmentation(f"crop_width: 6 crop_height: 6 {EIGVEC} max_multiplier: 1"), x, noiseless)
    assert np.abs(again - first[0]).max() < 0.05  # but for the noise


def recolored_by_loops(x, k):
    y = np.empty_like(x)
    for h, w in np.ndindex(*x.shape[1:]):
        changed = [x[c, h, w] * k[f"color{c + 1}"] for c in range(3)]
        brightness = x[:, h, w].sum() / (sum(changed) + 0.01)
        for c in range(3):
            value = min(max(changed[c] * brightness, 0), 1) ** k["gamma"] + k["brightness"]
            y[c, h, w] = min(max(0.5 + (value - 0.5) * k["contrast"], 0), 0.9)
    return y


def eigen_by_loops(x, k, vectors):
    """The steps for each pixel of (N, 3, H, W)."""
    pixels = x.transpose(0, 2, 3, 1).reshape(-1, 3)
    mean, largest = pixels.mean(0), np.abs(pixels @ vectors.T).max(0)
    longest, y = np.sqrt((largest**2).sum()), np.empty_like(pixels)
    for i, pixel in enumerate(pixels):
        e = vectors @ (pixel - mean) / largest
        for c in range(3):
            e[c] = np.copysign(abs(e[c]) ** k[f"pow_nomean{c}"], e[c])
            e[c] = (e[c] + k[f"add_nomean{c}"]) * k[f"mult_nomean{c}"]
        e += vectors @ mean / largest
        saturation = np.hypot(e[1], e[2])
        target = max(saturation ** k["pow_withmean1"] + k["add_withmean1"], 0) * k["mult_withmean1"]
        cos, sin = np.cos(k["col_angle"]), np.sin(k["col_angle"])
        e[1], e[2] = cos * e[1] - sin * e[2], sin * e[1] + cos * e[2]
        e *= largest
        before = np.linalg.norm(e) / longest
        e[1:] *= target / saturation
        wanted = max(before ** k["lmult_pow"] + k["lmult_add"], 0) * k["lmult_mult"] * longest
        e = np.minimum(e / np.linalg.norm(e) * wanted, largest)
        y[i] = np.clip(vectors.T @ e, 0, 0.9)
    n, _, height, width = x.shape
    return y.reshape(n, height, width, 3).transpose(0, 3, 1, 2)


PLAIN = f"crop_width: 5 crop_height: 4 max_multiplier: 0.9 {EIGVEC}"


def cropped(x):
    return top_of(augmentation("crop_width: 5 crop_height: 4"), x)


def test_colors():
    x = np.random.default_rng(0).random((1, 3, 6, 7))
    k = {"gamma": 1.5, "brightness": 0.1, "contrast": 0.7, "color1": 1.2, "color2": 0.8, "color3": 1.1}
    y = top_of(augmentation(PLAIN), x, rows_of(k))
    assert_close(y[0], recolored_by_loops(cropped(x)[0], k))


def test_colors_along_eigenvectors():
    """The distribution is that of the whole pictures: here the crop is all of them, but for the last row and column."""
    x = np.random.default_rng(0).random((1, 3, 4, 5))
    x[:, :, -1], x[..., -1] = x[:, :, -2], x[..., -2]  # so that the interpolation there changes nothing
    k = DEFAULTS | {
        "pow_nomean0": 1.2, "pow_nomean1": 0.8, "add_nomean0": 0.03, "add_nomean2": -0.02, "mult_nomean1": 1.2,
        "mult_nomean2": 0.9, "pow_withmean1": 1.1, "add_withmean1": 0.02, "mult_withmean1": 0.8, "col_angle": 0.5,
        "lmult_pow": 0.9, "lmult_add": 0.02, "lmult_mult": 1.1,
    }  # fmt: skip
    vectors = np.array([[0.51, 0.56, 0.65], [0.79, 0.01, -0.62], [0.35, -0.83, 0.44]])
    assert_close(top_of(augmentation(PLAIN), x, rows_of(k)), eigen_by_loops(x, k, vectors), rtol=1e-3)


def test_shadow_and_noise():
    x = np.full((2, 3, 4, 6), 0.5)
    rows = rows_of({"shadow_angle": 0, "shadow_distance": 0, "shadow_strength": 0.3}, {"noise": 0.1})
    y = top_of(augmentation("crop_width: 6 crop_height: 4"), x, rows)
    assert_close(y[0], np.broadcast_to([0.5, 0.5, 0.5, 0.5, 0.2, 0.2], (3, 4, 6)))
    assert y[1].std() == pytest.approx(0.1, rel=0.3)


# -- the mean ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_pixel", [True, False])
def test_the_mean_of_the_first_iterations(per_pixel):
    x = np.random.default_rng(0).standard_normal((3, 2, 2, 4, 5))
    text = augmentation(f"recompute_mean: 2 mean_per_pixel: {str(per_pixel).lower()}")
    layer, bottom, top = build_layer(text, x[0])
    for i, batch in enumerate(x):
        bottom[0].data[...] = batch
        layer.forward(bottom, top)
        mean = x[: min(i + 1, 2)].mean((0, 1))
        mean = mean if per_pixel else mean.mean((1, 2), keepdims=True)
        assert_close(top[0].data, batch - mean)
    assert layer.blobs[0].data.item() == 3
    assert [spec.lr_mult for spec in layer.layer_param.param] == [0, 0, 0]


def test_fixed_means():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    y = top_of(augmentation("mean: [1, 2, 3] mean_per_pixel: false"), x)
    assert_close(y, x - np.array([1, 2, 3])[:, None, None])


@pytest.mark.parametrize("name", ["weights.caffemodel", "weights.caffemodel.h5"])
@pytest.mark.parametrize("per_pixel", [True, False])
def test_means_of_crops_of_another_size(tmp_path, name, per_pixel):
    """Those of a training are taken into a net for larger pictures: the mean of the channels."""
    text = """layer { name: 'in' type: 'Input' top: 'x' input_param { shape { dim: [1, 2, 9, 9] } } }
        layer { name: 'aug' type: 'DataAugmentation' bottom: 'x' top: 'y'
            augmentation_param { recompute_mean: 9 mean_per_pixel: %s crop_width: %d crop_height: %d } }"""
    word = str(per_pixel).lower()
    train = Net(parse_text(text % (word, 5, 4), caffe_pb2.NetParameter()), phase=0)
    train.forward(x=np.random.default_rng(0).standard_normal((1, 2, 9, 9)))
    (train.save_hdf5 if name.endswith(".h5") else train.save)(str(tmp_path / name))
    deploy = Net(parse_text(text % (word, 9, 9), caffe_pb2.NetParameter()), phase=TEST, weights=str(tmp_path / name))
    mean = train.params["aug"][1].data.mean((2, 3), keepdims=True)
    assert_close(deploy.forward(x=np.ones((1, 2, 9, 9)))["y"], 1 - np.broadcast_to(mean, (1, 2, 9, 9)))


# -- flow --------------------------------------------------------------------------------------------------------------


def test_flow_between_moved_pictures():
    """What is at p in the first crop is at p + y(p) in the second."""
    rng = np.random.default_rng(0)
    flow = rng.standard_normal((2, 2, 9, 10))
    flow[0, :, 0, 0] = np.nan
    first = {"dx": 0.1, "angle": 0.2, "zoom_x": 1.3}, {"mirror": 1}
    second = {"dy": 0.1, "angle": -0.3, "zoom_y": 1.2}, {"mirror": 1, "zoom_x": 2}
    text = augmentation("crop_width: 6 crop_height: 5", "FlowAugmentation")
    y = top_of(text, flow, rows_of(*first), rows_of(*second))
    for n, i, j in np.ndindex(2, 5, 6):
        q = matrix(DEFAULTS | first[n], (9, 10), (5, 6)) @ [j, i, 1]
        w, h = (int(min(max(np.floor(p + 0.5), 0), size - 1)) for p, size in zip(q, (10, 9)))
        there = matrix(DEFAULTS | second[n], (9, 10), (5, 6)) @ [j + y[n, 0, i, j], i + y[n, 1, i, j], 1]
        assert_close(there, q + flow[n, :, h, w])


ROW = (1, 42, 1, 1)


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        (augmentation("crop_width: 9 crop_height: 2"), [(1, 3, 4, 5)], r"crop of height and width \(2, 9\) must be in"),
        (augmentation(""), [(1, 3, 4)], r"bottom 0 must be \(N, C, H, W\), got \(1, 3, 4\)"),
        (augmentation(""), [(1, 3, 4, 5), (1, 41)], r"bottom 1 must be \(1, 42, 1, 1\), got \(1, 41\)"),
        (augmentation("zoom { rand_type: 'normal' }"), [(1, 3, 4, 5)], 'zoom must be one of .*, got "normal"'),
        (augmentation("chromatic_eigvec: 1"), [(1, 3, 4, 5)], "chromatic_eigvec must have 9 numbers, got 1"),
        (
            augmentation("crop_width: 2 crop_height: 2 gamma { mean: 2 }"), [(1, 1, 4, 5)],
            r"changes of colors need bottom 0 with 3 channels, got \(1, 1, 4, 5\)",
        ),
        (
            augmentation("crop_width: 2 crop_height: 2 sat_add { mean: 2 }"), [(1, 3, 4, 5)],
            "changes along eigenvectors of colors need chromatic_eigvec",
        ),
        (augmentation("", "FlowAugmentation"), [(1, 2, 4, 5), ROW, ROW], "crop_height and crop_width must be above 0"),
        (
            augmentation("crop_width: 2 crop_height: 2", "FlowAugmentation"), [(1, 3, 4, 5), ROW, ROW],
            r"bottom 0 must be \(N, 2, H, W\)",
        ),
        (augmentation("", "GenerateAugmentationParameters"), [], "num, or the first axis of bottom 0, must be above 0"),
        (
            augmentation("mode: 'x'", "GenerateAugmentationParameters"), [ROW],
            'mode must be "add", "replace" or "regenerate", got "x"',
        ),
        (
            augmentation("zoom { mean: 1 }", "GenerateAugmentationParameters"), [ROW],
            "sizes of pictures and crop must be given for spatial changes",
        ),
    ],
)  # fmt: skip
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"layer 'layer': .*{words}"):
        top_of(text, *map(np.zeros, shapes))
