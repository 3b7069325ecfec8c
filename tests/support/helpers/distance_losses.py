"""Cases of losses of distances from classes: GeneralTripletLoss, GeneralContrastiveLoss."""

import math

import numpy as np

from minicaffe.testing import Case, labels, run_layer


def spread(rng, shape):
    """Distances from 0 to 3, all different."""
    return rng.permutation(np.linspace(0.01, 3, math.prod(shape))).reshape(shape)


def case(text, **options):
    """A case of distances and labels of 5 classes."""
    return Case(text, [(6, 5), (6,)], [spread, labels(5)], **{"gradient": [0], **options})


def passes(text, d, t, *more, tops=2):
    """The losses, their statistics and the gradient of distances d (N, K), labels t."""
    layer, bottom, top = run_layer(text + " loss_weight: 2 loss_weight: 0", d, t, *more, num_top=tops, dtype=np.float32)
    bottom[0].diff[...] = 99
    layer.backward(top, [True, *[False] * (len(bottom) - 1)], bottom)
    return float(top[0].data), top[1].data.copy(), bottom[0].diff.copy() / 2
