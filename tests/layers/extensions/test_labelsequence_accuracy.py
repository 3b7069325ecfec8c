"""LabelsequenceAccuracy."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, labels, normal, top_of


def accuracy(blank):
    return f"type: 'LabelsequenceAccuracy' labelsequence_accuracy_param {{ blank_label: {blank} }}"


def scores(*rows, classes=4):
    """Scores (N, T, K) whose best classes are the rows."""
    return np.eye(classes)[np.array(rows)]


class TestProperties(LayerProperties):
    cases = [Case(accuracy(0), [(3, 5, 4), (3, 2)], [normal, labels(4)], ())]


@pytest.mark.parametrize("blank", [0, 3])
def test_values(engine, blank):
    a, b, _ = (k for k in range(4) if k != blank)
    x = scores(
        [a, a, blank, a, b], [blank, a, b, b, blank], [a, b, a, b, a], [blank] * 5, [a, a, a, a, blank], [a, b, b, b, b]
    )
    y = [[a, a, b], [blank, a, b], [a, b, a], [blank] * 3, [a, a, blank], [a, b, b]]
    #    right      right          too short  right        one a only   a run is one label
    np.testing.assert_allclose(top_of(accuracy(blank), x, y, dtype=np.float32), 3 / 6)


def test_without_sequences(engine):
    assert top_of(accuracy(0), np.zeros((0, 4, 3)), np.zeros((0, 2)), dtype=np.float32) == 0


def test_shapes_are_checked():
    with pytest.raises(LayerError, match=r"bottoms must be scores \(N, T, K\) and labels \(N, L\), got \(2, 3, 4\)"):
        build_layer(accuracy(0), np.zeros((2, 3, 4)), np.zeros((3, 1)))
