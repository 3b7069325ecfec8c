"""WarpCTCLoss: PyTorch's numbers, and the three forms of labels.

COSTS and GRADIENT were computed by PyTorch 2.14 in float64, from the scores of `scores()`:

    x = torch.tensor(scores(), requires_grad=True)
    labels = torch.tensor([[1, 1, 2], [3, 0, 0], [2, 3, 1]])
    cost = torch.nn.functional.ctc_loss(
        x.log_softmax(2), labels, torch.tensor([5, 4, 3]), torch.tensor([3, 1, 3]), blank=0, reduction="none")
    cost.sum().backward()
"""

import math

import numpy as np
import pytest

from helpers.ctc import slow_cost
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, continuation, labels, normal, run_layer

COSTS = [2.56930713, 4.63221684, 12.11250913]
GRADIENT = [
    [[0.237169, -0.742245, 0.200865, 0.304211], [-0.505084, 0.021783, 0.504527, -0.021226],
     [0.009465, 0.498338, -0.990291, 0.482488]],
    [[-0.342688, 0.017101, 0.246372, 0.079214], [-0.018545, 0.571343, 0.011632, -0.56443],
     [0.157531, 0.061003, 0.760184, -0.978718]],
    [[0.071558, -0.216582, 0.023139, 0.121886], [-0.425164, 0.059893, 0.870912, -0.505641],
     [0.472405, -0.973429, 0.025388, 0.475636]],
    [[0.016246, 0.059696, -0.1983, 0.122358], [-0.207023, 0.031856, 0.019642, 0.155525], [0.0, 0.0, 0.0, 0.0]],
    [[-0.259065, 0.07395, -0.019759, 0.204874], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]],
]  # fmt: skip
STEPS, COUNTS, LABELS = [5, 4, 3], [3, 1, 3], [[1, 1, 2], [3, 0, 0], [2, 3, 1]]


def scores():
    return [
        [[2 * math.sin(1.7 * t + 2.3 * n + 3.1 * k + 0.5 * t * k) for k in range(4)] for n in range(3)]
        for t in range(5)
    ]


def loss(text=""):
    return f"type: 'WarpCTCLoss' ctc_loss_param {{ {text} }}"


class TestProperties(LayerProperties):
    #: One sequence: the gradient is N times the derivative.
    cases = [
        Case(loss(), [(5, 1, 4), (1, 3)], [normal, labels(4)], gradient=[0]),
        Case(loss("blank_index: -1"), [(6, 1, 4), (6, 1), (2, 1)], [normal, continuation, labels(3)], gradient=[0]),
        Case(
            loss("blank_index: 1"), [(5, 1, 4), (1,), (1,), (3, 1)],
            [normal, lambda *_: np.array([4.0]), lambda *_: np.array([2.0]), lambda *_: np.array([[2.0], [0], [3]])],
            gradient=[0],
        ),
    ]  # fmt: skip


def test_pytorch(engine):
    layer, bottom, top = run_layer(loss(), scores(), STEPS, COUNTS, np.transpose(LABELS), dtype=np.float32)
    np.testing.assert_allclose(top[0].data, np.mean(COSTS), rtol=1e-5)
    top[0].diff[...] = 2
    layer.backward(top, [True, False, False, False], bottom)
    np.testing.assert_allclose(bottom[0].diff, 2 * np.array(GRADIENT), atol=5e-6)


def test_pytorch_in_float64():
    layer, bottom, top = run_layer(loss(), scores(), STEPS, COUNTS, np.transpose(LABELS))
    np.testing.assert_allclose(top[0].data, np.mean(COSTS), rtol=1e-8)
    layer.backward(top, [True, False, False, False], bottom)
    np.testing.assert_allclose(bottom[0].diff, GRADIENT, atol=5.1e-7)


