"""Pooling and activations that the GPU computes as one: every blob and diff as of the layers one by one."""

import itertools

import pytest

from helpers.engines import on
from helpers.nets import layer_text
from minicaffe import TEST
from minicaffe.cuda import planes
from minicaffe.testing import CUDA

pytestmark = on(CUDA)

POOLS = {
    "max": "kernel_size: 3 stride: 2",
    "average": "pool: AVE kernel_size: 3 stride: 2 pad: 1",
    "gaps": "kernel_size: 1 stride: 2",
    "overlaps": "pool: AVE kernel_size: 4 stride: 1",
}
ACTIVATIONS = {"ReLU": "", "leaky": "relu_param { negative_slope: 0.3 }", "Sigmoid": "", "TanH": ""}
CONV = 'convolution_param { num_output: 5 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } }'
SHAPES = {"odd": (3, 4, 7, 9), "packs": (2, 3, 10, 8)}


def text(shape, *layers):
    sizes = " ".join(f"dim: {size}" for size in shape)
    first = layer_text("in", "Input", "", "x", f"input_param {{ shape {{ {sizes} }} }}")
    return "force_backward: true\n" + first + "".join(layers)


def activation(name, bottom, top):
    kind = "ReLU" if name == "leaky" else name
    return layer_text("act", kind, bottom, top, ACTIVATIONS[name])


def pool(name, bottom, top):
    return layer_text("pool", "Pooling", bottom, top, f"pooling_param {{ {POOLS[name]} }}")


def conv(name, bottom, top):
    return layer_text(name, "Convolution", bottom, top, CONV)


def power(bottom, top):
    return layer_text("power", "Power", bottom, top, "power_param { scale: -0.9 }")


FORMS = {
    "behind": lambda act, kind: [conv("conv", "x", "a"), pool(kind, "a", "b"), activation(act, "b", "b")],
    "in front, in place": lambda act, kind: [power("x", "a"), activation(act, "a", "a"), pool(kind, "a", "b")],
    "in front": lambda act, kind: [conv("conv", "x", "a"), activation(act, "a", "c"), pool(kind, "c", "b")],
    "of a convolution": lambda act, kind: [conv("conv", "x", "a"), activation(act, "a", "a"), pool(kind, "a", "b")],
}
GROUPS = {
    "behind": ("pool", "act"),
    "in front, in place": ("act", "pool"),
    "in front": ("act", "pool"),
    "of a convolution": ("conv", "pool"),
}


def net_of(form, act, kind, shape):
    return text(shape, *FORMS[form](act, kind), conv("after", "b", "y"))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize(("form", "act", "kind"), list(itertools.product(FORMS, ACTIVATIONS, POOLS)))
def test_the_numbers_of_single_layers(net_pair, form, act, kind, shape):
    pair = net_pair(net_of(form, act, kind, shape))
    found = GROUPS[form]
    if form == "of a convolution" and act in ("Sigmoid", "TanH"):
        found = ("act", "pool")
    assert pair.found() == [found]
    for _ in range(2):
        pair.passes()
        pair.check()
    for net in pair:  # backward of a part of the group: the layers run one by one
        net.run_forward()
        net.backward(end=found[1])
        net.backward(start=found[0]) if found[0] == "act" else net.backward(start="act")
    pair.check()


@pytest.mark.parametrize("room", [64, 400, 3000])
@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_planes_that_do_not_fit_in_shared_memory(net_pair, monkeypatch, room, kind, shape):
    monkeypatch.setattr(planes, "SHARED", room)
    pair = net_pair(text(shape, conv("conv", "x", "a"), pool(kind, "a", "b"), activation("ReLU", "b", "b")))
    pair.passes()
    pair.check()


@pytest.mark.parametrize("slope", [0, 0.3])
@pytest.mark.parametrize("room", [400, planes.SHARED])
@pytest.mark.parametrize("kind", ["", "pool: AVE"])
@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("form", FORMS)
def test_halved_pictures(net_pair, monkeypatch, form, kernel, kind, room, slope):
    monkeypatch.setattr(planes, "SHARED", room)
    monkeypatch.setitem(POOLS, "half", f"{kind} kernel_size: {kernel} stride: 2")
    monkeypatch.setitem(ACTIVATIONS, "leaky", f"relu_param {{ negative_slope: {slope} }}")
    pair = net_pair(net_of(form, "leaky", "half", (3, 5, 4, 16)))
    pair.passes()
    pair.check()


@pytest.mark.parametrize(("shape", "act", "stems"), [
    ("odd", "ReLU", ("pooling.forward", "pooling.backward")),
    ("packs", "Sigmoid", ("pooling.forward", "pooling.backward")),
    ("packs", "ReLU", ("pooling_halves.max_forward", "pooling_halves.max_backward")),
])  # fmt: skip
def test_launches(net_pair, launched, shape, act, stems):
    """Activation and pooling take one launch in each direction; usual windows on halved pictures have their own."""
    pair = net_pair(net_of("behind", act, "max", SHAPES[shape]))
    with pair.engine.chosen():
        pair.fast.run_forward()
        pair.fast.run_backward()
    names = [name for name in launched if name.startswith(("relu", "sigmoid", "pooling"))]
    assert names == list(stems)


@pytest.mark.parametrize("form", ["in front", "in front, in place", "of a convolution"])
def test_launches_of_activations_in_front(net_pair, launched, form):
    pair = net_pair(net_of(form, "ReLU", "max", SHAPES["packs"]))
    with pair.engine.chosen():
        pair.fast.run_forward()
        pair.fast.run_backward()
    names = [name for name in launched if name.startswith(("relu", "pooling"))]
    forward = "pooling_halves.max_forward" if form == "of a convolution" else "pooling.forward"
    assert names == [forward, "pooling_halves.max_backward"]


def test_what_is_computed_one_by_one(net_pair, phase):
    for pooling in ("pool: STOCHASTIC kernel_size: 2", "pool: AVE global_pooling: true"):
        if "STOCHASTIC" in pooling and phase != TEST:
            continue
        layer = layer_text("pool", "Pooling", "a", "b", f"pooling_param {{ {pooling} }}")
        pair = net_pair(text(SHAPES["odd"], conv("conv", "x", "a"), activation("Sigmoid", "a", "a"), layer))
        assert pair.found() == []
        for net in pair:
            net.run_forward()
        pair.check(diffs=False)
