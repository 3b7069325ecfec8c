"""Cases of layers that change the score of the label: LabelSpecificAdd, CombinedMargin, CosinAddm."""

import math

import numpy as np

from minicaffe.testing import Case, labels, run_layer


def cosines(rng, shape):
    """Cosines away from -1 and 1, from thresholds of these tests' margins, and from each other."""
    return rng.permutation(np.linspace(-0.93, 0.95, math.prod(shape))).reshape(shape)


def case(text, shape=(6, 5), **options):
    """A case of cosines and labels of 5 classes."""
    return Case(text, [shape, shape[:1]], [cosines, labels(5)], gradient=[0], **options)


def changed(text, x, t, **options):
    """The top, and the gradient for a top diff of ones."""
    layer, bottom, top = run_layer(text, x, t, dtype=np.float32, **options)
    top[0].diff[...] = 1
    layer.backward(top, [True, False], bottom)
    return top[0].data.copy(), bottom[0].diff.copy()
