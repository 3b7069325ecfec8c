"""Mish: values, and the gradient."""

from math import exp, log, tanh

import numpy as np

from minicaffe.testing import Case, LayerProperties, assert_close, top_of


class TestProperties(LayerProperties):
    cases = [Case("type: 'Mish'", [(2, 3, 4)]), Case("type: 'Mish'", [(5,)])]


def test_values(engine):
    x = np.array([-20, -3, -1, 0, 0.5, 2, 30], np.float32)
    assert_close(top_of("type: 'Mish'", x, dtype=np.float32), [each * tanh(log(1 + exp(each))) for each in x.tolist()])


def test_values_far_from_0_do_not_overflow(engine):
    assert top_of("type: 'Mish'", np.array([-1e4, 1e4], np.float32), dtype=np.float32).tolist() == [0, 1e4]
