"""MultiBoxLoss."""

import numpy as np
import pytest

from helpers.multibox import Reference, param_of, priors_of, random_text, truth_of
from minicaffe.testing import assert_close, build_layer

IMAGES, PRIORS, ROWS = 3, 14, 7


def layer_text(text, more=""):
    return f"type: 'MultiBoxLoss' {more} multibox_loss_param {{ {text} }}"


def scene(rng, classes, sets, background=0):
    """Locations (N, P, L, 4), scores (N, P, K), priors (2, P, 4), rows (M, 8), as float32."""
    arrays = (
        0.7 * rng.standard_normal((IMAGES, PRIORS, sets, 4)),
        2 * rng.standard_normal((IMAGES, PRIORS, classes)),
        np.stack(priors_of(rng, PRIORS)),
        truth_of(rng, IMAGES, ROWS, classes, background),
    )
    return [array.astype(np.float32) for array in arrays]


def bottoms(loc, conf, priors, truth, *first):
    """The values in the shapes of bottoms."""
    shaped = [loc.reshape(len(loc), -1), conf.reshape(len(conf), -1), priors.reshape(1, 2, -1), truth[None, None]]
    return shaped + [each.reshape(len(each), -1) for each in first]


@pytest.mark.parametrize("seed", range(120))
def test_against_plain_loops(seed, engine):
    rng = np.random.default_rng(seed)
    text, classes, sets = random_text(rng)
    param = param_of(text)
    loc, conf, priors, truth = scene(rng, classes, sets, param.background_label_id)
    first = []
    if param.share_location and seed % 3 == 0:
        objectness, moved = rng.random((IMAGES, PRIORS, 2)), 0.3 * rng.standard_normal((IMAGES, PRIORS, 4))
        first = [each.astype(np.float32) for each in (objectness, moved)][: 1 + seed % 2]
    divisor = ("VALID", "FULL", "BATCH_SIZE", "NONE")[seed % 4]
    more = f"loss_param {{ normalization: {divisor} }}"
    layer, bottom, top = build_layer(
        layer_text(text, more), *bottoms(loc, conf, priors, truth, *first), dtype=np.float32
    )
    arrays = [each.astype(float) for each in (loc, conf, *priors, truth, *first)]
    expected = Reference(param, *arrays[:5], divisor, *arrays[5:])
    for _ in range(2):  # a second pass does not use the matches of the first
        layer.forward(bottom, top)
    assert_close(top[0].data, sum(expected.loss), "loss")
    layer.backward(top, [True, True] + [False] * len(bottom[2:]), bottom)
    for blob, diff in zip(bottom, expected.dx):
        assert_close(blob.diff.reshape(diff.shape), diff, "gradient")
