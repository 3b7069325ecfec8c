"""Whole nets in training: loss and gradients with oneDNN are those of the numpy layers."""

import numpy as np
import pytest

import minicaffe
from helpers.engines import needs_onednn
from minicaffe.models import zoo
from minicaffe.testing import NUMPY, ONEDNN

pytestmark = needs_onednn


def built(engine, make, options):
    minicaffe.set_random_seed(3)
    with engine.chosen():
        net = minicaffe.Net(make(**options), phase=minicaffe.TRAIN)
    rng = np.random.default_rng(0)
    net.blobs["data"].data = rng.standard_normal(net.blobs["data"].shape)
    net.blobs["label"].data = rng.integers(0, 2, net.blobs["label"].shape)
    for blobs in net.params.values():
        for blob in blobs:
            if len(blob.shape) > 1:
                blob.data = rng.standard_normal(blob.shape) * np.sqrt(2 / np.prod(blob.shape[1:]))
    return net


@pytest.mark.parametrize(
    "name, options",
    [
        ("squeezenet", dict(batch=2, size=95)),
        ("densenet121", dict(batch=2, size=64, growth=8)),
        ("unet", dict(batch=1, size=188, width=4)),
        ("cifar_resnet", dict(batch=2)),
    ],
)
def test_training(name, options):
    plain, fast = (built(engine, getattr(zoo, name), options) for engine in (NUMPY, ONEDNN))
    for _ in range(2):
        losses = []
        for net in (plain, fast):
            net.clear_param_diffs()
            losses.append(net.forward_backward())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and fast.fused
    for layer, blobs in plain.params.items():
        largest = max(float(np.abs(blob.read_diff()).max()) for blob in blobs)
        for a, b in zip(blobs, fast.params[layer], strict=True):
            # rounding decides the sign of ReLU inputs close to 0, so single numbers may differ by more
            assert np.abs(a.read_diff() - b.read_diff()).max() <= 0.05 * largest + 1e-6, layer
            np.testing.assert_allclose(b.read_data(), a.read_data(), rtol=1e-3, atol=1e-3, err_msg=layer)
