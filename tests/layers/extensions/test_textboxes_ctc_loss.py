"""CTCLoss, by a sum over all paths."""

import numpy as np
import pytest

from helpers.ctc import slow_cost, slow_gradient
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, labels, normal, run_layer

CONT = np.repeat([[0.0], [1], [1], [1]], 3, 1)


def loss(text=""):
    return f"type: 'CTCLoss' ctc_loss_param {{ {text} }}"


class TestProperties(LayerProperties):
    #: One sequence: the gradient is N times the derivative.
    cases = [
        Case(loss(text), [(4, 1, 4), (4, 1), (3, 1)], [normal, lambda *_: CONT[:, :1], labels(3)], gradient=[0])
        for text in ("", "ctc_merge_repeated: false")
    ]


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("collapse", [True, False])
def test_against_all_paths(engine, merge, collapse):
    x = np.random.default_rng(0).standard_normal((4, 3, 3))
    given = np.array([[0, 1, 1], [0, 1, 0], [-1, -1, 0]])
    own = [[0, 0], [1, 1], [1, 0, 0]]
    if collapse:
        own = [[0], [1], [1, 0]]
    text = f"ctc_merge_repeated: {merge} preprocess_collapse_repeated: {collapse}".lower()
    layer, bottom, top = run_layer(loss(text), x, CONT, given, dtype=np.float32)
    costs = [slow_cost(x[:, n], own[n], 2, merge) for n in range(3)]
    np.testing.assert_allclose(top[0].data, np.mean(costs), rtol=1e-5)
    layer.backward(top, [True, False, False], bottom)
    for n in range(3):
        np.testing.assert_allclose(bottom[0].diff[:, n], slow_gradient(x[:, n], own[n], 2, merge), atol=2e-6)


def test_output_delay_is_refused():
    with pytest.raises(LayerError, match="^CTCLoss layer 'layer': output_delay must be 0, got 1"):
        build_layer(loss("output_delay: 1"), np.zeros((4, 3, 3)), CONT, np.zeros((2, 3)))
