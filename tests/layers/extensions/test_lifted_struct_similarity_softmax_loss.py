"""LiftedStructSimilaritySoftmaxLoss, by plain loops."""

import math

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, labels, normal, run_layer

LOSS = "type: 'LiftedStructSimilaritySoftmaxLoss' lifted_struct_sim_softmax_loss_param { margin: 1.5 }"


def two_classes(rng, shape):
    return rng.permutation(np.arange(math.prod(shape)) % 2).reshape(shape)


class TestProperties(LayerProperties):
    cases = [
        Case(LOSS, [(6, 3), (6,)], [normal, labels(3)], gradient=[0]),
        Case(LOSS + " loss_weight: 0.5", [(5, 2, 2), (5, 1)], [normal, two_classes], gradient=[0]),
    ]


def test_against_a_loop(engine):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((8, 4)) / 2, np.array([0.0, 0, 1, 1, 1, 2, 3, 3])
    layer, bottom, top = run_layer(LOSS, x, t, dtype=np.float32)
    total, pairs = 0.0, 0
    for i in range(8):
        for j in range(i + 1, 8):
            if t[i] == t[j]:
                others = [math.exp(1.5 - np.linalg.norm(x[a] - x[k])) for a in (i, j) for k in range(8) if t[k] != t[a]]
                total += max(0, math.log(sum(others)) + np.linalg.norm(x[i] - x[j])) ** 2
                pairs += 1
    assert pairs == 5
    assert_close(top[0].data, total / (2 * pairs))


@pytest.mark.parametrize("t", [[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]])
def test_a_batch_without_pairs_or_without_others_costs_nothing(t, engine):
    layer, bottom, top = run_layer(LOSS, np.random.default_rng(0).standard_normal((3, 2)), t, dtype=np.float32)
    layer.backward(top, [True, False], bottom)
    assert top[0].data == 0
    assert (bottom[0].diff == 0).all()


def test_equal_features_have_a_finite_gradient(engine):
    layer, bottom, top = run_layer(LOSS, [[1.0, 2], [1, 2], [1, 2], [0, 0]], [0.0, 0.0, 1.0, 1.0], dtype=np.float32)
    layer.backward(top, [True, False], bottom)
    assert np.isfinite(bottom[0].diff).all() and bottom[0].diff.any()


def test_there_is_a_label_for_each_sample():
    with pytest.raises(LayerError, match=r"bottom 1 must hold one label for each of the 2 samples, got \(3,\)"):
        run_layer(LOSS, np.zeros((2, 3)), np.zeros(3))
