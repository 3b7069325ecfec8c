"""RNN, LSTM and LSTMUnit: the step, the sequence, and what is carried from call to call."""

import numpy as np
import pytest

from helpers.references import sigmoid
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, normal

FILLERS = "weight_filler { type: 'gaussian' std: 0.5 } bias_filler { type: 'gaussian' std: 0.5 }"


def begins(rng, shape):
    """Some sequences begin at some steps, all of them at the first."""
    cont = (rng.random(shape) < 0.7).astype(float)
    cont[0] = 0
    return cont


def goes_on(rng, shape):
    return np.ones(shape)


def recurrent(kind, text="num_output: 3"):
    return f"type: '{kind}' recurrent_param {{ {FILLERS} {text} }}"


EXPOSED = "num_output: 3 expose_hidden: true"


class TestProperties(LayerProperties):
    cases = [
        *(
            case
            for kind, states in (("RNN", 1), ("LSTM", 2))
            for case in (
                Case(recurrent(kind), [(4, 2, 3), (4, 2)], [normal, begins], gradient=[0]),
                Case(recurrent(kind), [(3, 2, 2, 2), (3, 2), (2, 4)], [normal, begins, normal], gradient=[0, 2]),
                Case(
                    recurrent(kind, EXPOSED), [(3, 2, 4), (3, 2), *[(1, 2, 3)] * states],
                    [normal, goes_on, *[normal] * states], gradient=[0, *range(2, 2 + states)], num_top=1 + states,
                ),
            )
        ),
        Case("type: 'LSTMUnit'", [(1, 3, 2), (1, 3, 8), (1, 3)], [normal, normal, begins], gradient=[0, 1], num_top=2),
        Case("type: 'LSTMUnit'", [(1, 3, 2), (1, 3, 8), (1, 3)], [normal, normal, goes_on], gradient=[0, 1], num_top=2),
    ]  # fmt: skip


def slow_lstm(x, cont, static, blobs):
    w_x, b, w_s, w_h = blobs
    size = w_h.shape[1]
    y, h, c = np.zeros((*cont.shape, size)), np.zeros((cont.shape[1], size)), np.zeros((cont.shape[1], size))
    for t, n in np.ndindex(cont.shape):
        z = w_x @ x[t, n] + b + w_s @ static[n] + w_h @ (cont[t, n] * h[n])
        i, f, o, g = (z[k * size : (k + 1) * size] for k in range(4))
        c[n] = cont[t, n] * sigmoid(f) * c[n] + sigmoid(i) * np.tanh(g)
        h[n] = y[t, n] = sigmoid(o) * np.tanh(c[n])
    return y


def slow_rnn(x, cont, static, blobs):
    w_x, b, w_s, w_h, w_o, b_o = blobs
    y, h = np.zeros((*cont.shape, len(b_o))), np.zeros((cont.shape[1], len(b)))
    for t, n in np.ndindex(cont.shape):
        h[n] = np.tanh(w_x @ x[t, n] + b + w_s @ static[n] + w_h @ (cont[t, n] * h[n]))
        y[t, n] = np.tanh(w_o @ h[n] + b_o)
    return y


@pytest.mark.parametrize(("kind", "slow"), [("RNN", slow_rnn), ("LSTM", slow_lstm)])
def test_values(kind, slow):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((4, 3, 5)), begins(rng, (4, 3)), rng.standard_normal((3, 2))]
    layer, bottom, top = build_layer(recurrent(kind), *arrays)
    layer.forward(bottom, top)
    assert_close(top[0].data, slow(*arrays, [blob.data for blob in layer.blobs]), rtol=1e-9)


@pytest.mark.layers("RNN", "LSTM")
@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
def test_states_go_on_into_the_next_call(kind, engine):
    x = np.random.default_rng(0).standard_normal((6, 2, 3))
    layer, bottom, top = build_layer(recurrent(kind), x, np.ones((6, 2)))
    layer.forward(bottom, top)
    whole = top[0].data.copy()
    halves, bottom, top = build_layer(recurrent(kind), x[:3], np.ones((3, 2)))
    for own, other in zip(halves.blobs, layer.blobs, strict=True):
        own.data[...] = other.data
    results = []
    for part in (x[:3], x[3:], x[3:]):
        if len(results) == 1:
            saved = halves.state()
        if len(results) == 2:
            halves.load_state(saved)  # as a resumed run does
        bottom[0].data[...] = part
        halves.forward(bottom, top)
        results.append(top[0].data.copy())
    assert_close(np.concatenate(results[:2]), whole, rtol=1e-9)
    np.testing.assert_array_equal(results[1], results[2])
    halves.reset()
    bottom[0].data[...] = x[:3]
    halves.forward(bottom, top)
    np.testing.assert_array_equal(top[0].data, results[0])


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        ("RNN' recurrent_param { num_output: 0 }  name: 'r", [(3, 2, 4), (3, 2)], "num_output must be at least 1"),
        (
            "LSTM' recurrent_param { num_output: 2 } name: 'r",
            [(3, 2, 4), (2, 3)],
            r"bottom 1 .* \(3, 2\), got \(2, 3\)",
        ),
        ("LSTM' recurrent_param { num_output: 2 } name: 'r", [(3,), (3,)], r"bottom 0 must be \(T, N, ...\)"),
        (
            "LSTM' recurrent_param { num_output: 2 } name: 'r",
            [(3, 2, 4), (3, 2), (3, 4)],
            r"bottom 2 must be \(N, ...\)",
        ),
        ("LSTMUnit' name: 'r", [(1, 2, 3), (1, 2, 9), (1, 2)], r"bottom 1 must hold four gates, \(1, 2, 12\), got"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"layer 'r': {words}"):
        build_layer(f"type: '{text}'", *map(np.zeros, shapes), num_top=2 if "Unit" in text else 1)
