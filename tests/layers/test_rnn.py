"""RNN, by a plain loop over steps and sequences; what it shares with LSTM is in test_recurrent.py."""

import numpy as np

from minicaffe.testing import Case, LayerProperties, assert_close, continuation, normal, run_layer

FILLERS = "weight_filler { type: 'gaussian' std: 0.5 } bias_filler { type: 'gaussian' std: 0.5 }"


def rnn(text="num_output: 3"):
    return f"type: 'RNN' recurrent_param {{ {FILLERS} {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(rnn(), [(4, 2, 3), (4, 2)], [normal, continuation], gradient=[0]),
        Case(rnn(), [(3, 2, 2, 2), (3, 2), (2, 4)], [normal, continuation, normal], gradient=[0, 2]),
        Case(
            rnn("num_output: 3 expose_hidden: true"), [(3, 2, 4), (3, 2), (1, 2, 3)],
            [normal, lambda rng, shape: np.ones(shape), normal], gradient=[0, 2], num_top=2,
        ),
    ]  # fmt: skip


def slow_rnn(x, cont, static, blobs):
    w_x, b, w_s, w_h, w_o, b_o = blobs
    y, h = np.zeros((*cont.shape, len(b_o))), np.zeros((cont.shape[1], len(b)))
    for t, n in np.ndindex(cont.shape):
        h[n] = np.tanh(w_x @ x[t, n] + b + w_s @ static[n] + w_h @ (cont[t, n] * h[n]))
        y[t, n] = np.tanh(w_o @ h[n] + b_o)
    return y


def test_values():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((4, 3, 5)), continuation(rng, (4, 3)), rng.standard_normal((3, 2))]
    layer, _, top = run_layer(rnn(), *arrays)
    assert_close(top[0].data, slow_rnn(*arrays, [blob.data for blob in layer.blobs]), rtol=1e-9)
