"""Convolutions that train in channels last, where blocks of channels would be padding, and what follows them."""

import numpy as np
import pytest

from helpers.engines import needs_onednn
from helpers.nets import net_from_text
from minicaffe.layers.onednn.convolution_base import NARROW
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.execution import create, implementation
from minicaffe.onednn.library import Alg, Prop
from minicaffe.onednn.tensors import any_layout, channels_last
from minicaffe.proto import TEST, TRAIN
from minicaffe.testing import NUMPY, ONEDNN

pytestmark = needs_onednn

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: %d dim: 12 dim: 12 } } }'
CONV = (
    'layer { name: "%s" type: "Convolution" bottom: "%s" top: "%s" convolution_param { num_output: %d kernel_size: %d '
    'pad: %d weight_filler { type: "xavier" } bias_filler { value: 0.3 } } }'
)
NORM = (
    'layer { name: "bn" type: "BatchNorm" bottom: "y" top: "y" } layer { name: "scale" type: "Scale" bottom: "y" '
    'top: "y" scale_param { bias_term: true filler { value: 1.5 } } } layer { name: "relu" type: "ReLU" bottom: "y" '
    'top: "y" }'
)
LRN = 'layer { name: "lrn" type: "LRN" bottom: "y" top: "n" lrn_param { local_size: 5 alpha: 0.5 } }'
POOL = 'layer { name: "pool" type: "Pooling" bottom: "y" top: "n" pooling_param { kernel_size: 2 stride: 2 } }'


def net_of(*layers, channels=20, phase=TRAIN):
    return net_from_text("force_backward: true " + " ".join([INPUT % channels, *layers]), phase)


def is_channels_last(blob):
    return layouts.data(blob).desc is channels_last(blob.shape)


@pytest.mark.parametrize(
    "channels, outputs, kernel, expected",
    [
        (20, 50, 5, True),  # LeNet's second convolution
        (24, 24, 3, True),
        (32, 64, 5, False),  # blocks are full
        (48, 40, 3, False),  # little padding
        (3, 32, 5, False),  # a picture is in Caffe's order
        (20, 50, 1, False),
        (36, 8, 3, False),
    ],
)  # fmt: skip
def test_when_channels_are_last(channels, outputs, kernel, expected):
    with ONEDNN.chosen():
        net = net_of(CONV % ("conv", "x", "y", outputs, kernel, kernel // 2), channels=channels)
    net.run_forward()
    assert is_channels_last(net.blobs["y"]) is expected


def test_much_padding_keeps_blocks():
    with ONEDNN.chosen():
        net = net_of(CONV % ("conv", "x", "y", 24, 3, 2))
    net.run_forward()
    assert not is_channels_last(net.blobs["y"])


def test_inference_and_groups_use_the_librarys_layouts():
    with ONEDNN.chosen():
        net = net_of((CONV % ("conv", "x", "y", 40, 5, 0)).replace("pad: 0", "pad: 0 group: 2"))
        net.run_forward()
        assert not is_channels_last(net.blobs["y"])
        conv = net_of(CONV % ("conv", "x", "y", 50, 5, 0), phase=TEST).layers[1]
    wide, narrow = (2, 20, 12, 12), (2, 50, 8, 8)
    training, inference = (conv.arguments(NARROW, wide, narrow, training=t)[0] for t in (True, False))
    assert training is channels_last(wide) and not inference.blocked


@pytest.mark.parametrize("layers", [[POOL], [LRN], [NORM, POOL], [NORM, LRN], [NORM.split(" layer")[0], LRN]])
@pytest.mark.parametrize("outputs", [50, 24])
def test_what_follows(layers, outputs):
    results = []
    for engine in (NUMPY, ONEDNN):
        with engine.chosen():
            net = net_of(CONV % ("conv", "x", "y", outputs, 5, 1), *layers, CONV % ("next", "n", "z", 20, 3, 1))
        rng = np.random.default_rng(3)
        for blob in (net.blobs["x"], *(blob for layer in ("conv", "next") for blob in net.params[layer])):
            blob.data[...] = rng.standard_normal(blob.shape)
        net.run_forward()
        net.blobs["z"].diff[...] = rng.standard_normal(net.blobs["z"].shape)
        net.clear_param_diffs()
        net.run_backward()
        diffs = [np.concatenate([b.diff.ravel() for b in net.params[name]]) for name in ("conv", "next")]
        results.append([net.blobs["z"].data, net.blobs["x"].diff, *diffs])
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())


def test_padded_blocks_are_normalized_across_channels_in_channels_last():
    with ONEDNN.chosen():
        net = net_of(CONV % ("conv", "x", "y", 20, 5, 0), LRN, channels=3)
    net.run_forward()
    assert layouts.data(net.blobs["y"]).desc.padded
    assert is_channels_last(net.blobs["n"])


def test_the_implementation_that_is_preferred():
    """oneDNN's second choice where the processor has it, its first choice where there is no such implementation."""
    x, w, y = channels_last((2, 20, 12, 12)), any_layout((50, 20, 5, 5)), channels_last((2, 50, 8, 8))
    geometry = (1, 1), (0, 0), (0, 0), (0, 0)
    forward = primitives.convolution(x, w, None, y, *geometry)
    backward = primitives.convolution_backward_data(x, w, y, *geometry, forward)
    args = Prop.TRAINING, Alg.CONVOLUTION_DIRECT, x, w, None, y, *geometry
    first = create("convolution_forward", *args)
    for conv in (forward, backward):
        assert "avx512" not in implementation(first.pd) or implementation(conv.pd) == "jit:avx512_core"
    assert implementation(create("convolution_forward", *args, prefer="none").pd) == implementation(first.pd)
