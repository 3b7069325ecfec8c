"""TripletLoss."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, run_layer

LOSS = "type: 'TripletLoss' triplet_loss_param { margin: 2 }"


class TestProperties(LayerProperties):
    cases = [
        Case(LOSS, [(6, 3)] * 3),
        Case(LOSS + " loss_weight: 0.5", [(4, 3, 1, 1)] * 3),
        Case("type: 'TripletLoss'", [(5, 40)] * 3, options={"most": 20}),
    ]


def test_against_a_loop(engine):
    rng = np.random.default_rng(0)
    a, p, n = (rng.standard_normal((8, 3)) for _ in range(3))
    layer, bottom, top = run_layer(LOSS + " loss_weight: 3", a, p, n, dtype=np.float32)
    layer.backward(top, [True, True, True], bottom)
    loss, diffs, used = 0.0, np.zeros((3, 8, 3)), 0
    for i in range(8):
        own = 2 + ((a[i] - p[i]) ** 2).sum() - ((a[i] - n[i]) ** 2).sum()
        if own > 0:
            used += 1
            loss += own / 16
            diffs[:, i] = 3 / 8 * np.array([n[i] - p[i], p[i] - a[i], a[i] - n[i]])
    assert 0 < used < 8
    assert_close(top[0].data, loss)
    for blob, expected in zip(bottom, diffs):
        assert_close(blob.diff, expected)


def test_only_wanted_gradients_are_written(engine):
    layer, bottom, top = run_layer(LOSS, *(np.ones((2, 3)) * k for k in range(3)), dtype=np.float32)
    for blob in bottom:
        blob.diff[...] = 7
    layer.backward(top, [True, False, False], bottom)
    assert (bottom[0].diff != 7).all() and (bottom[1].diff == 7).all() and (bottom[2].diff == 7).all()


def test_shapes_must_be_equal():
    with pytest.raises(LayerError, match=r"all bottoms must be \(N, C\), got \(2, 3\), \(2, 3\), \(2, 4\)"):
        run_layer(LOSS, np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 4)))
