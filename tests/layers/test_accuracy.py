"""Accuracy."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import CUDA, Case, LayerProperties, labels, normal, run_layer, top_of


def accuracy(text=""):
    return f"type: 'Accuracy' accuracy_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(accuracy(), [(9, 4), (9,)], [normal, labels(4)], gradient=()),
        Case(accuracy("top_k: 2 ignore_label: 1"), [(5, 4, 3), (5, 3)], [normal, labels(4)], gradient=(), num_top=2),
        Case(accuracy("axis: -1"), [(2, 3, 4), (2, 3)], [normal, labels(4)], gradient=(), num_top=2),
    ]


def test_values_against_a_loop(engine):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((20, 5)), rng.integers(0, 5, 20).astype(float)
    t[3] = t[11] = -1
    hits, count = np.zeros(5), np.zeros(5)
    for n in range(20):
        if t[n] >= 0:
            better = sum(x[n, k] > x[n, int(t[n])] for k in range(5))
            hits[int(t[n])] += better < 2
            count[int(t[n])] += 1
    _, _, top = run_layer(accuracy("top_k: 2 ignore_label: -1"), x, t, num_top=2, dtype=np.float32)
    np.testing.assert_allclose(top[0].data, hits.sum() / 18, rtol=1e-6)
    np.testing.assert_allclose(top[1].data, hits / count, rtol=1e-6)


def test_ties_count_against(engine):
    _, _, top = run_layer(accuracy(), [[1.0, 1.0, 1.0], [2.0, 1.0, 0.0]], [0.0, 0.0], dtype=np.float32)
    assert top[0].data == 0.5


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_a_nan_score_is_wrong(top_k, engine):
    """A nan score of the label is wrong for any top_k; other nan scores change nothing."""
    nan = np.nan
    x = [[nan, nan, nan], [nan, 0.0, 1.0], [0.0, nan, 1.0], [nan, 2.0, 1.0]]
    _, _, top = run_layer(accuracy(f"top_k: {top_k}"), x, [2.0, 0.0, 1.0, 1.0], num_top=2, dtype=np.float32)
    assert top[0].data == 0.25
    np.testing.assert_array_equal(top[1].data, [0, 0.5, 0])


def test_all_nan_in_double_precision(engine):
    x = np.full((4, 3, 2), np.nan)
    assert top_of(accuracy(), x, np.zeros((4, 2)), phase=1) == 0


def test_nothing_counted_is_zero(engine):
    _, _, top = run_layer(accuracy("ignore_label: 1"), np.zeros((2, 3)), [1.0, 1.0], num_top=2, dtype=np.float32)
    assert top[0].data == 0 and (top[1].data == 0).all()


def test_a_label_out_of_range_is_an_error_and_nan_on_the_gpu(engine):
    if engine == CUDA:
        assert np.isnan(top_of(accuracy(), np.zeros((2, 3)), [0.0, 3.0], dtype=np.float32))
        return
    with pytest.raises(
        LayerError, match="^Accuracy layer 'layer': label 3 is out of range: there are 3 classes, 0 to 2"
    ):
        run_layer(accuracy(), np.zeros((2, 3)), [0.0, 3.0], dtype=np.float32)


@pytest.mark.parametrize(
    ("text", "label_shape", "sentence"),
    [
        ("top_k: 4", (2,), "top_k must be at most the number of classes, 3, got 4"),
        ("", (2, 2), r"bottom 1 must hold one label for each position outside axis 1 .* 2 in all, got \(2, 2\)"),
    ],
)
def test_what_is_refused(text, label_shape, sentence):
    with pytest.raises(LayerError, match=sentence):
        run_layer(accuracy(text), np.zeros((2, 3)), np.zeros(label_shape))


def test_the_smallest_score_may_be_the_best(engine):
    """NormFace's min_is_better, for distances; also of the best two, and ties count against the label."""
    distances, labels = [[0.1, 2, 3], [0.5, 0.2, 9], [1, 1, 2]], [0, 0, 1]
    for top_k, share in ((1, 1 / 3), (2, 1)):
        text = f"type: 'Accuracy' accuracy_param {{ min_is_better: true top_k: {top_k} }}"
        np.testing.assert_allclose(top_of(text, distances, labels, dtype=np.float32), share, rtol=1e-6)
