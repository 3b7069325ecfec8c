"""LpqLoss; more tests of its base are in test_l1_loss.py."""

import numpy as np
import pytest

from helpers.flow_loops import masked_loss
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, distinct, run_layer, top_of


def lpq(text):
    return f"type: 'LpqLoss' lpq_loss_param {{ {text} }}"


SHAPE = (2, 3, 2, 4)
EPISODES = "pq_episode_starts_at_iter: [0, 2, 3] p: [1, 2, 1.5] q: [1, 0.5, 0.4]"
APART = [distinct, lambda rng, shape: distinct(rng, shape) + 0.025]


class TestProperties(LayerProperties):
    cases = [
        Case(lpq("p: 1.5 q: 0.4 p_epsilon: 0.1"), [SHAPE] * 2, APART),
        Case(lpq(f"{EPISODES} l2_prescale_by_channels: true"), [SHAPE] * 2, APART),
    ]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("p: 1.5 q: 0.4 p_epsilon: 0.1", {"p": 1.5, "q": 0.4, "shift_p": 0.1, "shift_q": 0.01}),
        ("p: 2 q: 0.5 q_epsilon: 1 l2_prescale_by_channels: true", {"p": 2, "q": 0.5, "shift_q": 1, "scale": 1 / 3}),
    ],
)
@pytest.mark.parametrize("entries", [False, True])
def test_against_loops(text, options, entries, engine):
    a, b = np.random.default_rng(0).standard_normal((2, *SHAPE))
    b[0, :, 0, 0], b[1, 1, 1, 1] = np.nan, np.nan
    divisor = (a.size - 4) / 3 if entries else 2
    text = lpq(f"{text} normalize_by_num_entries: {str(entries).lower()}")
    expected = masked_loss(a - b, **options) / divisor
    assert_close(top_of(text, a, b, dtype=np.float32), expected)
    assert_close(top_of(text, a - b, dtype=np.float32), expected)  # one bottom: d itself


def test_exponents_change_with_the_iteration(engine):
    a, b = np.random.default_rng(0).standard_normal((2, *SHAPE))
    layer, bottom, top = run_layer(lpq(EPISODES), a, b, dtype=np.float32)
    losses = [top[0].data.item()]
    for _ in range(4):
        state = layer.state()
        layer.forward(bottom, top)
        losses.append(top[0].data.item())
    exponents = [(1, 1), (1, 1), (2, 0.5), (1.5, 0.4), (1.5, 0.4)]
    assert_close(losses, [masked_loss(a - b, p, q, shift_q=0.01) / 2 for p, q in exponents])
    layer.load_state(state | {"passes": 2})
    layer.forward(bottom, top)
    assert_close(top[0].data, losses[2])


def test_in_test_the_first_exponents_hold():
    a, b = np.random.default_rng(0).standard_normal((2, *SHAPE))
    layer, bottom, top = run_layer(lpq(EPISODES), a, b, phase=1)
    for _ in range(3):
        layer.forward(bottom, top)
    assert_close(top[0].data, masked_loss(a - b, shift_q=0.01) / 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("p: 1", "one value for each of pq_episode_starts_at_iter, 1, got 1 and 0"),
        ("p: 1 q: 1 pq_episode_starts_at_iter: 5", r"must begin with 0 and ascend, got \[5\]"),
        ("p: 0.5 q: 1", "p 0.5, below 1, needs p_epsilon above 0, got 0"),
        ("p: 1 q: 0", "q must be above 0, got 0"),
    ],
)
def test_errors_name_the_layer(text, words):
    with pytest.raises(LayerError, match=f"^LpqLoss layer 'layer': .*{words}"):
        top_of(lpq(text), np.zeros((2, 3)))
