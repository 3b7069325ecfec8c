"""MPELU, beyond what test_m2pelu.py tests of both."""

import numpy as np

from minicaffe.testing import Case, LayerProperties, assert_close, distinct, run_layer

FILLERS = "alpha_filler { type: 'uniform' min: 0.5 max: 2 } beta_filler { type: 'uniform' min: 0.5 max: 2 }"
GAMMA = "gamma_filler { type: 'gaussian' std: 0.5 }"


def mpelu(text):
    return f"type: 'MPELU' mpelu_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(mpelu(f"{FILLERS} {GAMMA}"), [(2, 3, 2, 2)], distinct),
        Case(mpelu(f"{FILLERS} {GAMMA} channel_shared: true"), [(2, 3, 4)], distinct),
    ]


def test_fillers_are_1_and_that_of_gamma_is_0():
    layer, *_ = run_layer(mpelu(""), np.ones((1, 2)))
    assert [blob.data.tolist() for blob in layer.blobs] == [[1, 1], [1, 1], [0, 0]]


def test_gamma_counts_for_negative_numbers_alone(engine):
    shifted = mpelu("gamma_filler { value: 0.5 }")
    *_, (top,) = run_layer(shifted, [[2.0, 0, -1]], dtype=np.float32)
    assert_close(top.data, [[2, 0, np.exp(-0.5) - np.exp(0.5)]])
