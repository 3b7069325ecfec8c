"""SegmentationEvaluate: intersections over unions."""

import numpy as np
import pytest

from minicaffe.data.image import resize
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, positive, top_of

SHAPE = (2, 3, 6, 8)


def evaluate(text="num_classes: 3"):
    return f"type: 'SegmentationEvaluate' segmentation_evaluate_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(evaluate(), [SHAPE, SHAPE], positive, gradient=()),
        Case(evaluate("num_classes: 3 threshold: 0.3"), [(2, 3, 3, 4), SHAPE], positive, gradient=()),
    ]


def share(found, true, absent):
    shared = union = places = 0
    for at in np.ndindex(*found.shape):
        shared += found[at] and true[at]
        union += found[at] or true[at]
        places += true[at]
    return shared / union if shared else absent if not places else 0


def test_values():
    rng = np.random.default_rng(0)
    x, true = rng.random(SHAPE), rng.random(SHAPE)
    x[:, 1], true[:, 2] = 0, 0
    got = top_of(evaluate("num_classes: 3 threshold: 0.4"), x, true, dtype=np.float32)
    assert got.shape == (1, 1, 1, 3)
    assert_close(got.ravel(), [share(x[:, c] > 0.4, true[:, c] > 0.4, 0) for c in range(3)])
    assert got.ravel()[0] > 0 and got.ravel()[1:].tolist() == [0, 0]


@pytest.mark.parametrize("size", [(3, 4), (12, 16)])
def test_predictions_of_another_size_are_resized_as_bytes(size):
    rng = np.random.default_rng(0)
    x, true = rng.random((2, 3, *size)).astype(np.float32), rng.random(SHAPE)
    true[:, 2] = 0
    got = top_of(evaluate("num_classes: 3 threshold: 0.4"), x, true, dtype=np.float32)
    pixels = np.stack([resize((each * np.float32(255)).astype(np.uint8), 6, 8, "AREA") for each in x])
    expected = [share(pixels[:, c] > 102, true[:, c] > 0.4, -1) for c in range(3)]
    assert_close(got.ravel(), expected)
    assert got.ravel()[0] > 0 and got.ravel()[2] == -1


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        ("", [SHAPE, SHAPE], "num_classes must be given"),
        ("num_classes: 2", [SHAPE, SHAPE], r"bottoms 0 and 1 must be \(N, 2, h, w\) and \(N, 2, H, W\), num_classes"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^SegmentationEvaluate layer 'layer': {words}"):
        top_of(evaluate(text), *map(np.zeros, shapes))
