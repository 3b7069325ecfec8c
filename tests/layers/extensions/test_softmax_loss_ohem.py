"""SoftmaxWithLossOHEM, and the losses that read pre_fixed_normalizer."""

import numpy as np
import pytest

from helpers.engines import of_layer
from helpers.references import softmax
from minicaffe.proto import caffe_pb2, parse_text, upgrade_net
from minicaffe.testing import Case, LayerProperties, labels, normal, run_layer


def loss(text=""):
    return f"type: 'SoftmaxWithLossOHEM' loss_param {{ {text} }}"


def case(text, scores, label_shape, **options):
    return Case(loss(text), [scores, label_shape], [normal, labels(scores[1])], **options)


class TestProperties(LayerProperties):
    cases = [
        case("", (4, 3), (4,), gradient=[0]),
        case("ignore_label: 1", (6, 3), (6,), gradient=[0]),
        case("normalization: PRE_FIXED pre_fixed_normalizer: 7 ignore_label: 1", (2, 3, 2), (2, 2), gradient=[0]),
        case("ignore_label: 1", (2, 3, 2, 2), (2, 1, 2, 2), gradient=(), num_top=3),
        case("", (5, 3), (5,), gradient=(), num_top=2),
    ]


@pytest.mark.parametrize(
    ("text", "divisor"),
    [
        ("", 10),
        ("normalization: FULL", 12),
        ("normalization: PRE_FIXED pre_fixed_normalizer: 128", 128),
        ("normalization: PRE_FIXED pre_fixed_normalizer: 0.5", 1),
    ],
)
def test_values_against_a_loop(engine, text, divisor):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((2, 4, 3, 2)).astype(np.float32), rng.integers(0, 4, (2, 1, 3, 2)).astype(float)
    t[0, 0, 1, 1] = t[1, 0, 2, 0] = -1
    p, each = softmax(x), np.zeros(t.shape)
    for n, _, h, w in np.ndindex(t.shape):
        if t[n, 0, h, w] >= 0:
            each[n, 0, h, w] = -np.log(p[n, int(t[n, 0, h, w]), h, w])
    layer, bottom, top = run_layer(loss(f"ignore_label: -1 {text}"), x, t, num_top=3, dtype=np.float32)
    np.testing.assert_allclose(top[0].data, each.sum() / divisor, rtol=1e-5)
    np.testing.assert_allclose(top[1].data, p, rtol=1e-5)
    np.testing.assert_allclose(top[2].data, each, rtol=1e-5, atol=1e-6)
    for blob, value in zip(top, (1, 10, 100)):
        blob.diff[...] = value
    layer.backward(top, [True, False], bottom)
    hot = (np.arange(4)[:, None, None] == t) & (t >= 0)
    np.testing.assert_allclose(bottom[0].diff, (p - hot) * (t >= 0) / divisor, rtol=1e-4, atol=1e-7)


def test_a_softmax_loss_with_three_tops_is_one():
    text = "layer { name: 'a' type: 'SoftmaxWithLoss' bottom: 'x' bottom: 't' %s }"
    tops = "top: 'loss' top: 'p' top: 'each'"
    types = [
        upgrade_net(parse_text(text % given, caffe_pb2.NetParameter())).layer[0].type for given in (tops, "top: 'loss'")
    ]
    assert types == ["SoftmaxWithLossOHEM", "SoftmaxWithLoss"]


PRE_FIXED = "loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 5 }"
NONE = "loss_param { normalization: NONE }"
READERS = [
    ("type: 'SoftmaxWithLoss'", [np.array([0, 2, 1, 1])]),
    ("type: 'InfogainLoss'", [np.array([0, 2, 1, 1]), np.eye(3) + 0.5]),
    ("type: 'SigmoidCrossEntropyLoss'", [np.random.default_rng(1).random((4, 3))]),
    ("type: 'SmoothL1Loss'", [np.zeros((4, 3))]),
]


@pytest.mark.parametrize(("text", "others"), [of_layer(*each) for each in READERS])
def test_every_loss_with_a_normalization_reads_pre_fixed_normalizer(text, others, engine):
    x, found = np.random.default_rng(0).standard_normal((4, 3)), []
    for param in (PRE_FIXED, NONE):
        layer, bottom, top = run_layer(f"{text} {param}", x, *others, dtype=np.float32)
        top[0].diff[...] = 1
        layer.backward(top, [True] + [False] * len(others), bottom)
        found.append((top[0].data.copy(), bottom[0].diff.copy()))
    for fixed, none in zip(*found):
        np.testing.assert_allclose(5 * fixed, none, rtol=1e-5)
