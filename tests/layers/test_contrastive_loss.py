"""ContrastiveLoss."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, labels, normal, run_layer


def contrastive(text=""):
    return f"type: 'ContrastiveLoss' contrastive_loss_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [  # the derivative for dissimilar pairs has 1e-4 in its denominator
        Case(contrastive("margin: 4"), [(6, 3), (6, 3), (6,)], [normal, normal, labels(2)], gradient=[0, 1],
             options={"tolerance": 1e-3}),
        Case(contrastive("margin: 9 legacy_version: true"), [(6, 3, 1, 1), (6, 3, 1, 1), (6, 1, 1, 1)],
             [normal, normal, labels(2)], gradient=[0, 1]),
        Case(contrastive(), [(3, 40), (3, 40), (3,)], [normal, normal, labels(2)], gradient=[0, 1]),
    ]  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True])
def test_values_against_a_loop(legacy):
    rng = np.random.default_rng(0)
    a, b, like = rng.standard_normal((7, 3)), rng.standard_normal((7, 3)), rng.integers(0, 2, 7).astype(float)
    total = 0.0
    for n in range(7):
        squared = ((a[n] - b[n]) ** 2).sum()
        unlike = max(2.5 - squared, 0) if legacy else max(2.5 - squared**0.5, 0) ** 2
        total += squared if like[n] else unlike
    _, _, top = run_layer(contrastive(f"margin: 2.5 legacy_version: {str(legacy).lower()}"), a, b, like)
    np.testing.assert_allclose(top[0].data, total / 14)


def test_an_unlike_pair_at_distance_zero_has_a_finite_gradient(engine):
    layer, bottom, top = run_layer(contrastive(), np.ones((1, 2)), np.ones((1, 2)), [0.0], dtype=np.float32)
    layer.backward(top, [True, True, False], bottom)
    assert (bottom[0].diff == 0).all()


def test_the_diff_of_the_likeness_is_left_alone(engine):
    layer, bottom, top = run_layer(contrastive(), np.ones((2, 2)), np.zeros((2, 2)), [0.0, 1.0], dtype=np.float32)
    bottom[2].diff[...] = 7
    layer.backward(top, [True] * 3, bottom)
    assert (bottom[2].diff == 7).all() and (bottom[0].diff[1] == 0.5).all()


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        ([(2, 3), (2, 4), (2,)], r"bottoms 0 and 1 must both be \(N, C\), got \(2, 3\) and \(2, 4\)"),
        ([(2, 3), (2, 3), (3,)], r"bottom 2 must hold one number for each of the 2 pairs, got \(3,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, sentence):
    with pytest.raises(LayerError, match=sentence):
        run_layer(contrastive(), *(np.zeros(shape) for shape in shapes))
