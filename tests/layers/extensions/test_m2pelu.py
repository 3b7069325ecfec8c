"""M2PELU, and MPELU beside it."""

import math

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, distinct, run_layer

FILLERS = "alpha_filler { type: 'uniform' min: 0.5 max: 2 } beta_filler { type: 'uniform' min: 0.5 max: 2 }"


def m2pelu(text=FILLERS):
    return f"type: 'M2PELU' m2pelu_param {{ {text} }}"


def mpelu(text=FILLERS + " gamma_filler { type: 'gaussian' std: 0.5 }"):
    return f"type: 'MPELU' mpelu_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(m2pelu(), [(3, 4, 2, 3)], distinct),
        Case(m2pelu(FILLERS + " channel_shared: true"), [(2, 3, 4)], distinct),
        Case(m2pelu(), [(5, 3)], distinct),
    ]


def test_fillers_are_1():
    assert [blob.data.tolist() for blob in run_layer(m2pelu(""), np.ones((1, 2)))[0].blobs] == [[1, 1], [1, 1]]


@pytest.mark.parametrize("text", [m2pelu(), mpelu()])
def test_against_a_loop(text, engine):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((3, 2, 4)), rng.standard_normal((3, 2, 4))
    layer, bottom, top = build_layer(text, x, dtype=np.float32)
    values = [rng.uniform(0.5, 2, 2) for _ in layer.blobs]
    for blob, value in zip(layer.blobs, values):
        blob.data[...] = value
    layer.forward(bottom, top)
    top[0].diff[...] = dy
    layer.backward(top, [True], bottom)
    y, dx, diffs = x.copy(), dy.copy(), np.zeros((3, 2))
    for n, c, k in np.ndindex(x.shape):
        if x[n, c, k] <= 0:
            alpha, beta, gamma = (*(value[c] for value in values), 0)[:3]
            grown, base = math.exp(beta * x[n, c, k] + gamma), math.exp(gamma)
            y[n, c, k] = alpha * (grown - base)
            dx[n, c, k] *= alpha * beta * grown
            diffs[:, c] += dy[n, c, k] * np.array([grown - base, alpha * x[n, c, k] * grown, alpha * (grown - base)])
    assert_close(top[0].data, y)
    assert_close(bottom[0].diff, dx)
    for blob, diff in zip(layer.blobs, diffs):
        assert_close(blob.diff, diff)


def test_a_vector_is_refused():
    with pytest.raises(LayerError, match=r"^M2PELU layer 'layer': bottom 0 must be \(N, C, ...\), got \(3,\)"):
        run_layer(m2pelu(), np.zeros(3))
