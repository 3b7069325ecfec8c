"""ContinuationIndicator."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, run_layer, top_of


def indicator(text):
    return f"type: 'ContinuationIndicator' continuation_indicator_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(indicator("time_step: 3 batch_size: 2"), [], gradient=()),
        Case(indicator("time_step: 3 axis: 1"), [(2, 4)]),
    ]


def test_values(engine):
    expected = [[0, 0], [1, 1], [1, 1]]
    np.testing.assert_array_equal(top_of(indicator("time_step: 3 batch_size: 2"), dtype=np.float32), expected)
    np.testing.assert_array_equal(top_of(indicator("time_step: 3"), np.zeros((2, 4)), dtype=np.float32), expected)
    np.testing.assert_array_equal(
        top_of(indicator("time_step: 3 axis: -1"), np.zeros((4, 2)), dtype=np.float32), expected
    )


def test_it_is_written_in_each_pass(engine):
    layer, bottom, top = run_layer(indicator("time_step: 2 batch_size: 1"), dtype=np.float32)
    top[0].data[...] = 7
    layer.forward(bottom, top)
    np.testing.assert_array_equal(top[0].data, [[0], [1]])


@pytest.mark.parametrize(
    ("text", "message"), [("batch_size: 2", "time_step must"), ("time_step: 2", "batch_size must")]
)
def test_what_must_be_given(text, message):
    with pytest.raises(LayerError, match=f"^ContinuationIndicator layer 'layer': {message} be at least 1"):
        build_layer(indicator(text))
