"""Well-known nets: the published numbers of parameters, and a forward and backward pass at a small size."""

import numpy as np
import pytest

import minicaffe
from minicaffe.models import zoo
from minicaffe.models.zoo.segmentation import interpolate


def parameters(net):
    """Return the number of learned parameters, without BatchNorm's statistics."""
    return sum(b.count for layer in net.layers for b in layer.blobs if layer.type != "BatchNorm")


def without_fillers(param):
    """The same net with all weights zero: quick to make where only shapes matter."""
    for layer in param.layer:
        for field in (layer.convolution_param, layer.inner_product_param):
            field.ClearField("weight_filler")
    return param


@pytest.mark.parametrize(
    "name, count",
    [
        ("resnet50", 25_557_032),
        ("googlenet", 6_998_552),
        ("vgg16", 138_357_544),
        ("squeezenet", 1_235_496),
        ("mobilenet", 4_231_976),
        ("densenet121", 7_978_856),
        ("cifar_resnet", 272_474),
    ],
)
def test_known_numbers_of_parameters(name, count):
    """Compare with the papers and their authors' files (ResNet-20: He et al., table 6, 0.27 million)."""
    param = without_fillers(getattr(zoo, name)(batch=1, training=False))
    assert parameters(minicaffe.Net(param, phase=minicaffe.TEST)) == count


def test_googlenet_with_its_side_losses():
    net = minicaffe.Net(without_fillers(zoo.googlenet(batch=1)), phase=minicaffe.TRAIN)
    assert parameters(net) == 13_378_280
    assert sorted(w for w in net.blob_loss_weights.values() if w) == pytest.approx([0.3, 0.3, 1])


def conv(out, channels, kernel, bias=True):
    return out * channels * kernel * kernel + out * bias


def test_fcn8s_and_unet_by_their_tables():
    vgg = sum(conv(o, i, 3) for o, i in [(64, 3), (64, 64), (128, 64), (128, 128), (256, 128), (256, 256), (256, 256),
                                         (512, 256), *[(512, 512)] * 5])  # fmt: skip
    scores = conv(21, 4096, 1) + conv(21, 512, 1) + conv(21, 256, 1)
    upscores = 2 * conv(21, 21, 4, bias=False) + conv(21, 21, 16, bias=False)
    expected = vgg + conv(4096, 512, 7) + conv(4096, 4096, 1) + scores + upscores
    net = minicaffe.Net(without_fillers(zoo.fcn8s(size=64)), phase=minicaffe.TRAIN)
    assert parameters(net) == expected == 134_489_759
    down = sum(conv(w, i, 3) + conv(w, w, 3) for w, i in [(64, 1), (128, 64), (256, 128), (512, 256), (1024, 512)])
    up = sum(conv(w, 2 * w, 2) + conv(w, 2 * w, 3) + conv(w, w, 3) for w in (512, 256, 128, 64))
    net = minicaffe.Net(without_fillers(zoo.unet()), phase=minicaffe.TRAIN)
    assert parameters(net) == down + up + conv(2, 64, 1) == 31_030_658
    assert net.blobs["score"].shape == (1, 2, 388, 388), "as in figure 1 of the paper"


SMALL = {
    "resnet50": dict(batch=2, size=64),
    "googlenet": dict(batch=2, size=224),
    "vgg16": dict(batch=2, size=32, fc=64),
    "squeezenet": dict(batch=2, size=67),
    "mobilenet": dict(batch=2, size=64),
    "densenet121": dict(batch=2, size=64),
    "cifar_resnet": dict(batch=4),
    "fcn8s": dict(size=40, fc=32),
    "unet": dict(size=188, width=8),
    "captioner": dict(batch=3, steps=4, words=50, hidden=16, features=12),
}


@pytest.mark.parametrize("name", SMALL)
def test_forward_and_backward(name):
    """Gradients are finite, nearly all parameters get one, and a small step along it lowers the loss."""
    minicaffe.set_random_seed(1)
    net = minicaffe.Net(getattr(zoo, name)(**SMALL[name]), phase=minicaffe.TRAIN)
    fill_inputs(net)
    if name == "fcn8s":
        interpolate(net)
    for layer in net.layers:  # makes passes deterministic
        if layer.type == "Dropout":
            layer.layer_param.dropout_param.dropout_ratio = 0
    before = forward_backward(net)
    assert np.isfinite(before)
    norms = [float(np.abs(blob.diff).sum()) for blob in net.learnable_params]
    assert np.isfinite(norms).all()
    learned = [n for n, lr in zip(norms, net.lr_mults) if lr]
    assert np.mean(np.array(learned) > 0) > 0.95
    total = np.sqrt(sum(float((b.diff**2).sum()) for b, lr in zip(net.learnable_params, net.lr_mults) if lr))
    for blob, lr in zip(net.learnable_params, net.lr_mults):
        if lr:
            blob.data[...] -= 1e-2 * blob.diff / total
    assert forward_backward(net) < before


def fill_inputs(net):
    rng = np.random.default_rng(0)
    scores = net.blobs[net.names_of_bottoms[-1][0]].shape
    for name in net.inputs:
        blob = net.blobs[name]
        if name in ("label", "input_sentence", "target_sentence"):
            blob.data[...] = rng.integers(0, scores[2 if "sentence" in name else 1], blob.shape)
        elif name == "cont":
            blob.data[...] = 1
            blob.data[0] = 0
        else:
            blob.data[...] = rng.standard_normal(blob.shape)


def forward_backward(net):
    for layer in net.layers:
        layer.rng.set_state(layer.rng.get_state() | {"counter": [0] * 4, "buffer_pos": 4, "has_uint32": 0})
    net.clear_param_diffs()
    return net.forward_backward()


def test_ssd300_has_its_boxes():
    net = minicaffe.Net(without_fillers(zoo.ssd300()), phase=minicaffe.TEST)
    assert parameters(net) == 26_285_486
    assert net.blobs["mbox_priorbox"].shape == (1, 2, 4 * 8732)
    assert net.blobs["mbox_conf_softmax"].shape == (1, 8732, 21)
