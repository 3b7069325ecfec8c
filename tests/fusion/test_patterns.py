"""Each pattern that engines compute as one, with its variations and with layers in place behind it."""

import numpy as np
import pytest

from helpers.engines import ENGINES, on
from minicaffe.testing import NUMPY

pytestmark = on(*(each for each in ENGINES if each != NUMPY))

CONV = 'num_output: 8 kernel_size: 3 pad: 1 weight_filler { type: "xavier" }'
SHAPE = (4, 5, 6)


def layer(kind, bottoms, tops, more=""):
    blobs = "".join(f'bottom: "{name}" ' for name in bottoms) + "".join(f'top: "{name}" ' for name in tops)
    return f'type: "{kind}" {blobs} {more}'


def conv(top, more="", kind="Convolution"):
    return layer(kind, "x", top, f"convolution_param {{ {CONV} {more} }}")


def batch_norm(bottom, top, more=""):
    return layer("BatchNorm", bottom, top, f"batch_norm_param {{ {more} }}")


def scale(name, more="bias_term: true"):
    return layer("Scale", name, name, f"scale_param {{ {more} }}")


def relu(name, slope):
    return layer("ReLU", name, name, f"relu_param {{ negative_slope: {slope} }}")


IP = 'inner_product_param { num_output: 6 weight_filler { type: "xavier" } }'
TWO = [layer("Power", "x", "b", "power_param { scale: -0.5 }"), conv("c", "bias_term: false")]
#: layers in front of a ReLU on blob "a"
BODIES = {
    "convolution": [conv("a")],
    "grouped": [conv("a", "group: 2 bias_term: false")],
    "depthwise": [conv("a", kind="ConvolutionDepthwise")],
    "product": [layer("InnerProduct", "x", "a", IP)],
    "normalized": [conv("a"), batch_norm("a", "a"), scale("a")],
    "factors alone": [conv("a", "bias_term: false"), batch_norm("a", "a"), scale("a", "")],
    "no scale": [conv("a"), batch_norm("a", "a")],
    "one factor": [conv("a"), batch_norm("a", "a"), scale("a", "num_axes: 0")],
    "factors of places": [conv("a"), batch_norm("a", "a"), scale("a", "axis: 2 num_axes: 2")],
    "own statistics": [conv("a"), batch_norm("a", "a", "use_global_stats: false"), scale("a")],
    "global statistics": [conv("a"), batch_norm("a", "a", "use_global_stats: true"), scale("a")],
    "normalization": [conv("b"), batch_norm("b", "a"), scale("a")],
    "sum": [*TWO, layer("Convolution", "b", "d", f"convolution_param {{ {CONV} }}"), layer("Eltwise", "cd", "a")],
    "difference": [conv("b"), conv("c"), layer("Eltwise", "bc", "a", "eltwise_param { coeff: 1 coeff: -1 }")],
    "three": [conv("b"), conv("c"), conv("d"), layer("Eltwise", "bcd", "a")],
    "maximum": [conv("b"), conv("c"), layer("Eltwise", "bc", "a", "eltwise_param { operation: MAX }")],
    "residual": [conv("b"), conv("c"), batch_norm("c", "c"), scale("c"), layer("Eltwise", "bc", "a")],
    "residual first": [conv("b"), conv("c"), batch_norm("c", "c"), layer("Eltwise", "cb", "a")],
    "twice": [conv("c"), batch_norm("c", "c"), scale("c"), layer("Eltwise", "cc", "a")],
}
BEHIND = {
    "sigmoid": layer("Sigmoid", "a", "a"),
    "scale": scale("a", "filler { value: -1.5 }"),
    "relu": relu("a", 0.5),
    "reader": layer("Power", "a", "z", "power_param { scale: 3 }"),
}


def net(layers):
    text = 'force_backward: true layer { name: "in" type: "Input" top: "x" input_param { shape { '
    text += " ".join(f"dim: {n}" for n in (3, *SHAPE)) + " } } }\n"
    return text + "\n".join(f'layer {{ name: "l{i}" {each} }}' for i, each in enumerate(layers))


