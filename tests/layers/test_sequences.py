"""Sequences of labels: layers/shared/sequences.py."""

import numpy as np
import pytest

from minicaffe.layers.shared.sequences import best_path, edit_distance, without


def slow_distance(a, b):
    if not a or not b:
        return len(a) + len(b)
    return min(
        slow_distance(a[1:], b) + 1, slow_distance(a, b[1:]) + 1, slow_distance(a[1:], b[1:]) + (a[0] != b[0])
    )  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "distance"), [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("", "", 0), ("ab", "ba", 2)]
)
def test_known_distances(a, b, distance):
    assert edit_distance(np.array([ord(c) for c in a]), np.array([ord(c) for c in b])) == distance


def test_distances_of_random_sequences():
    rng = np.random.default_rng(0)
    for _ in range(60):
        a, b = (rng.integers(0, 3, rng.integers(0, 6)) for _ in range(2))
        assert edit_distance(a, b) == slow_distance(a.tolist(), b.tolist())


@pytest.mark.parametrize("merge", [True, False])
def test_the_best_path(merge):
    best = [[1, 1, 0, 1, 2], [0, 0, 0, 0, 0]]
    found = best_path(np.eye(3)[best], 0, merge)
    assert [row.tolist() for row in found] == [[1, 1, 2] if merge else [1, 1, 1, 2], []]


def test_labels_without_padding():
    assert [row.tolist() for row in without(np.array([[1, 0, 2], [0, 0, 0]]), 0)] == [[1, 2], []]
