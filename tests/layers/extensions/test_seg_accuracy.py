"""SegAccuracy, against counts pixel by pixel."""

import numpy as np
import pytest

from minicaffe.errors import LayerError, SnapshotError
from minicaffe.testing import build_layer, run_layer, top_of

pytestmark = pytest.mark.layers("SegAccuracy")


def accuracy(text=""):
    return f"type: 'SegAccuracy' seg_accuracy_param {{ {text} }}"


def counted(scores, labels, ignored=()):
    """Accuracy, mean recall and mean IoU, class by class."""
    pairs = []
    for n, h, w in np.ndindex(labels[:, 0].shape):
        if labels[n, 0, h, w] not in ignored:
            own = scores[n, :, h, w]
            pairs.append((labels[n, 0, h, w], max(k for k in range(len(own)) if own[k] == own.max())))
    recalls, overlaps = [], []
    for k in range(scores.shape[1]):
        true, predicted = ({i for i, pair in enumerate(pairs) if pair[side] == k} for side in (0, 1))
        recalls += [len(true & predicted) / len(true)] if true else []
        overlaps.append(len(true & predicted) / len(true | predicted) if true | predicted else 1)
    return [np.mean([a == b for a, b in pairs]), np.mean(recalls), np.mean(overlaps)]


def batch(seed, classes=4, ties=True):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (2, classes, 3, 5)) if ties else rng.standard_normal((2, classes, 3, 5))
    return scores.astype(float), rng.integers(0, classes - 1, (2, 1, 3, 5)).astype(float)


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_recall_and_overlap(seed, engine):
    """The last class has no label; with scores that are equal the later class is predicted."""
    scores, labels = batch(seed, ties=seed > 0)
    y = top_of(accuracy(), scores, labels, dtype=np.float32)
    assert y.shape == (1, 1, 1, 3)
    np.testing.assert_allclose(y.ravel(), counted(scores, labels), rtol=1e-6)


def test_labels_that_are_ignored():
    scores, labels = batch(5)
    labels[0] = 255
    y = top_of(accuracy("ignore_label: 255 ignore_label: 1"), scores, labels)
    np.testing.assert_allclose(y.ravel(), counted(scores, labels, {255, 1}))
    y = top_of(accuracy("ignore_label: 255"), scores, np.full_like(labels, 255))
    np.testing.assert_array_equal(y.ravel(), [0, 0, 1])


def test_a_class_that_is_nowhere_has_the_iou_1():
    scores = np.zeros((1, 3, 1, 2))
    scores[0, 0] = 1
    np.testing.assert_allclose(top_of(accuracy(), scores, np.zeros((1, 1, 1, 2))).ravel(), [1, 1, 1])


def test_nan_is_no_prediction():
    scores = np.array([np.nan, 0.0, np.nan]).reshape(1, 3, 1, 1)
    assert top_of(accuracy(), scores, np.ones((1, 1, 1, 1))).ravel()[0] == 1


def test_without_reset_all_batches_count_and_a_state_continues():
    data = [batch(seed, ties=False) for seed in range(3)]
    layer, bottom, top = build_layer(accuracy("reset: false"), *data[0])

    def run(number):
        for blob, values in zip(bottom, data[number]):
            blob.data[...] = values
        layer.forward(bottom, top)
        return top[0].data.ravel().copy()

    run(0)
    state = layer.state()
    after_all = [run(1), run(2)][-1]
    expected = counted(*(np.concatenate(each) for each in zip(*data)))
    np.testing.assert_allclose(after_all, expected)
    layer.load_state(state)
    np.testing.assert_array_equal([run(1), run(2)][-1], after_all)
    with pytest.raises(SnapshotError, match="matrix must be lists of numbers"):
        layer.load_state({**state, "matrix": [[1]]})


@pytest.mark.parametrize(("scores", "labels", "words"), [
    ((1, 3, 2, 2), np.full((1, 1, 2, 2), 3), "label 3 is out of range: there are 3 classes, 0 to 2"),
    ((1, 3, 2, 2), np.zeros((1, 1, 2, 3)), r"bottoms must be \(N, K, H, W\) and \(N, 1, H, W\), got \(1, 3, 2, 2\)"),
])  # fmt: skip
def test_errors_name_the_layer(scores, labels, words):
    with pytest.raises(LayerError, match=f"SegAccuracy layer 'layer': {words}"):
        run_layer(accuracy(), np.zeros(scores), labels)
