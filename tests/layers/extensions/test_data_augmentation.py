"""DataAugmentation."""

import numpy as np
import pytest

from helpers.augmented import ALL, EIGVEC, TEST, augmentation, rows_of
from minicaffe.core.net import Net
from minicaffe.errors import LayerError
from minicaffe.layers.shared.augmentation import COEFFICIENTS, DEFAULTS, matrix
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, run_layer, top_of


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
    ]  # fmt: skip

    def test_parameter_diffs_add_up(self):
        pytest.skip("there are no parameters that learn")

    def test_stale_buffers_change_nothing(self):
        pytest.skip("the number of iterations is a blob")


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


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        (augmentation("crop_width: 9 crop_height: 2"), [(1, 3, 4, 5)], r"crop of height and width \(2, 9\) must be in"),
        (augmentation(""), [(1, 3, 4)], r"bottom 0 must be \(N, C, H, W\), got \(1, 3, 4\)"),
        (augmentation(""), [(1, 3, 4, 5), (1, 41)], r"bottom 1 must be coefficients \(1, 42, 1, 1\), got \(1, 41\)"),
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
    ],
)  # fmt: skip
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^DataAugmentation layer 'layer': .*{words}"):
        top_of(text, *map(np.zeros, shapes))
