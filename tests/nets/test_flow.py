"""Nets in the form of public ones for optical flow (PWC-Net, LiteFlowNet, FlowNet 2.0), and of DetectNet."""

import numpy as np
import pytest

import minicaffe
from helpers import flow_nets
from minicaffe.data.db import open_db
from minicaffe.proto import caffe_pb2, upgrade_net

NETS = {"pwc_net": 0.002, "lite_flow_net": 0.0005, "flow_net2": 0.0003}  # with learning rates
SUMS = ("sum", "sum0", "sum1")  # of LiteFlowNet: convolutions that do not learn
SIZE = (24, 32)


def moved_pictures(seed, shift=None):
    """Two smooth pictures of which the second is shifted, and the flow between them, unknown at the left."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((3, *SIZE))
    smooth = sum(np.roll(noise, (i, j), (1, 2)) for i in range(3) for j in range(3)) / 3
    down, right = rng.integers(-3, 4, 2) if shift is None else shift
    flow = np.broadcast_to(np.array([right, down], float)[:, None, None], (2, *SIZE)).copy()
    flow[:, :, :9] = np.nan
    return smooth, np.roll(smooth, (down, right), (1, 2)), flow


def build(make, *arguments, dtype=np.float32):
    minicaffe.set_random_seed(1)
    return minicaffe.Net(upgrade_net(make(*arguments)), phase=minicaffe.TRAIN, dtype=dtype)


def with_pictures(name, dtype=np.float32):
    net = build(getattr(flow_nets, name), SIZE, dtype=dtype)
    for blob, values in zip(("image0", "image1", "flow"), zip(*map(moved_pictures, range(2)))):
        net.blobs[blob].data[...] = values
    return net


def train(net, rate, count):
    losses = []
    for _ in range(count):
        net.clear_param_diffs()
        losses.append(net.forward_backward())
        assert all(np.isfinite(blob.diff).all() for blobs in net.params.values() for blob in blobs)
        for blob, lr in zip(net.learnable_params, net.lr_mults):
            blob.data[...] -= rate * lr * blob.diff
    return losses


@pytest.mark.parametrize("name", NETS)
def test_every_layer_learns_and_the_loss_falls(name, engine):
    net = with_pictures(name)
    losses = train(net, NETS[name], 1)
    still = [layer for layer, blobs in net.params.items() if not any(blob.diff.any() for blob in blobs)]
    assert set(still) <= {"crop0", "crop1", *SUMS}
    losses += train(net, NETS[name], 9)
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.9 * losses[0], losses


@pytest.mark.parametrize("name", NETS)
def test_the_gradient_is_the_derivative(name):
    """In float64, of two weights of each convolution whose inputs are not whole positions."""
    net = with_pictures(name, np.float64)
    net.clear_param_diffs()
    net.forward_backward()
    found = {layer: blobs[0].diff.copy() for layer, blobs in net.params.items()}
    rng = np.random.default_rng(0)
    for layer, blobs in net.params.items():
        if layer in SUMS or net.layer_dict[layer].type == "DataAugmentation":
            continue
        values = blobs[0].data
        for at in rng.permutation(values.size)[:2]:
            losses = []
            for step in (1e-7, -2e-7):
                values.flat[at] += step
                losses.append(net.forward_backward())
            values.flat[at] += 1e-7
            slope = (losses[0] - losses[1]) / 2e-7
            np.testing.assert_allclose(found[layer].flat[at], slope, rtol=1e-3, atol=1e-4, err_msg=layer)


def test_training_data_of_pwc_net(tmp_path, engine):
    with open_db(tmp_path / "pairs", "lmdb", "w") as database:
        for i in range(3):
            one, two, flow = moved_pictures(i, (2, -3))
            pictures = [np.clip(127 + 60 * each, 0, 255).astype(np.uint8).tobytes() for each in (one, two)]
            stored = np.where(np.isnan(flow), 32767, np.nan_to_num(flow) * 32).astype("<i2").tobytes()
            data = b"".join([*pictures, stored, bytes(SIZE[0] * SIZE[1] // 8)])
            datum = caffe_pb2.Datum(channels=9, height=SIZE[0], width=SIZE[1], data=data)
            database.put(f"{i:08d}", datum.SerializeToString())
    net = build(flow_nets.augmented, str(tmp_path / "pairs"), (16, 24))
    losses = train(net, 0.05, 15)
    assert np.isnan(net.blobs["moved"].data).any() and np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5]), losses
    assert net.params["crop0"][0].data.item() == 15
    assert not net.params["crop0"][2].diff.any()


def test_detect_net(engine):
    net = build(flow_nets.detect_net, 2, SIZE)
    rng = np.random.default_rng(0)
    image, label = 20 * rng.random((2, 3, *SIZE)) + 100, np.zeros((2, 1, 4, 16))
    for n, (x, y, width, height) in enumerate([(4, 3, 16, 12), (14, 8, 12, 14)]):
        image[n, :, y : y + height, x : x + width] += 120
        label[n, 0, 0, :2], label[n, 0, 1, [0, 1, 2, 3, 5]] = (1, 16), (x, y, width, height, 1)
    net.blobs["data"].data[...], net.blobs["label"].data[...] = image, label
    losses = train(net, 0.02, 25)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5]), losses
