"""ShuffleChannel."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer, top_of


def shuffle(group):
    return f"type: 'ShuffleChannel' shuffle_channel_param {{ group: {group} }}"


class TestProperties(LayerProperties):
    cases = [Case(shuffle(3), [(2, 6, 2, 2)]), Case(shuffle(2), [(3, 4)])]


def test_values():
    x = np.arange(6.0).reshape(1, 6)
    np.testing.assert_array_equal(top_of(shuffle(2), x), [[0, 3, 1, 4, 2, 5]])


def test_a_group_that_does_not_divide_is_refused():
    with pytest.raises(LayerError, match=r"group must divide the channels of bottom 0 \(1, 6\), got 4"):
        run_layer(shuffle(4), np.zeros((1, 6)))
