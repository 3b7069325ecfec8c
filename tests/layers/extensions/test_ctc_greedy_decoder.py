"""CTCGreedyDecoder."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, labels, normal, top_of

BEST = [[1, 1, 0, 1, 2], [0, 0, 0, 0, 0], [2, 2, 2, 1, 0]]


def decoder(text=""):
    return f"type: 'CTCGreedyDecoder' ctc_decoder_param {{ {text} }}"


def scores(best=BEST, classes=3):
    return np.eye(classes)[np.transpose(best)]


class TestProperties(LayerProperties):
    cases = [
        Case(decoder(), [(5, 3, 4)], gradient=()),
        Case(decoder("blank_index: -1"), [(5, 3, 4), (3, 2)], [normal, labels(4)], gradient=()),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [[1, 1, 2, -1, -1], [-1] * 5, [2, 1, -1, -1, -1]]),
        ("ctc_merge_repeated: false", [[1, 1, 1, 2, -1], [-1] * 5, [2, 2, 2, 1, -1]]),
        ("blank_index: -1", [[1, 0, 1, -1, -1], [0, -1, -1, -1, -1], [1, 0, -1, -1, -1]]),
    ],
)
def test_decoded(engine, text, expected):
    found = top_of(decoder(text), scores(), dtype=np.float32)
    np.testing.assert_array_equal(found, np.reshape(expected, (3, 5, 1, 1)))


def test_compared(engine):
    given = [[1, 0, 1, 2], [0, 0, -1, 1], [2, 2, 1, 0]]  # right; both empty; one label too many of three
    found = top_of(decoder(), scores(), given, dtype=np.float32)
    np.testing.assert_allclose(found, np.reshape([1 - (0 + 0 + 1 / 3) / 3, 2 / 3], (1, 2, 1, 1)), rtol=1e-6)


def test_shapes_are_checked():
    with pytest.raises(LayerError, match=r"bottom 0 must be scores \(T, N, K\), got \(5, 3\)"):
        build_layer(decoder(), np.zeros((5, 3)))
    with pytest.raises(LayerError, match=r"bottom 1 must be labels \(N, L\) with N = 3, got \(2, 4\)"):
        build_layer(decoder(), np.zeros((5, 3, 4)), np.zeros((2, 4)))
