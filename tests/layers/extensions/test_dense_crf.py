"""DenseCRF, by plain steps with the lattice's filters as matrices."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.layers.shared.permutohedral import Lattice, pixel_features
from minicaffe.testing import Case, LayerProperties, assert_close, normal, run_layer, top_of

TEXT = "max_iter: 3 pos_xy_std: 2 pos_w: 3 bi_xy_std: 5 bi_rgb_std: 40 bi_w: 4"


def crf(text=TEXT):
    return f"type: 'DenseCRF' dense_crf_param {{ {text} }}"


def image(rng, shape):
    return rng.uniform(-120, 130, shape).round()


def sizes(rng, shape):
    """(4, 3) and then larger ones: nothing but the first sample is padded."""
    return np.resize([4.0, 3.0, 9.0, 9.0], shape)


class TestProperties(LayerProperties):
    cases = [
        Case(crf(), [(2, 3, 5, 4), (2, 1, 1, 2), (2, 3, 5, 4)], [normal, sizes, image], gradient=()),
        Case(crf("pos_xy_std: 2 pos_w: 3"), [(1, 2, 5, 4), (1, 1, 1, 2)], [normal, sizes], gradient=()),
    ]


def by_steps(x, size, pixels, steps=3, places=((3, 2),), colors=((4, 5, 40),)):
    part = x[:, : size[0], : size[1]]
    scores = part.reshape(len(part), -1)
    kernels = [(w, pixel_features(size, xy)) for w, xy in places]
    kernels += [(w, pixel_features(size, xy, pixels[:, : size[0], : size[1]], rgb)) for w, xy, rgb in colors]
    matrices = [(w, Lattice(f, np.float64).filter(np.eye(size[0] * size[1])).T) for w, f in kernels]
    q = np.exp(scores) / np.exp(scores).sum(0)
    for _ in range(steps):
        energy = scores + sum(w * q @ k.T for w, k in matrices)
        q = np.exp(energy) / np.exp(energy).sum(0)
    y = np.zeros(x.shape)
    y[:, : size[0], : size[1]] = q.reshape(part.shape)
    return y


@pytest.mark.parametrize("logarithm", [False, True])
def test_against_plain_steps(engine, logarithm):
    rng = np.random.default_rng(0)
    x, pixels = rng.standard_normal((2, 3, 6, 5)), image(rng, (2, 3, 6, 5))
    text = crf(TEXT + " output_probability: false" * logarithm)
    y = top_of(text, x, np.array([[4, 5], [600, 3]]).reshape(2, 1, 1, 2), pixels, dtype=np.float32)
    expected = np.stack([by_steps(x[0], (4, 5), pixels[0]), by_steps(x[1], (6, 3), pixels[1])])
    with np.errstate(divide="ignore"):
        expected = np.where(expected > 0, np.log(expected), 0) if logarithm else expected
    assert_close(y, expected, rtol=1e-3, atol=1e-4)


def test_several_kernels_without_an_image(engine):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 3, 6, 5))
    text = crf("max_iter: 2 pos_xy_std: 2 pos_xy_std: 0.7 pos_w: 3 pos_w: 1 bi_xy_std: 5 bi_rgb_std: 40 bi_w: 4")
    y = top_of(text, x, np.array([[6, 5]]), dtype=np.float32)
    assert_close(y[0], by_steps(x[0], (6, 5), None, 2, ((3, 2), (1, 0.7)), ()), rtol=1e-3, atol=1e-4)


def test_without_steps_it_is_a_softmax_and_without_pixels_0(engine):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4))
    y = top_of(crf("max_iter: 0 pos_xy_std: 1 pos_w: 1"), x, np.array([[4, 4], [0, 4]]), dtype=np.float32)
    assert_close(y[0], top_of("type: 'Softmax'", x)[0])
    assert (y[1] == 0).all()


def test_sizes_may_change(engine):
    rng = np.random.default_rng(0)
    x, pixels = rng.standard_normal((1, 3, 6, 5)), image(rng, (1, 3, 6, 5))
    layer, bottom, top = run_layer(crf(), x, np.array([[6, 5]]), pixels, dtype=np.float32)
    for size in ((3, 4), (6, 5)):
        bottom[1].data[...] = [size]
        layer.forward(bottom, top)
        assert_close(top[0].data[0], by_steps(x[0], size, pixels[0]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        ("pos_w: 3", [(1, 2, 3, 3), (1, 2)], r"pos_w, pos_xy_std must be given equally often, got \[\[3.0\], \[\]\]"),
        ("pos_w: 3 pos_xy_std: 0", [(1, 2, 3, 3), (1, 2)], r"pos_xy_std must be above 0, got \[\[0.0\]\]"),
        ("bi_w: 3", [(1, 2, 3, 3), (1, 2)], "bi_w, bi_xy_std, bi_rgb_std must be given equally often"),
        ("max_iter: -1", [(1, 2, 3, 3), (1, 2)], "max_iter must be at least 0, got -1"),
        ("", [(1, 2, 3, 3), (1, 2), (1, 3, 3, 3)], "with an image bi_w, bi_xy_std and bi_rgb_std must be given"),
        (TEXT, [(1, 2, 3, 3), (1, 2), (1, 3, 3, 4)], r"bottom 2 must be an image \(N, D, H, W\) for bottom 0"),
        (TEXT, [(1, 2, 3, 3), (2, 2), (1, 3, 3, 3)], r"bottoms 0 and 1 must be \(N, C, H, W\) and sizes"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^DenseCRF layer 'layer': {words}"):
        top_of(crf(text), *(np.zeros(shape) for shape in shapes))


def test_there_is_no_gradient():
    layer, bottom, top = run_layer(crf("pos_w: 1 pos_xy_std: 1"), np.zeros((1, 2, 3, 3)), np.array([[3, 3]]))
    with pytest.raises(LayerError, match="^DenseCRF layer 'layer': there is no backward pass through this layer"):
        layer.backward(top, [True, False], bottom)
