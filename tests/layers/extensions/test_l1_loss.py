"""L1Loss of both forks, and LpqLoss."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, distinct, run_layer, top_of


def l1(text):
    return f"type: 'L1Loss' l1_loss_param {{ {text} }}"


def lpq(text):
    return f"type: 'LpqLoss' lpq_loss_param {{ {text} }}"


NVIDIA = "type: 'L1Loss'"
PER_PLACE = l1("l2_per_location: true l2_prescale_by_channels: true")
SHAPE = (2, 3, 2, 4)
EPISODES = "pq_episode_starts_at_iter: [0, 2, 3] p: [1, 2, 1.5] q: [1, 0.5, 0.4]"


def apart(rng, shape):
    return distinct(rng, shape) + 0.025


def with_unknown(rng, shape):
    values = apart(rng, shape)
    values.flat[::5] = np.nan
    return values


class TestProperties(LayerProperties):
    cases = [
        Case(NVIDIA, [SHAPE] * 2, [distinct, apart]),
        Case(l1(""), [SHAPE] * 2, [distinct, apart]),
        Case(l1("normalize_by_num_entries: true"), [SHAPE] * 2, [distinct, with_unknown], gradient=[0]),
        Case(l1("plateau: 0.3"), [SHAPE], [distinct]),
        Case(PER_PLACE, [SHAPE] * 2),
        Case(l1("l2_per_location: true power: 0.3 epsilon: 0.1"), [SHAPE] * 2),
        Case(l1("l2_per_location: true plateau: 0.5"), [(3, 2)] * 2, [distinct, apart]),
        Case(lpq("p: 1.5 q: 0.4 p_epsilon: 0.1"), [SHAPE] * 2, [distinct, apart]),
        Case(lpq(f"{EPISODES} l2_prescale_by_channels: true"), [SHAPE] * 2, [distinct, apart]),
    ]


def by_loops(d, p=1.0, q=1.0, shift_p=0.0, shift_q=0.0, scale=1.0, plateau=0.0, whole=False):
    """The sum of the losses of the places of d (N, C, H, W)."""
    total = 0.0
    for n, h, w in np.ndindex(d.shape[0], *d.shape[2:]):
        inner = 0.0
        for value in d[n, :, h, w]:
            size = 0 if np.isnan(value) or (not whole and abs(value) < plateau) else abs(value)
            inner += (size + shift_p) ** p
        inner *= scale
        total += ((0 if whole and inner < plateau**2 else inner) + shift_q) ** q
    return total


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (l1(""), {}),
        (l1("plateau: 0.7"), {"plateau": 0.7}),
        (l1("l2_per_location: true"), {"p": 2, "q": 0.5, "shift_q": 0.01}),
        (PER_PLACE, {"p": 2, "q": 0.5, "shift_q": 0.01, "scale": 1 / 3}),
        (
            l1("l2_per_location: true plateau: 2 epsilon: 0.1 power: 0.3"),
            {"p": 2, "q": 0.3, "shift_q": 0.1, "plateau": 2, "whole": True},
        ),
        (lpq("p: 1.5 q: 0.4 p_epsilon: 0.1"), {"p": 1.5, "q": 0.4, "shift_p": 0.1, "shift_q": 0.01}),
        (
            lpq("p: 2 q: 0.5 q_epsilon: 1 l2_prescale_by_channels: true"),
            {"p": 2, "q": 0.5, "shift_q": 1, "scale": 1 / 3},
        ),
    ],
)
@pytest.mark.parametrize("entries", [False, True])
def test_against_loops(text, options, entries, engine):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, *SHAPE))
    b[0, :, 0, 0], b[1, 1, 1, 1] = np.nan, np.nan
    divisor = (a.size - 4) / 3 if entries else 2
    text = text.replace("_param { ", f"_param {{ normalize_by_num_entries: {str(entries).lower()} ")
    expected = by_loops(a - b, **options) / divisor
    assert_close(top_of(text, a, b, dtype=np.float32), expected)
    assert_close(top_of(text, a - b, dtype=np.float32), expected)  # one bottom: d itself


def gradients(text, a, b):
    layer, bottom, top = run_layer(text, a, b, dtype=np.float32)
    top[0].diff[...] = 2
    layer.backward(top, [True, True], bottom)
    return top[0].data.item(), [blob.diff.ravel().tolist() for blob in bottom]


A, B = np.array([[[0.0], [1], [5]]]), np.array([[[0.0], [np.nan], [2]]])


def test_unknown_and_equal_numbers(engine):
    assert gradients(l1(""), A, B) == (3, [[-2, 0, 2], [2, 0, -2]])
    assert gradients(l1("plateau: 0.1"), A, B) == (3, [[0, 0, 2], [0, 0, -2]])


def test_nvidias_masks_nothing(engine):
    """It has no l1_loss_param."""
    loss, (da, _) = gradients(NVIDIA, A, B)
    assert np.isnan(loss)
    assert da[0] == 0
    assert np.isnan(da[1])
    assert da[2] == 2


def test_nothing_is_known(engine):
    loss, diffs = gradients(l1("normalize_by_num_entries: true"), A, np.full_like(A, np.nan))
    assert loss == 0
    assert diffs == [[0, 0, 0]] * 2


def test_exponents_change_with_the_iteration(engine):
    a, b = np.random.default_rng(0).standard_normal((2, *SHAPE))
    layer, bottom, top = run_layer(lpq(EPISODES), a, b, dtype=np.float32)
    losses = [top[0].data.item()]
    for _ in range(4):
        state = layer.state()
        layer.forward(bottom, top)
        losses.append(top[0].data.item())
    exponents = [(1, 1), (1, 1), (2, 0.5), (1.5, 0.4), (1.5, 0.4)]
    assert_close(losses, [by_loops(a - b, p, q, shift_q=0.01) / 2 for p, q in exponents])
    layer.load_state(state | {"passes": 2})
    layer.forward(bottom, top)
    assert_close(top[0].data, losses[2])


def test_in_test_the_first_exponents_hold():
    a, b = np.random.default_rng(0).standard_normal((2, *SHAPE))
    layer, bottom, top = run_layer(lpq(EPISODES), a, b, phase=1)
    for _ in range(3):
        layer.forward(bottom, top)
    assert_close(top[0].data, by_loops(a - b, shift_q=0.01) / 2)


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        (l1(""), [(2, 3), (2, 4)], r"bottoms must have equal shapes, got \(2, 3\) and \(2, 4\)"),
        (l1(""), [(2,), (2,)], r"bottom 0 must be \(N, C, ...\), got \(2,\)"),
        (l1("l2_per_location: true epsilon: 0"), [(2, 3)], "power 0.5, below 1, needs epsilon above 0, got 0"),
        (lpq("p: 1"), [(2, 3)], "one value for each of pq_episode_starts_at_iter, 1, got 1 and 0"),
        (lpq("p: 1 q: 1 pq_episode_starts_at_iter: 5"), [(2, 3)], r"must begin with 0 and ascend, got \[5\]"),
        (lpq("p: 0.5 q: 1"), [(2, 3)], "p 0.5, below 1, needs p_epsilon above 0, got 0"),
        (lpq("p: 1 q: 0"), [(2, 3)], "q must be above 0, got 0"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^L.*Loss layer 'layer': .*{words}"):
        top_of(text, *map(np.zeros, shapes))
