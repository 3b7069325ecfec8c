"""MalisLoss: the original's steps by plain loops, and by the weakest edge on the way between each pair."""

import itertools

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, labels, run_layer, top_of

TEXT = "type: 'MalisLoss'"


def probabilities(rng, shape):
    """Distinct numbers between 0 and 1."""
    return (rng.permutation(int(np.prod(shape))).reshape(shape) + 0.5) / np.prod(shape)


def edges_of(size):
    return np.eye(3, dtype=int)[3 - len(size) :]


class TestProperties(LayerProperties):
    cases = [
        Case(TEXT, [(2, 2, 3, 4), (2, 2, 3, 4), (2, 1, 3, 4)], [probabilities, labels(2), labels(3)], gradient=()),
        Case(TEXT, [(1, 1, 6), (1, 1, 6), (1, 2, 6)], [probabilities, labels(2), labels(3)], gradient=(), num_top=2),
    ]


def weakest_edges(q, edges, size):
    """For each pair of pixels, the edge with the smallest q on the way between them on which that is largest."""
    pixels = list(np.ndindex(*size))
    number = {pixel: k for k, pixel in enumerate(pixels)}
    tree, found = {k: {k} for k in range(len(pixels))}, {}
    links = [(e, pixel, tuple(np.add(pixel, step))) for e, step in enumerate(edges) for pixel in pixels]
    for e, a, b in sorted((link for link in links if link[2] in number), key=lambda link: -q[(link[0], *link[1])]):
        one, other = tree[number[a]], tree[number[b]]
        if one is not other:
            found |= {frozenset(pair): (e, *a) for pair in itertools.product(one, other)}
            one |= other
            tree |= dict.fromkeys(other, one)
    return found


def loss_and_slope(p, true, components, edges):
    """The loss, and the original's gradient for one sample: half the derivative."""
    loss, slope = 0.0, np.zeros(p.shape)
    for same, q, of in ((0, np.maximum(p, true), components[0]), (1, np.minimum(p, true), components[-1])):
        flat = of.reshape(-1)
        pairs = [
            pair for pair in itertools.combinations(range(flat.size), 2)
            if flat[list(pair)].all() and (flat[pair[0]] == flat[pair[1]]) == same
        ]  # fmt: skip
        weakest = weakest_edges(q, edges, p.shape[1:])
        for pair in pairs:
            edge = weakest.get(frozenset(pair))
            if edge:
                loss += (same - q[edge]) ** 2 / len(pairs) / 2
                slope[edge] -= (same - q[edge]) / len(pairs) / 2
    return loss, slope


def three_axes(values):
    return values.reshape(len(values), *(1,) * (4 - values.ndim), *values.shape[1:])


@pytest.mark.parametrize("size", [(7,), (4, 5), (2, 3, 3)])
@pytest.mark.parametrize("channels", [1, 2])
def test_against_all_pairs(size, channels):
    rng = np.random.default_rng(len(size))
    p, true = probabilities(rng, (2, len(size), *size)), rng.integers(0, 2, (2, len(size), *size)) + 0.0
    true += rng.random(true.shape) * 1e-3  # no ties
    components = rng.integers(0, 3, (2, channels, *size)).astype(float)
    layer, bottom, top = run_layer(TEXT + " loss_weight: 3", p, true, components)
    expected = [loss_and_slope(*map(three_axes, each), edges_of(size)) for each in zip(p, true, components)]
    assert_close(top[0].data, sum(loss for loss, _ in expected) / 2)
    layer.backward(top, [True, False, False], bottom)
    assert_close(bottom[0].diff.reshape(2, -1), 3 / 2 * np.stack([slope.reshape(-1) for _, slope in expected]))


def test_edges_may_lead_anywhere():
    rng = np.random.default_rng(0)
    edges = np.array([[0, 0, 1], [0, -1, 2], [0, 1, 0], [1, 0, -1]])
    p, true = probabilities(rng, (1, 4, 2, 3, 3)), np.ones((1, 4, 2, 3, 3))
    components = rng.integers(0, 3, (1, 1, 2, 3, 3)).astype(float)
    true -= rng.random(true.shape) * 1e-3
    _, _, top = run_layer(TEXT, p, true, components, edges.reshape(1, 1, 4, 3))
    assert_close(top[0].data, loss_and_slope(p[0], true[0], components[0], edges)[0])


def test_the_gradient_is_half_the_derivative():
    rng = np.random.default_rng(0)
    p, components = probabilities(rng, (1, 2, 4, 4)), rng.integers(1, 3, (1, 1, 4, 4)).astype(float)
    same = [components[0, 0, 1:] == components[0, 0, :-1], components[0, 0, :, 1:] == components[0, 0, :, :-1]]
    true = np.zeros(p.shape)
    true[0, 0, :-1], true[0, 1, :, :-1] = same
    layer, bottom, top = run_layer(TEXT, p, true, components)
    layer.backward(top, [True, False, False], bottom)
    for index in np.ndindex(p.shape):
        step = np.zeros(p.shape)
        step[index] = 1e-6
        slope = (top_of(TEXT, p + step, true, components) - top_of(TEXT, p - step, true, components)) / 2e-6
        assert abs(2 * bottom[0].diff[index] - slope) < 1e-7


@pytest.mark.parametrize("label", [0, 1])
def test_without_pairs_the_loss_is_half_or_nothing(label):
    """All pixels in one component, or in none."""
    p = np.full((1, 2, 3, 3), 0.25)
    layer, bottom, top = run_layer(TEXT, p, np.ones(p.shape), np.full((1, 1, 3, 3), label))
    assert_close(top[0].data, 0.5 * 0.75**2 * label)
    layer.backward(top, [True, False, False], bottom)
    assert_close(bottom[0].diff.sum(), -0.5 * 0.75 * label)


def test_the_second_top_is_the_prediction(engine):
    p = probabilities(np.random.default_rng(0), (1, 2, 3, 3))
    _, _, top = run_layer(TEXT, p, p, np.ones((1, 1, 3, 3)), num_top=2, dtype=np.float32)
    np.testing.assert_array_equal(top[1].data, p.astype(np.float32))


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([(1, 2, 3, 3), (1, 2, 3, 4), (1, 1, 3, 3)], r"bottoms 0 and 1 must be \(N, E, \[\[Z,\] Y,\] X\), got"),
        ([(1, 2, 3, 3), (1, 2, 3, 3), (1, 3, 3, 3)], r"bottom 2 must be \(1, 1, 3, 3\), or have 2 channels"),
        ([(1, 4, 3, 3), (1, 4, 3, 3), (1, 1, 3, 3)], "for more than 3 edges bottom 3 must state where they lead"),
        ([(1, 2, 3), (1, 2, 3), (1, 1, 3), (1, 3)], "bottom 3 must hold 2 edges of 3 numbers"),
    ],
)
def test_errors_name_the_layer(shapes, words):
    with pytest.raises(LayerError, match=f"^MalisLoss layer 'layer': {words}"):
        top_of(TEXT, *(np.zeros(shape) for shape in shapes))


def test_the_gradient_to_the_truth_is_0():
    p = probabilities(np.random.default_rng(0), (1, 1, 3))
    layer, bottom, top = run_layer(TEXT, p, p, np.array([[[1, 1, 2]]]))
    for blob in bottom:
        blob.diff[...] = 7
    layer.backward(top, [True] * 3, bottom)
    assert [bool(blob.diff.any()) for blob in bottom] == [True, False, False]