def run(net_pair, layers):
    both = net_pair(net(layers))
    for samples in (3, 2):
        for each in both:
            each.blobs["x"].reshape(samples, *SHAPE)
            each.reshape()
        both.passes()
        both.check()
        both.feed(samples)
        for each in both:
            each.run_forward()
        both.check(diffs=False)
    return both


#: bodies with which the ReLU may be computed
WITH_RELU = ("convolution", "product", "normalized", "normalization", "sum", "residual")


@pytest.mark.parametrize("body", BODIES)
def test_bodies(net_pair, body):
    run(net_pair, [*BODIES[body], relu("a", 0)])


@pytest.mark.parametrize("slope", [0.2, -0.5])
@pytest.mark.parametrize("body", WITH_RELU)
def test_slopes(net_pair, body, slope):
    run(net_pair, [*BODIES[body], relu("a", slope)])


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("body", WITH_RELU)
def test_layers_behind(net_pair, body, behind):
    run(net_pair, [*BODIES[body], relu("a", 0), BEHIND[behind]])


@pytest.mark.parametrize("slope", [0, None])
@pytest.mark.parametrize("readers", [2, 3])
@pytest.mark.parametrize("body", [*WITH_RELU, "own statistics", "global statistics", "difference", "residual first"])
def test_several_readers(net_pair, body, readers, slope):
    """The gradients that they leave are added by a Split."""
    behind = [layer("Power", "a", "yzw"[i], f"power_param {{ scale: {0.5 / (i + 1)} }}") for i in range(readers)]
    run(net_pair, [*BODIES[body], *([] if slope is None else [relu("a", slope)]), *behind])


FROZEN = "param { lr_mult: 0 }"


@pytest.mark.parametrize("frozen", [(0,), (1, 3), (0, 1, 3), (0, 1, 2, 3)], ids=str)
@pytest.mark.parametrize("bodies", ["residual", "residual first", "normalized", "normalization", "global statistics"])
def test_layers_that_do_not_learn(net_pair, bodies, frozen):
    """Without gradients of the data; `frozen`: by index, layers of which no parameter has a gradient."""
    layers = [*BODIES[bodies], relu("a", 0), BEHIND["reader"]]
    for i in frozen:
        kind = layers[i].split('"')[1]
        layers[i] += {"Convolution": FROZEN * (1 + ("bias_term: false" not in layers[i])), "Scale": FROZEN * 2}.get(
            kind, ""
        )
    both = net_pair(net(layers).replace("force_backward: true", ""))
    for _ in range(2):
        both.feed()
        for each in both:
            each.run_forward()
            each.run_backward()
        both.check(diffs=False)
        for plain, fast in zip(*(each.params.values() for each in both.nets), strict=True):
            for expected, got in zip(plain, fast, strict=True):
                np.testing.assert_allclose(got.read_diff(), expected.read_diff(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("behind", [*BEHIND, None])
@pytest.mark.parametrize("body", ["normalized", "normalization", "residual"])
def test_without_the_relu(net_pair, body, behind):
    run(net_pair, [*BODIES[body], *[BEHIND[behind] for _ in range(behind is not None)]])


@pytest.mark.parametrize("slope", [0, -0.5])
def test_without_a_backward_pass(net_pair, slope):
    """What only a backward pass would need is not kept."""
    both = net_pair(net([*BODIES["normalized"], relu("a", slope)]).replace("force_backward: true", ""))
    for seed in range(2):
        both.feed(seed)
        for each in both:
            each.run_forward()
        both.check(diffs=False)
    assert slope or both.found() or both.engine.name == "counting"  # which computes these one by one


def test_a_loss_is_not_part_of_a_group(net_pair):
    layers = [conv("a", "bias_term: false") + "param { lr_mult: 0 }", relu("a", 0) + " loss_weight: 2"]
    both = net_pair(net(layers).replace("force_backward: true", ""))
    losses = []
    for each in both:
        losses.append(each.forward_from_to(0, len(each.layers) - 1))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert both.found() == []