def test_three_bottoms(engine):
    """Labels are one less than their class, as the blank is 0; they end at the first negative one."""
    cont = [[0, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 0, 1]]
    given = [[0, 2, 1], [0, -1, 2], [1, 5, 0]]
    layer, bottom, top = run_layer(loss(), scores(), cont, given, dtype=np.float32)
    np.testing.assert_allclose(top[0].data, np.mean(COSTS), rtol=1e-5)
    layer.backward(top, [True, False, False], bottom)
    np.testing.assert_allclose(bottom[0].diff, GRADIENT, atol=5e-6)


def test_three_bottoms_without_labels(engine):
    """A sequence without labels counts 0; with a blank that is not 0, labels are classes."""
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    cont, given = np.repeat([[0], [1], [1], [1]], 2, 1), [[-1, 0], [2, 1]]
    layer, bottom, top = run_layer(loss("blank_index: -1"), x, cont, given, dtype=np.float32)
    np.testing.assert_allclose(top[0].data, slow_cost(x[:, 1], [0, 1], 2) / 2, rtol=1e-5)
    layer.backward(top, [True, False, False], bottom)
    assert (bottom[0].diff[:, 0] == 0).all() and (bottom[0].diff[:, 1] != 0).all()


@pytest.mark.parametrize("blank", [0, 2])
def test_two_bottoms(engine, blank):
    x = np.random.default_rng(0).standard_normal((4, 3, 3))
    one, two = (k for k in range(3) if k != blank)
    given = [[blank, one, two], [one, blank, one], [two, -1, one]]
    _, _, top = run_layer(loss(f"blank_index: {blank}"), x, given, dtype=np.float32)
    own = [[one, two], [one, one], [two]]
    np.testing.assert_allclose(top[0].data, np.mean([slow_cost(x[:, n], own[n], blank) for n in range(3)]), rtol=1e-5)


def test_many_classes_and_labels(engine):
    """Rows longer than a warp's, more places than a block has threads, labels that occur often."""
    rng = np.random.default_rng(3)
    x, given = 3 * rng.standard_normal((320, 2, 1100)), rng.integers(0, 9, (2, 150)) * 100
    layer, bottom, top = run_layer(loss(), x, given)
    log_p = x - np.log(np.exp(x).sum(2, keepdims=True))
    costs = []
    for n in range(2):
        places = [0]
        for label in given[n][given[n] != 0]:
            places += [label, 0]
        alpha = np.full(len(places), -np.inf)
        alpha[:2] = log_p[0, n, places[:2]]
        for t in range(1, 320):
            new = alpha.copy()
            for s, label in enumerate(places):
                if s:
                    new[s] = np.logaddexp(new[s], alpha[s - 1])
                if s > 1 and label and label != places[s - 2]:
                    new[s] = np.logaddexp(new[s], alpha[s - 2])
            alpha = new + log_p[t, n, places]
        costs.append(-np.logaddexp(alpha[-1], alpha[-2]))
    np.testing.assert_allclose(top[0].data, np.mean(costs), rtol=1e-5)
    layer.backward(top, [True, False], bottom)
    np.testing.assert_allclose(bottom[0].diff.sum(2), 0, atol=1e-4)


def test_numbers_of_steps_out_of_range(engine):
    arguments = (loss(), np.zeros((4, 1, 3)), [5], [1], [[1]])
    if engine.gpu:
        assert np.isnan(run_layer(*arguments, dtype=np.float32)[2][0].data)
    else:
        with pytest.raises(LayerError, match="numbers of steps must be 0 to 4, got 5"):
            run_layer(*arguments, dtype=np.float32)


def test_shapes_are_checked():
    with pytest.raises(LayerError, match=r"bottom 3 must be labels \(L, N\) with N = 2, got \(2, 3\)"):
        build_layer(loss(), np.zeros((5, 2, 4)), [5, 5], [1, 1], np.zeros((2, 3)))
    with pytest.raises(LayerError, match=r"bottom 1 \(continuation\) must hold 10 numbers, got \(5,\)"):
        build_layer(loss(), np.zeros((5, 2, 4)), np.zeros(5), np.zeros((3, 2)))
