"""FlowWarp; more tests of the sampler are in test_warp.py."""

import numpy as np
import pytest

from helpers.flow_loops import sampled
from minicaffe.testing import Case, LayerProperties, assert_close, normal, top_of

WARP = "type: 'FlowWarp'"
NAN = "type: 'FlowWarp' flow_warp_param { fill_value: NOT_A_NUMBER }"
SHAPES = [(2, 3, 4, 5), (2, 2, 4, 5)]


def between(rng, shape):
    """Displacements that end between places, some of them outside."""
    return rng.integers(-3, 3, shape) + rng.uniform(0.2, 0.8, shape)


class TestProperties(LayerProperties):
    cases = [Case(WARP, SHAPES, [normal, between])]


@pytest.mark.parametrize(("text", "fill"), [(WARP, 0), (NAN, np.nan)])
def test_against_loops(text, fill, engine):
    rng = np.random.default_rng(0)
    x, flow = rng.standard_normal(SHAPES[0]), between(rng, SHAPES[1])
    flow[0, :, 0, 0], flow[1, :, 1, 1], flow[1, :, 2, 2] = (4, 3), (0, 0), np.nan  # the last corner; a whole position
    expected = np.empty_like(x)
    for n, c, h, w in np.ndindex(x.shape):
        u, v = flow[n, :, h, w]
        value = None if np.isnan(u) else sampled(x[n, c], h + v, w + u, "edge")
        expected[n, c, h, w] = fill if value is None else value
    assert_close(top_of(text, x, flow, dtype=np.float32), expected)
