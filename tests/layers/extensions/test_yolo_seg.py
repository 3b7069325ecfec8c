"""YoloSeg: the loss of masks."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, normal, run_layer

SHAPE = (2, 3, 4, 5)


def loss(text=""):
    return f"type: 'YoloSeg' yolo_seg_param {{ {text} }}"


def masks(rng, shape):
    return (rng.random(shape) < 0.4).astype(float)


def counts(rng, shape):
    return rng.integers(1, 9, shape).astype(float)


class TestProperties(LayerProperties):
    cases = [
        Case(loss(), [SHAPE, SHAPE], [normal, masks], gradient=()),
        Case(loss("object_scale: 0.2"), [SHAPE, SHAPE, (2, 3)], [normal, masks, counts], gradient=()),
    ]


@pytest.mark.parametrize("weighted", [False, True])
def test_steps_and_loss(engine, weighted):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal(SHAPE), masks(rng, SHAPE)
    t[0, 0, 0, 0] = 0.4  # of a mask that was resized
    places = [t.sum((2, 3), keepdims=True)] if weighted else []
    layer, bottom, top = run_layer(loss("object_scale: 0.2"), x, t, *places, dtype=np.float32)
    steps = np.zeros(SHAPE)
    for n, c, j, i in np.ndindex(*SHAPE):
        own = t[:, c].sum()
        factor = 2 - own / (40 - own) if weighted and t[n, c, j, i] > 0.5 else 1
        steps[n, c, j, i] = 0.2 * factor * (1 / (1 + np.exp(-x[n, c, j, i])) - t[n, c, j, i])
    assert_close(top[0].read_data(), (steps**2).sum() / 2, rtol=1e-5)
    top[0].diff[...] = 0.7
    layer.backward(top, [True] + [False] * (len(bottom) - 1), bottom)
    assert_close(bottom[0].read_diff(), 0.7 * steps / 2, rtol=1e-5)


def test_a_class_in_all_places(engine):
    """No other places are left to divide by."""
    one = np.ones((1, 1, 2, 2))
    _, _, top = run_layer(loss("object_scale: 0.2"), 0 * one, one, np.full((1, 1), 4.0), dtype=np.float32)
    assert_close(top[0].read_data(), 4 * (0.2 * (2 - 4) * -0.5) ** 2)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([SHAPE, (2, 3, 4, 4)], r"bottoms 0 and 1 must be \(N, C, H, W\)"),
        ([SHAPE, SHAPE, (3,)], r"bottom 2 must hold 6 numbers, one for each mask, got \(3,\)"),
    ],
)
def test_errors_name_the_layer(shapes, words):
    with pytest.raises(LayerError, match=f"^YoloSeg layer 'layer': {words}"):
        run_layer(loss(), *map(np.zeros, shapes))
