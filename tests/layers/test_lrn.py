"""LRN, over both regions."""

import numpy as np
import pytest

from helpers import references
from helpers.nets import layer_text, net_from_text
from minicaffe import TRAIN
from minicaffe.cuda import planes
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, computing_with, run_layer, top_of


def lrn(text):
    return f"type: 'LRN' lrn_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(lrn("local_size: 3 alpha: 2 beta: 0.75 k: 2"), [(2, 5, 2, 3)]),
        Case(lrn("local_size: 5 alpha: 0.5 beta: 1.2"), [(2, 3, 2, 2)]),
        Case(lrn(""), [(1, 7, 2, 2)]),
        Case(lrn("norm_region: WITHIN_CHANNEL local_size: 3 alpha: 2"), [(2, 3, 4, 5)]),
        Case(lrn("norm_region: WITHIN_CHANNEL local_size: 5 alpha: 0.5 beta: 0.5"), [(1, 2, 3, 6)]),
        Case(lrn("norm_region: WITHIN_CHANNEL local_size: 3 alpha: 2 beta: 0.6"), [(2, 3, 3, 8)]),
        Case(lrn("norm_region: WITHIN_CHANNEL local_size: 1"), [(1, 2, 3, 3)]),
    ]


def test_values():
    x = np.random.default_rng(0).standard_normal((2, 6, 3, 4))
    options = "alpha: 0.5 beta: 0.6 k: 2"
    assert_close(top_of(lrn(f"local_size: 5 {options}"), x), references.lrn(x, 5, 0.5, 0.6, 2), rtol=1e-6)
    within = references.lrn(x, 3, 0.5, 0.6, 2, within=True)
    assert_close(top_of(lrn(f"norm_region: WITHIN_CHANNEL local_size: 3 {options}"), x), within, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("local_size: 4", (1, 2, 3, 3), "local_size must be odd, got 4"),
        ("", (2, 3), r"bottom 0 must be \(N, C, H, W\), got \(2, 3\)"),
    ],
)
def test_errors_name_the_layer(text, shape, words):
    with pytest.raises(LayerError, match=f"^LRN layer 'layer': {words}"):
        top_of(lrn(text), np.zeros(shape))


@pytest.mark.gpu
@pytest.mark.parametrize("room", [16, 150, 2000, 48 << 10])
@pytest.mark.parametrize("in_place", [False, True], ids=["", "in place"])
@pytest.mark.parametrize("region", ["WITHIN_CHANNEL", "ACROSS_CHANNELS"])
@pytest.mark.parametrize(("size", "beta"), [(3, 0.75), (7, 0.6)])
@pytest.mark.parametrize("width", [7, 8])
def test_planes_and_strips_on_the_device(cuda_device, monkeypatch, room, in_place, region, size, beta, width):
    """Whatever fits in shared memory; in place dy is overwritten while neighbours still need it."""
    monkeypatch.setattr(planes, "SHARED", room)
    top = "x" if in_place else "y"
    text = f"norm_region: {region} local_size: {size} alpha: 0.8 beta: {beta}"
    text = layer_text(
        "in", "Input", "", "x", f"input_param {{ shape {{ dim: 3 dim: 5 dim: 11 dim: {width} }} }}"
    ) + layer_text("lrn", "LRN", "x", top, f"lrn_param {{ {text} }}")
    results = []
    for gpu in (False, True):
        with computing_with(gpu=gpu):
            net = net_from_text("force_backward: true\n" + text, TRAIN)
            rng = np.random.default_rng(0)
            net.blobs["x"].data[...] = rng.standard_normal(net.blobs["x"].shape)
            net.forward()
            net.blobs[top].diff[...] = rng.standard_normal(net.blobs["x"].shape)
            net.backward()
            results.append((net.blobs[top].data.copy(), net.blobs["x"].diff.copy()))
    for mine, other in zip(*results):
        assert_close(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("region", ["WITHIN_CHANNEL", "ACROSS_CHANNELS"])
def test_backward_is_one_launch(gpu_mode, launched, region):
    layer, bottom, top = run_layer(lrn(f"norm_region: {region}"), np.ones((2, 3, 6, 5), np.float32), dtype=np.float32)
    launched.clear()
    layer.backward(top, [True], bottom)
    assert len(launched) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("in_place", [False, True], ids=["", "in place"])
def test_planes_of_nine_neighbours_take_one_launch(gpu_mode, launched, in_place):
    text = lrn("norm_region: WITHIN_CHANNEL local_size: 3")
    layer, bottom, top = run_layer(text, np.ones((2, 3, 6, 8), np.float32), dtype=np.float32)
    tops = bottom if in_place else top
    launched.clear()
    layer.forward(bottom, tops)
    layer.backward(tops, [True], bottom)
    assert launched == ["lrn.nine_forward", "lrn.nine_backward"]
