"""FocalLoss."""

import numpy as np
import pytest

from helpers.references import softmax
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, labels, normal, run_layer


def focal(text="", more=""):
    return f"type: 'FocalLoss' focal_loss_param {{ {text} }} {more}"


class TestProperties(LayerProperties):
    cases = [
        Case(focal(), [(4, 3), (4,)], [normal, labels(3)], gradient=[0]),
        Case(focal("gamma: 0.5 alpha: 1", "loss_weight: 2"), [(4, 3), (4,)], [normal, labels(3)], gradient=[0]),
        Case(focal("gamma: 0 alpha: 1"), [(2, 3, 2, 2), (2, 2, 2)], [normal, labels(3)], gradient=[0]),
        Case(focal("gamma: 3", "loss_param { ignore_label: 1 }"), [(3, 3, 4), (3, 4)], [normal, labels(3)],
             gradient=[0]),
        Case(focal("axis: 2"), [(2, 5, 3), (2, 5)], [normal, labels(3)], gradient=[0]),
    ]  # fmt: skip


@pytest.mark.parametrize("normalization", ["VALID", "FULL", "BATCH_SIZE", "NONE"])
def test_against_a_loop(normalization, engine):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((3, 4, 2)), rng.integers(0, 4, (3, 2))
    text = focal("gamma: 1.5 alpha: 0.4", f"loss_param {{ ignore_label: 2 normalization: {normalization} }}")
    _, _, (top,) = run_layer(text, x, t, dtype=np.float32)
    total, counted = 0.0, 0
    for n, k in np.ndindex(3, 2):
        if t[n, k] != 2:
            p = softmax(x[n, :, k], 0)[t[n, k]]
            total, counted = total - 0.4 * (1 - p) ** 1.5 * np.log(p), counted + 1
    assert 0 < counted < 6
    assert_close(top.data, total / {"VALID": counted, "FULL": 6, "BATCH_SIZE": 3, "NONE": 1}[normalization])


def test_with_gamma_0_it_is_the_softmax_loss(engine):
    x, t = np.random.default_rng(0).standard_normal((5, 3)), [0.0, 1.0, 2.0, 0.0, 1.0]
    plain = run_layer("type: 'SoftmaxWithLoss'", x, t, dtype=np.float32)[2][0].data
    assert_close(run_layer(focal("gamma: 0 alpha: 1"), x, t, dtype=np.float32)[2][0].data, plain)


def test_certain_positions_have_a_finite_gradient(engine):
    layer, bottom, top = run_layer(focal("gamma: 0.5"), [[200.0, 0], [0, 200]], [0.0, 0.0], dtype=np.float32)
    layer.backward(top, [True, False], bottom)
    assert np.isfinite(bottom[0].diff).all() and (bottom[0].diff[0] == 0).all()


@pytest.mark.parametrize(
    ("text", "sentence"), [("type: LINEAR", "type must be ORIGIN"), ("gamma: -1", "gamma must be")]
)
def test_what_is_refused(text, sentence):
    with pytest.raises(LayerError, match="^FocalLoss layer 'layer': " + sentence):
        run_layer(focal(text), np.zeros((1, 2)), [0.0])
