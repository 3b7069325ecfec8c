"""EltwiseAffine."""

import numpy as np

from minicaffe.testing import Case, LayerProperties, assert_close, run_layer


def affine(text=""):
    fillers = "slope_filler { type: 'gaussian' std: 1 } bias_filler { type: 'gaussian' std: 1 }"
    return f"type: 'EltwiseAffine' eltwise_affine_param {{ {fillers} {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(affine(), [(2, 3, 2, 2)]),
        Case(affine("channel_shared: true"), [(2, 3, 4)]),
        Case(affine(), [(4, 3)]),
    ]


def test_values_and_default_fillers(engine):
    x = np.arange(12.0).reshape(1, 3, 2, 2)
    layer, _, (top,) = run_layer("type: 'EltwiseAffine'", x, dtype=np.float32)
    assert [blob.shape for blob in layer.blobs] == [(3,), (3,)]
    assert_close(top.data, 1.0001 * x + 0.0001, rtol=1e-6)
