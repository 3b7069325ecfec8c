"""LSTM, by a plain loop over steps and sequences; what it shares with RNN is in test_recurrent.py."""

import numpy as np

from minicaffe.testing import Case, LayerProperties, assert_close, continuation, normal, run_layer

FILLERS = "weight_filler { type: 'gaussian' std: 0.5 } bias_filler { type: 'gaussian' std: 0.5 }"


def lstm(text="num_output: 3"):
    return f"type: 'LSTM' recurrent_param {{ {FILLERS} {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(lstm(), [(4, 2, 3), (4, 2)], [normal, continuation], gradient=[0]),
        Case(lstm(), [(3, 2, 2, 2), (3, 2), (2, 4)], [normal, continuation, normal], gradient=[0, 2]),
        Case(
            lstm("num_output: 3 expose_hidden: true"), [(3, 2, 4), (3, 2), (1, 2, 3), (1, 2, 3)],
            [normal, lambda rng, shape: np.ones(shape), normal, normal], gradient=[0, 2, 3], num_top=3,
        ),
    ]  # fmt: skip


def logistic(x):
    return 1 / (1 + np.exp(-x))


def slow_lstm(x, cont, static, blobs):
    w_x, b, w_s, w_h = blobs
    size = w_h.shape[1]
    y, h, c = np.zeros((*cont.shape, size)), np.zeros((cont.shape[1], size)), np.zeros((cont.shape[1], size))
    for t, n in np.ndindex(cont.shape):
        z = w_x @ x[t, n] + b + w_s @ static[n] + w_h @ (cont[t, n] * h[n])
        i, f, o, g = (z[k * size : (k + 1) * size] for k in range(4))
        c[n] = cont[t, n] * logistic(f) * c[n] + logistic(i) * np.tanh(g)
        h[n] = y[t, n] = logistic(o) * np.tanh(c[n])
    return y


def test_values():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((4, 3, 5)), continuation(rng, (4, 3)), rng.standard_normal((3, 2))]
    layer, _, top = run_layer(lstm(), *arrays)
    assert_close(top[0].data, slow_lstm(*arrays, [blob.data for blob in layer.blobs]), rtol=1e-9)
