"""ChannelNorm."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, run_layer, top_of

NORM = "type: 'ChannelNorm'"


class TestProperties(LayerProperties):
    cases = [Case(NORM, [(2, 3, 4, 5)]), Case(NORM, [(3, 4)])]


def test_values_and_a_place_of_zeros(engine):
    layer, bottom, top = run_layer(NORM, [[[3.0, 0], [4, 0]]], dtype=np.float32)
    assert_close(top[0].data, [[[5, 0]]])
    top[0].diff[...] = 10
    layer.backward(top, [True], bottom)
    assert_close(bottom[0].diff, [[[6, 0], [8, 0]]])


def test_errors_name_the_layer():
    with pytest.raises(LayerError, match=r"^ChannelNorm layer 'layer': bottom 0 must be \(N, C, ...\), got \(3,\)"):
        top_of(NORM, np.zeros(3))
