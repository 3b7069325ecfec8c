"""EvalDetection: the boxes of YOLO v1 and v2, compared with the true ones."""

import numpy as np
import pytest

from helpers.yolo import as_rows, box_of, logistic, overlap, suppressed, true_boxes
from helpers.yolo_cells import in_image, labels_of, predictions
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, normal, top_of

CELLS = [(3, 9 * 13), (3, 63)]
ANCHORS = [(0.9, 1.2), (1.5, 0.8)]
BIASES = " ".join(f"biases: {side}" for anchor in ANCHORS for side in anchor)
MAP = (3, 16, 3, 3)


def evaluate(text=""):
    return f"type: 'EvalDetection' eval_detection_param {{ side: 3 num_class: 3 threshold: 0.1 {text} }}"


def rows_of_boxes(rng, shape):
    return as_rows(true_boxes(rng, 3, 20, 3))[:, :, : shape[2]]


class TestProperties(LayerProperties):
    cases = [
        Case(evaluate(), CELLS, [predictions, labels_of(3, 0.4)], gradient=()),
        Case(
            evaluate(f"nms: 0.4 {BIASES}"),
            [MAP, (1, 1, 9, 8), (3, 3, 6, 6)],
            [normal, rows_of_boxes, normal],
            gradient=(),
        ),
    ]  # fmt: skip


def expected_row(found, true, length):
    """The row of an image: found, (score, label, box); true, (label, box, counts)."""
    row = [sum(counts for label, _, counts in true if label == c) for c in range(3)]
    for c in range(3):
        taken = set()
        for score, _, box in sorted((each for each in found if each[1] == c), key=lambda each: -each[0]):
            own = [(overlap(box, other), i, counts) for i, (label, other, counts) in enumerate(true) if label == c]
            share, i, counts = max(own, default=(0, -1, True), key=lambda each: each[0])
            right = share >= 0.1 and counts and i not in taken
            taken |= {i} if right else set()
            row += [c, score, right, not right and not (share >= 0.1 and not counts)]
    return np.array(row + [0] * (length - len(row)), float)


SCORES = {"OBJ": lambda p, q: p, "PROB": lambda p, q: q, "MULTIPLY": lambda p, q: p * q}


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize(("nms", "roots", "inside"), [(-1, True, True), (0.2, False, True), (0.3, True, False)])
def test_v1(kind, nms, roots, inside):
    rng = np.random.default_rng(3)
    x, labels = predictions(rng, CELLS[0]), labels_of(3, 0.8)(rng, CELLS[1])
    flags = f"sqrt: {str(roots).lower()} constriant: {str(inside).lower()}"
    got = top_of(evaluate(f"nms: {nms} score_type: {kind} {flags}"), x, labels)
    assert got.shape == (3, 3 + 4 * 18) and got[:, 3:].reshape(3, -1, 4)[:, :, 2].sum() > 2
    for n, row in enumerate(got):
        found = []
        for cell in range(9):
            p = x[n, cell::9]
            for k in range(2):
                box = in_image(p[5 + 4 * k : 9 + 4 * k], cell, 3, roots, inside)
                found.append((SCORES[kind](p[3 + k], p[:3].max()), int(p[:3].argmax()), box))
        if nms >= 0:
            found = suppressed(found, np.float32(nms))
        true = [
            (labels[n, 18 + cell], labels[n, 27 + 4 * cell : 31 + 4 * cell], not labels[n, cell])
            for cell in range(9)
            if labels[n, 9 + cell]
        ]
        assert_close(row, expected_row(found, true, 75), rtol=1e-6)


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("nms", [-1, 0.2])
def test_v2(kind, nms):
    rng = np.random.default_rng(4)
    x, labels = rng.standard_normal(MAP) * 2, true_boxes(rng, 3, 6, 3)
    got = top_of(evaluate(f"nms: {nms} score_type: {kind} {BIASES}"), x, as_rows(labels))
    for n, row in enumerate(got):
        found = []
        for k, j, i in np.ndindex(2, 3, 3):
            code = x[n, 8 * k : 8 * k + 8, j, i]
            box = box_of(code[:4], i, j, 3, 3, (ANCHORS[k][0] / 3, ANCHORS[k][1] / 3))
            p, q = logistic(code[4]), np.exp(code[5:]) / np.exp(code[5:]).sum()
            found += [(SCORES[kind](p, q[c]), c, box) for c in range(3) if p * q[c] > 0.005]
        if nms >= 0:
            found = [each for c in range(3) for each in suppressed([f for f in found if f[1] == c], np.float32(nms))]
        found = sorted(found, key=lambda each: -each[0])[:18]  # as many as the top has room for
        true = [(int(label), box, True) for label, *box in labels[n, 0] if box[2]]
        assert_close(row, expected_row(found, true, 75), rtol=1e-6)
    assert got[:, 3:].reshape(3, -1, 4)[:, :, 2].sum() > 2


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        (evaluate(), [(3, 116), (3, 63)], r"bottom 0 must be \(N, 117\)"),
        (
            evaluate(BIASES),
            [(3, 16, 4, 4), (1, 1, 1, 8)],
            r"bottoms 0 and 1 must be a map \(3, 16, 3, 3\) and",
        ),
        (evaluate(BIASES), [(3, 15, 3, 3), (1, 1, 1, 8)], r"bottom 0 must be \(N, 16, H, W\)"),
        (evaluate("biases: 1 biases: 2"), [MAP, (1, 1, 1, 8)], "biases must give anchor 1, got 1 anchors"),
        (evaluate(BIASES), [MAP, (1, 1, 1, 8)], "label -1 is out of range: there are 3 classes, 0 to 2"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^EvalDetection layer 'layer': {words}"):
        top_of(text, *map(np.zeros, shapes))
