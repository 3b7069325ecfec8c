"""Detections of two-stage detectors, by plain loops."""

import numpy as np
import pytest

from helpers import proposals
from minicaffe.inference.regions import detections


@pytest.mark.parametrize("agnostic", [False, True])
def test_detections(agnostic):
    rng, classes, size = np.random.default_rng(0), 4, (40, 50)
    corner = rng.uniform(0, 30, (25, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 15, (25, 2))], 1)
    scores, codes = rng.random((25, classes)), rng.standard_normal((25, 8 if agnostic else 4 * classes))
    stds, means = [0.1, 0.1, 0.2, 0.2], [0, 0.1, 0, 0]
    expected = []
    for label in range(1, classes):
        block = 4 * (1 if agnostic else label)
        found = []
        for box, score, code in zip(boxes, scores[:, label], codes[:, block : block + 4]):
            decoded = proposals.decode(box, code * stds + means)
            if score > 0.4:
                found.append((score, [max(0, min(c, size[1 - n % 2] - 1)) for n, c in enumerate(decoded)]))
        expected += [(label, score, *box) for score, box in proposals.proposals(found, 0, 0, 0.3)]
    expected = sorted(expected, key=lambda row: -row[1])[:15]
    got = detections(boxes, scores, codes, size, threshold=0.4, limit=15, means=means, stds=stds)
    np.testing.assert_allclose([(label, score, *box) for label, score, box in got], expected, rtol=1e-9)


def test_no_region():
    assert detections(np.zeros((0, 4)), np.zeros((0, 3)), np.zeros((0, 12)), (10, 10)) == []
