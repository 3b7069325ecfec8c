"""L1Loss, of both forks."""

import numpy as np
import pytest

from helpers.flow_loops import masked_loss
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, distinct, run_layer, top_of


def l1(text):
    return f"type: 'L1Loss' l1_loss_param {{ {text} }}"


NVIDIA = "type: 'L1Loss'"
PER_PLACE = l1("l2_per_location: true l2_prescale_by_channels: true")
SHAPE = (2, 3, 2, 4)


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
    ]


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
    ],
)
@pytest.mark.parametrize("entries", [False, True])
def test_against_loops(text, options, entries, engine):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, *SHAPE))
    b[0, :, 0, 0], b[1, 1, 1, 1] = np.nan, np.nan
    divisor = (a.size - 4) / 3 if entries else 2
    text = text.replace("_param { ", f"_param {{ normalize_by_num_entries: {str(entries).lower()} ")
    expected = masked_loss(a - b, **options) / divisor
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


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        (l1(""), [(2, 3), (2, 4)], r"bottoms must have equal shapes, got \(2, 3\) and \(2, 4\)"),
        (l1(""), [(2,), (2,)], r"bottom 0 must be \(N, C, ...\), got \(2,\)"),
        (l1("l2_per_location: true epsilon: 0"), [(2, 3)], "power 0.5, below 1, needs epsilon above 0, got 0"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^L1Loss layer 'layer': .*{words}"):
        top_of(text, *map(np.zeros, shapes))
