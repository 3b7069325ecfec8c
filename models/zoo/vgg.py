"""VGG (Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", 2014)."""

from __future__ import annotations

from minicaffe.models.zoo.blocks import XAVIER, classify, conv_relu, finish, inputs, max_pool
from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def vgg_convs(n: NetSpec, bottom, first_pad: int = 1, last_stage: int = 5):
    """The 3x3 convolutions of VGG-16 with their poolings, conv1_1 to pool5; return the last top."""
    x = bottom
    for stage, (width, count) in enumerate(STAGES[:last_stage], start=1):
        for i in range(1, count + 1):
            x = conv_relu(n, f"conv{stage}_{i}", x, width, 3, pad=first_pad if (stage, i) == (1, 1) else 1)
        x = max_pool(n, f"pool{stage}", x)
    return x


def vgg16(batch: int = 32, size: int = 224, classes: int = 1000, training: bool = True, fc: int = 4096):
    """VGG-16: 138,357,544 parameters at 224x224."""
    n = NetSpec()
    inputs(n, (batch, 3, size, size), training)
    x = vgg_convs(n, n.data)
    for name in ("fc6", "fc7"):
        n[name] = L.InnerProduct(x, num_output=fc, **XAVIER)
        n[f"relu_{name}"] = L.ReLU(n[name], in_place=True)
        x = n[f"drop_{name}"] = L.Dropout(n[f"relu_{name}"], in_place=True, dropout_ratio=0.5)
    return finish(n, classify(n, "fc8", x, classes), "VGG-16", training)
