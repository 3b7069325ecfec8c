"""Lstm, by a plain loop over steps and sequences."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, continuation, normal, run_layer

FILLERS = "weight_filler { type: 'gaussian' std: 0.5 } bias_filler { type: 'gaussian' std: 0.5 }"


def lstm(text="num_output: 3"):
    return f"type: 'Lstm' lstm_param {{ {FILLERS} {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(lstm(), [(4, 2, 3)]),
        Case(lstm(), [(3, 2, 2, 2), (3, 2)], [normal, continuation], gradient=[0]),
        Case(lstm("num_output: 2 batch_size: 2"), [(6, 3), (6,)], [normal, continuation], gradient=[0]),
        Case(lstm("num_output: 2"), [(5, 1)]),
    ]


def logistic(x):
    return 1 / (1 + np.exp(-x))


def slow_lstm(x, cont, blobs, h, c):
    """x (T, N, I), cont (T, N); h and c of each sequence before step 0, which become those behind the last."""
    w_x, w_h, b = blobs
    size = w_h.shape[1]
    y = np.zeros((*cont.shape, size))
    for t, n in np.ndindex(cont.shape):
        z = w_x @ x[t, n] + w_h @ (cont[t, n] * h[n]) + b
        i, f, o, g = (z[k * size : (k + 1) * size] for k in range(4))
        c[n] = cont[t, n] * logistic(f) * c[n] + logistic(i) * np.tanh(g)
        h[n] = y[t, n] = logistic(o) * np.tanh(c[n])
    return y


def zeros(count, size=3):
    return np.zeros((count, size)), np.zeros((count, size))


def test_sequences_begin_at_step_0(engine):
    """Also in a second pass: nothing comes from the batch before, of which the values were not finite."""
    x = np.random.default_rng(0).standard_normal((4, 3, 2, 2))
    layer, bottom, top = build_layer(lstm(), np.full(x.shape, np.nan), dtype=np.float32)
    layer.forward(bottom, top)
    bottom[0].data[...] = x
    layer.forward(bottom, top)
    cont = np.array([[0] * 3] + [[1] * 3] * 3)
    expected = slow_lstm(x.reshape(4, 3, 4), cont, [blob.data for blob in layer.blobs], *zeros(3))
    assert [blob.shape for blob in layer.blobs] == [(12, 4), (12, 3), (12,)]
    assert_close(top[0].data, expected)


def test_marked_sequences_go_on_from_the_batch_before(engine):
    rng = np.random.default_rng(1)
    x, cont = rng.standard_normal((2, 4, 2, 3)), np.array([[[0, 1], [1, 1], [1, 0], [1, 1]], [[1, 1]] * 4])
    layer, bottom, top = build_layer(lstm(), x[0], cont[0], dtype=np.float32)
    states = zeros(2)
    for part, own in zip(x, cont):
        bottom[0].data[...], bottom[1].data[...] = part, own
        layer.forward(bottom, top)
        assert_close(top[0].data, slow_lstm(part, own, [blob.data for blob in layer.blobs], *states))


def test_steps_and_sequences_on_one_axis(engine):
    """(T N, I) with batch_size N gives what (T, N, I) gives."""
    x = np.random.default_rng(2).standard_normal((4, 3, 2))
    layer, bottom, top = run_layer(lstm(), x, dtype=np.float32)
    joined, below, above = build_layer(lstm("num_output: 3 batch_size: 3"), x.reshape(12, 2), dtype=np.float32)
    for own, other in zip(joined.blobs, layer.blobs):
        own.data[...] = other.data
    joined.forward(below, above)
    assert above[0].shape == (12, 3)
    np.testing.assert_array_equal(above[0].data.reshape(4, 3, 3), top[0].data)
    for each in (above[0], top[0]):
        each.diff[...] = np.arange(36).reshape(each.shape)
    layer.backward(top, [True], bottom)
    joined.backward(above, [True], below)
    np.testing.assert_allclose(below[0].diff.reshape(x.shape), bottom[0].diff, rtol=1e-6)


@pytest.mark.parametrize("threshold", [0.0, 0.05])
def test_gradients_of_gates_are_limited_at_each_step(engine, threshold):
    """By a loop back through time."""
    rng = np.random.default_rng(3)
    x, dy, size = rng.standard_normal((3, 2, 2)), rng.standard_normal((3, 2, 3)), 3
    layer, bottom, top = run_layer(lstm(f"num_output: 3 clipping_threshold: {threshold}"), x, dtype=np.float32)
    top[0].diff[...] = dy
    layer.backward(top, [True], bottom)
    w_x, w_h, b = (blob.data.astype(np.float64) for blob in layer.blobs)
    expected, dw_x, dw_h, db = np.zeros_like(x), np.zeros_like(w_x), np.zeros_like(w_h), np.zeros_like(b)
    limited = 0
    for n in range(2):
        h, c, gates = [np.zeros(size)], [np.zeros(size)], []
        for t in range(3):
            z = w_x @ x[t, n] + w_h @ h[-1] + b
            i, f, o = (logistic(z[k * size : (k + 1) * size]) for k in range(3))
            g = np.tanh(z[3 * size :])
            gates.append((i, f, o, g))
            c.append(f * c[-1] + i * g)
            h.append(o * np.tanh(c[-1]))
        dh, dc = np.zeros(size), np.zeros(size)
        for t in reversed(range(3)):
            i, f, o, g = gates[t]
            dh = dh + dy[t, n]
            dc = dc + dh * o * (1 - np.tanh(c[t + 1]) ** 2)
            do = dh * np.tanh(c[t + 1]) * o * (1 - o)
            dz = np.concatenate([dc * g * i * (1 - i), dc * c[t] * f * (1 - f), do, dc * i * (1 - g**2)])
            if threshold:
                limited += (abs(dz) > threshold).sum()
                dz = np.clip(dz, -threshold, threshold)
            dw_x, dw_h, db = dw_x + np.outer(dz, x[t, n]), dw_h + np.outer(dz, h[t]), db + dz
            expected[t, n], dh, dc = w_x.T @ dz, w_h.T @ dz, dc * f
    assert limited > 10 or not threshold
    for got, values in zip([bottom[0].diff, *(blob.diff for blob in layer.blobs)], [expected, dw_x, dw_h, db]):
        assert_close(got, values)


def test_states_are_part_of_a_snapshot(engine):
    x = np.random.default_rng(4).standard_normal((3, 2, 3))
    layer, bottom, top = run_layer(lstm(), x, np.ones((3, 2)), dtype=np.float32)
    state = layer.state()
    layer.forward(bottom, top)
    second = top[0].data.copy()
    layer.load_state(state)
    layer.forward(bottom, top)
    np.testing.assert_array_equal(top[0].data, second)


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (lstm("num_output: 0"), [(3, 2, 4)], "num_output must be at least 1"),
        (lstm("num_output: 2 batch_size: 4"), [(6, 3)], "batch_size must divide the length of axis 0, 6, got 4"),
        (lstm("num_output: 2 batch_size: 0"), [(6, 3)], "batch_size must divide the length of axis 0, 6, got 0"),
        (lstm(), [(3, 2, 4), (3,)], r"bottom 1 must mark T x N beginnings \(3, 2\), got \(3,\)"),
    ],
)
def test_errors_name_the_layer(text, shapes, message):
    with pytest.raises(LayerError, match=f"^Lstm layer 'layer': {message}"):
        build_layer(text, *map(np.zeros, shapes))
