"""AdaCosAddmScale: CosinAddm's scores, times a scale that adapts."""

import math

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import assert_close, build_layer, run_layer

TEXT = "type: 'AdaCosAddmScale' adacos_add_m_scale_param { num_classes: 5 }"


def test_the_scale_adapts(engine):
    x, t = np.random.default_rng(0).uniform(-0.6, 0.6, (4, 5)), [0, 3, 4, -1]
    dy = np.random.default_rng(1).standard_normal((4, 5))
    layer, bottom, top = build_layer(TEXT, x, t, dtype=np.float32)
    margins = run_layer("type: 'CosinAddm'", x, t, dtype=np.float32)
    margins[2][0].diff[...] = dy
    margins[0].backward(margins[2], [True, False], margins[1])
    scale = math.sqrt(2) * math.log(4)
    for _ in range(2):
        layer.forward(bottom, top)
        total = sum(1 if t[n] == k else math.exp(scale * x[n, k]) for n in range(4) for k in range(5))
        scale = math.log(total / 4) / math.cos(min(np.arccos(x).mean(), math.pi / 4))
        assert_close(top[0].data, scale * margins[2][0].data)
    top[0].diff[...] = dy
    layer.backward(top, [True, False], bottom)
    assert_close(bottom[0].diff, scale * margins[1][0].diff)
    other, *_ = build_layer(TEXT, x, t, dtype=np.float32)
    other.load_state(layer.state())
    assert_close(other.scale.data, [scale])


def test_without_samples_the_scale_stays(engine):
    layer, *_ = run_layer(TEXT, np.zeros((0, 5)), np.zeros(0), dtype=np.float32)
    assert_close(layer.scale.data, [math.sqrt(2) * math.log(4)])


def test_there_must_be_classes():
    with pytest.raises(LayerError, match="num_classes must be at least 3, got 2"):
        run_layer(TEXT.replace("5", "2"), np.zeros((1, 2)), [0.0])
