"""NormL2: samples of length 1."""

import numpy as np

from minicaffe.testing import Case, LayerProperties, assert_close, run_layer


class TestProperties(LayerProperties):
    cases = [Case("type: 'NormL2'", [(3, 4)]), Case("type: 'NormL2'", [(2, 3, 2, 2)])]


def test_it_takes_whole_samples(engine):
    x = np.random.default_rng(0).standard_normal((2, 3, 2, 2))
    layer, _, (top,) = run_layer("type: 'NormL2'", x, dtype=np.float32)
    assert not layer.blobs
    assert_close(top.data, x / np.sqrt((x**2).sum((1, 2, 3), keepdims=True)))
