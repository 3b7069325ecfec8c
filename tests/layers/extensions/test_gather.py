"""Gather, with one machine."""

import numpy as np

from minicaffe.testing import Case, LayerProperties, run_layer


class TestProperties(LayerProperties):
    cases = [Case("type: 'Gather'", [(2, 3), (4,)], num_top=2), Case("type: 'Gather'", [(2, 3, 4, 5)])]


def test_the_tops_are_the_bottoms(engine):
    x = [np.arange(6.0).reshape(2, 3), np.arange(4.0)]
    tops = run_layer("type: 'Gather'", *x, num_top=2)[2]
    assert all(np.array_equal(top.data, values) for top, values in zip(tops, x, strict=True))
