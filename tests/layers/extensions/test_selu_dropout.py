"""SeLuDropout."""

import numpy as np
import pytest

from minicaffe.core import random
from minicaffe.errors import LayerError
from minicaffe.proto import TEST
from minicaffe.testing import CUDA, NUMPY, Case, LayerProperties, assert_close, run_layer

DROPOUT = "type: 'SeLuDropout' selu_dropout_param { dropout_ratio: 0.2 }"


class TestProperties(LayerProperties):
    cases = [Case(DROPOUT, [(2, 3, 4)], phase=TEST)]


def test_dropped_numbers_take_the_least_value_of_a_selu(engine):
    """And all are scaled and moved so that the mean stays 0 and the variance 1."""
    x = np.random.default_rng(0).standard_normal((200, 100))
    layer, bottom, top = run_layer(DROPOUT, x, dtype=np.float32)
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    y, least = top[0].data.copy(), -1.7580993
    kept = bottom[0].diff != 0
    factor = (0.8 + least**2 * 0.8 * 0.2) ** -0.5
    shift = -factor * 0.2 * least
    assert abs(kept.mean() - 0.8) < 0.01
    assert_close(y[kept], (factor * x + shift)[kept])
    assert_close(y[~kept], np.full(np.count_nonzero(~kept), factor * least + shift))
    assert_close(bottom[0].diff[kept], np.full(np.count_nonzero(kept), factor))
    assert abs(y.mean()) < 0.02 and abs(y.var() - 1) < 0.03


@pytest.mark.gpu
def test_both_devices_drop_the_same_numbers(gpu_mode):
    seen = []
    for engine in (NUMPY, CUDA):
        with engine.chosen(), random.seeded(5):
            layer, bottom, top = run_layer(DROPOUT, np.ones((5, 9)), dtype=np.float32)
            layer.forward(bottom, top)
            seen.append(top[0].data.copy())
    assert_close(seen[1], seen[0])


def test_a_ratio_of_1_is_refused():
    with pytest.raises(LayerError, match="^SeLuDropout layer 'layer': dropout_ratio must be at least 0 and below 1"):
        run_layer(DROPOUT.replace("0.2", "1"), [[1.0]])
