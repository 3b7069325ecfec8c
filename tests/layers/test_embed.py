"""Embed."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import CUDA, Case, LayerProperties, labels, run_layer, top_of


def embed(text="input_dim: 5 num_output: 3"):
    return f"type: 'Embed' embed_param {{ weight_filler {{ type: 'uniform' }} {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(embed(), [(4, 3)], labels(5), gradient=()),
        Case(embed("input_dim: 5 num_output: 2 bias_term: false"), [(12,)], labels(5), gradient=()),
    ]


def test_values():
    layer, bottom, top = run_layer(embed(), [[4.0, 0.0], [4.0, 2.0]])
    weights, bias = layer.blobs[0].data, layer.blobs[1].data
    bias[...] = [1, 2, 3]
    layer.forward(bottom, top)
    np.testing.assert_allclose(top[0].data, weights[np.array([[4, 0], [4, 2]])] + bias)


def test_an_index_out_of_range_is_an_error_and_nan_on_the_gpu(engine):
    if engine == CUDA:
        y = top_of(embed(), [1.0, 5.0], dtype=np.float32)
        assert np.isfinite(y[0]).all() and np.isnan(y[1]).all()
        return
    with pytest.raises(LayerError, match="^Embed layer 'layer': index 5 is out of range: there are 5 rows, 0 to 4"):
        run_layer(embed(), [1.0, 5.0])


def test_sizes_must_be_given():
    with pytest.raises(LayerError, match="num_output and input_dim must be given, got 3 and 0"):
        run_layer(embed("num_output: 3"), [1.0])
