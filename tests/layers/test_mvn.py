"""MVN."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, top_of


def mvn(text=""):
    return f"type: 'MVN' mvn_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(mvn(), [(2, 3, 3, 2)]),
        Case(mvn("across_channels: true"), [(2, 3, 2, 2)]),
        Case(mvn("normalize_variance: false"), [(2, 3, 4)]),
        Case(mvn("normalize_variance: false across_channels: true"), [(3, 5)]),
    ]


def test_values():
    x = np.random.default_rng(0).normal(3, 2, (2, 3, 4, 5))
    y = np.empty_like(x)
    for n, c in np.ndindex(2, 3):
        y[n, c] = (x[n, c] - x[n, c].mean()) / (x[n, c].std() + 0.5)  # eps outside the root
    assert_close(top_of(mvn("eps: 0.5"), x), y, rtol=1e-9)


def test_a_vector_is_refused():
    with pytest.raises(LayerError, match=r"^MVN layer 'layer': bottom 0 must be \(N, C, ...\), got \(3,\)"):
        top_of(mvn(), np.zeros(3))
