"""Nets in the form of public single-shot detectors: losses, gradients of all layers, and training."""

import numpy as np
import pytest

import minicaffe
from helpers import detectors

CLASSES, BOXES = 4, 6
NETS = {
    "mobilenet_ssd": (detectors.mobilenet_ssd, (2, 3, 48, 48), dict(classes=CLASSES), 0.05, 6 * 6 * 3 + 3 * 3 * 6),
    "faceboxes": (detectors.faceboxes, (2, 3, 128, 128), {}, 0.05, 4 * 4 * 21 + 2 * 2),
    "refinedet": (detectors.refinedet, (2, 3, 32, 32), dict(classes=CLASSES), 0.002, 8 * 8 * 3 + 4 * 4 * 3),
}


def scene(shape, classes):
    """Noise with bright rectangles, of the channel of their class; three in each image."""
    rng, (images, _, height, width) = np.random.default_rng(0), shape
    data, label = 0.1 * rng.standard_normal(shape), np.full((1, 1, BOXES, 8), -1.0)
    for row in range(BOXES):
        image, kind = row % images, 1 + row % (classes - 1)
        x1, y1 = rng.uniform(0, 0.3, 2)
        x2, y2 = (x1, y1) + rng.uniform(0.25, 0.7, 2)
        data[image, kind - 1, int(y1 * height) : int(y2 * height), int(x1 * width) : int(x2 * width)] += 1
        label[0, 0, row] = image, kind, row // images, x1, y1, x2, y2, 0
    return data, label


def build(name, dtype=np.float32, **more):
    """The net with a drawn scene, the rate at which it trains, and the number of its priors."""
    make, shape, options, rate, priors = NETS[name]
    minicaffe.set_random_seed(1)
    net = minicaffe.Net(make(shape, BOXES, **options, **more), phase=minicaffe.TRAIN, dtype=dtype)
    net.blobs["data"].data[...], net.blobs["label"].data[...] = scene(shape, options.get("classes", 2))
    return net, rate, priors


def loss(net):
    net.clear_param_diffs()
    return net.forward_backward()


@pytest.mark.parametrize("name", NETS)
def test_every_layer_learns_and_the_loss_falls(name, engine):
    net, rate, priors = build(name)
    losses = [loss(net)]
    first = "arm_priorbox" if name == "refinedet" else "mbox_priorbox"
    assert net.blobs[first].shape == (1, 2, 4 * priors)
    for blobs in net.params.values():
        for blob in blobs:
            assert np.isfinite(blob.diff).all()
    without = [layer for layer, blobs in net.params.items() if not any(blob.diff.any() for blob in blobs)]
    assert [net.layer_dict[each].type for each in without] == ["BatchNorm"] * len(without)
    for _ in range(10):
        for blob, lr in zip(net.learnable_params, net.lr_mults):
            blob.data[...] -= rate * lr * blob.diff
        losses.append(loss(net))
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.7 * losses[0], losses


@pytest.mark.parametrize("name", ["mobilenet_ssd", "faceboxes"])
def test_the_gradient_is_the_derivative(name):
    """In float64, of two weights of each convolution; a small step does not change which priors are mined."""
    net, _, _ = build(name, np.float64)
    loss(net)
    found = {each: blobs[0].diff.copy() for each, blobs in net.params.items()}
    rng = np.random.default_rng(0)
    for layer, blobs in net.params.items():
        if net.layer_dict[layer].type != "Convolution":
            continue
        values = blobs[0].data
        for at in rng.permutation(values.size)[:2]:
            losses = []
            for step in (1e-6, -2e-6):
                values.flat[at] += step
                losses.append(net.forward()["mbox_loss"].item())
            values.flat[at] += 1e-6
            np.testing.assert_allclose(
                found[layer].flat[at], (losses[0] - losses[1]) / 2e-6, rtol=1e-4, atol=1e-6, err_msg=layer
            )


def test_the_second_loss_does_not_move_the_first_head(engine):
    """The moved priors of RefineDet's odm_loss are constants to it; the maps below both heads get both gradients."""
    both, first = (build("refinedet", odm_weight=weight)[0] for weight in (1, 0))
    loss(both)
    loss(first)
    for layer, blobs in first.params.items():
        same = all(np.allclose(blob.diff, other.diff, rtol=1e-4) for blob, other in zip(blobs, both.params[layer]))
        assert same == ("_arm_" in layer), layer
