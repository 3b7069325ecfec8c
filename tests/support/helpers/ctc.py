"""CTC by a sum over all paths, for small sequences."""

import itertools

import numpy as np


def labels_of(path, blank, merge=True):
    """The labels that a path gives."""
    runs = [k for i, k in enumerate(path) if i == 0 or path[i - 1] != k or not merge]
    return [k for k in runs if k != blank]


def slow_cost(scores, labels, blank, merge=True):
    """-log of the probability of the labels, for scores (T, K) of one sequence; inf where there is no path."""
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    paths = itertools.product(range(scores.shape[1]), repeat=len(scores))
    return -np.log(
        sum(
            np.prod([p[t, k] for t, k in enumerate(path)])
            for path in paths
            if labels_of(path, blank, merge) == list(labels)
        )
        + 0.0
    )


def slow_gradient(scores, labels, blank, merge=True):
    """softmax - share of the paths through a class, at each step."""
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    share = np.zeros_like(p)
    for path in itertools.product(range(scores.shape[1]), repeat=len(scores)):
        if labels_of(path, blank, merge) == list(labels):
            probability = np.prod([p[t, k] for t, k in enumerate(path)])
            for t, k in enumerate(path):
                share[t, k] += probability
    return p - share / share[0].sum()
