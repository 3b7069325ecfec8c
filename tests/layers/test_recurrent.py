"""What RNN and LSTM share: the states are carried from call to call; errors name the layer."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import assert_close, build_layer

FILLERS = "weight_filler { type: 'gaussian' std: 0.5 } bias_filler { type: 'gaussian' std: 0.5 }"


def recurrent(kind):
    return f"type: '{kind}' recurrent_param {{ {FILLERS} num_output: 3 }}"


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.layers(kind)) for kind in ("RNN", "LSTM")])
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
            halves.load_state(saved)  # as in a resumed run
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
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"layer 'r': {words}"):
        build_layer(f"type: '{text}'", *(np.zeros(s) for s in shapes))
