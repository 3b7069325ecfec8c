"""With fused groups, a net's blobs hold at every moment the numbers of its layers run one by one."""

import numpy as np
import pytest

from helpers.engines import ENGINES, on
from helpers.nets import net_from_text
from minicaffe import TEST, TRAIN
from minicaffe.core.blob import Blob
from minicaffe.testing import NUMPY

pytestmark = on(*(each for each in ENGINES if each != NUMPY))

CONV = 'num_output: 16 kernel_size: 3 pad: 1 weight_filler { type: "xavier" }'
NET = f"""
force_backward: true
layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 4 dim: 3 dim: 6 dim: 5 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "x" top: "a" convolution_param {{ {CONV} bias_term: false }} }}
layer {{ name: "bn" type: "BatchNorm" bottom: "a" top: "a" }}
layer {{ name: "scale" type: "Scale" bottom: "a" top: "a" scale_param {{ bias_term: true }} }}
layer {{ name: "relu" type: "ReLU" bottom: "a" top: "a" }}
layer {{ name: "conv2" type: "Convolution" bottom: "a" top: "b" convolution_param {{ {CONV} group: 2 }} }}
layer {{ name: "bn2" type: "BatchNorm" bottom: "b" top: "c" }}
layer {{ name: "scale2" type: "Scale" bottom: "c" top: "c" }}
layer {{ name: "sum" type: "Eltwise" bottom: "a" bottom: "c" top: "d" }}
layer {{ name: "relu2" type: "ReLU" bottom: "d" top: "d" relu_param {{ negative_slope: 0.1 }} }}
layer {{ name: "conv3" type: "Convolution" bottom: "d" top: "g" convolution_param {{ {CONV} }} }}
layer {{ name: "bn3" type: "BatchNorm" bottom: "g" top: "g" }}
layer {{ name: "scale3" type: "Scale" bottom: "g" top: "g" scale_param {{ bias_term: true }} }}
layer {{ name: "sum2" type: "Eltwise" bottom: "d" bottom: "g" top: "h" }}
layer {{ name: "relu3" type: "ReLU" bottom: "h" top: "h" }}
layer {{ name: "conv4" type: "Convolution" bottom: "h" top: "e" convolution_param {{ {CONV} }} }}
layer {{ name: "relu4" type: "ReLU" bottom: "e" top: "e" relu_param {{ negative_slope: 0.2 }} }}
layer {{ name: "sum3" type: "Eltwise" bottom: "e" bottom: "h" top: "i" eltwise_param {{ coeff: 1 coeff: -2 }} }}
layer {{ name: "relu5" type: "ReLU" bottom: "i" top: "i" }}
layer {{ name: "bn4" type: "BatchNorm" bottom: "i" top: "j" batch_norm_param {{ use_global_stats: true }} }}
layer {{ name: "scale4" type: "Scale" bottom: "j" top: "j" scale_param {{ bias_term: true }} }}
layer {{ name: "relu6" type: "ReLU" bottom: "j" top: "j" relu_param {{ negative_slope: 0.3 }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "j" top: "y"
         inner_product_param {{ num_output: 5 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "relu7" type: "ReLU" bottom: "y" top: "y" }}
layer {{ name: "conv5" type: "Convolution" bottom: "j" top: "z" convolution_param {{ {CONV} }} }}
layer {{ name: "bn5" type: "BatchNorm" bottom: "z" top: "z" batch_norm_param {{ use_global_stats: false }} }}
"""
#: the groups that an engine finds in it, in TRAIN and in TEST
FOUND = {
    ("onednn", TRAIN): "bn-relu bn2-scale2 sum-relu2 bn3-scale3 sum2-relu3 conv4-relu4 ip-relu7",
    ("onednn", TEST): "conv-relu bn2-scale2 sum-relu2 conv3-relu3 conv4-relu4 ip-relu7",
    ("counting", TRAIN): "ip-relu7",
    ("counting", TEST): "ip-relu7",
    ("cuda", TRAIN): "conv-a_relu_0_split bn2-d_relu2_0_split conv3-h_relu3_0_split conv4-relu4 sum3-relu5 "
    "bn4-j_relu6_0_split conv5-bn5",
    ("cuda", TEST): "conv-a_relu_0_split bn2-d_relu2_0_split conv3-h_relu3_0_split conv4-relu4 sum3-relu5 "
    "bn4-j_relu6_0_split conv5-bn5",
}


@pytest.fixture
def both(net_pair):
    return net_pair(NET)


def test_which_layers_are_computed_as_one(both):
    expected = FOUND.get((both.engine.name, both.phase))
    assert " ".join("-".join(pair) for pair in both.found()) == expected


def test_passes_one_after_another(both):
    for _ in range(3):
        both.feed()
        for net in both:
            net.run_forward()
        assert all(group.intact for group in both.groups())
        for net in both:
            net.run_backward()
        both.check()


@pytest.mark.parametrize("order", ["forwards", "backwards", "shuffled"])
def test_blobs_are_read_in_any_order(both, order):
    names = list(both.plain.blobs)
    if order == "shuffled":
        np.random.default_rng(0).shuffle(names)
    for net in both:
        net.run_forward()
    both.check(diffs=False, order=names[:: -1 if order == "backwards" else 1])


def test_layers_run_backward_alone(both):
    """Backward in two parts, cut in the middle of a group."""
    for _ in range(2):
        both.feed()
        for net in both:
            net.run_forward()
            net.backward(end="scale")
            net.backward(start="bn")
        both.check()


def test_layers_run_forward_alone(both):
    for net in both:
        net.run_forward()
        net.forward(end="bn")
        net.forward(start="scale")
        net.run_backward()
    both.check()


def test_shapes_change_between_passes(both):
    for samples in (1, 5, 2):
        for net in both:
            net.blobs["x"].reshape(samples, 3, 6, 5)
            net.reshape()
        both.passes()
        both.check()


def test_a_callback_observes_every_layer(both):
    seen = []
    both.fast.after_forward(lambda i: seen.append((i, float(both.fast.blobs["a"].read_data().min()))))
    for net in both:
        net.run_forward()
        net.run_backward()
    assert [i for i, _ in seen] == list(range(len(both.fast.layers)))
    names = list(both.fast.layer_names)
    assert seen[names.index("scale")][1] < 0 <= seen[names.index("relu")][1]
    both.check()


def test_a_callback_that_comes_between_the_passes(both):
    """It observes all layers; groups run one by one from then on."""
    seen = []
    for net in both:
        net.run_forward()
    both.fast.after_backward(seen.append)
    for net in both:
        net.run_backward()
    assert seen == list(range(len(both.fast.layers)))[::-1]
    both.check()


@pytest.mark.parametrize("hold", [False, True])
def test_parameters_change_between_passes(both, hold):
    views = [[blob.data for blobs in net.params.values() for blob in blobs] for net in both]
    for net, arrays in zip(both, views, strict=True):
        net.forward()
        if not hold:
            arrays = [blob.data for blobs in net.params.values() for blob in blobs]
        for i, array in enumerate(arrays):
            array *= 1 + 0.02 * i
        del arrays
    if not hold:
        del views[:]
    both.feed()
    for net in both:
        net.run_forward()
    both.check(diffs=False)


@pytest.mark.parametrize("phase", [TRAIN], indirect=True, ids=["TRAIN"])
def test_statistics_come_from_the_training_net(net_pair, both):
    """A net in TEST that shares parameters with a net in TRAIN computes with its newest parameters."""
    tests = []
    for net in both:
        tests.append(net_from_text(NET, TEST))
        tests[-1].share_with(net)
    pair = net_pair(NET)
    pair.nets[:] = tests
    pair.plain, pair.fast = tests
    for _ in range(3):
        both.passes()
        for net in both:
            net.params["conv"][0].data[...] *= 1.1
        pair.feed()
        for net in pair:
            net.run_forward()
        pair.check(diffs=False)


def test_views_that_scripts_hold_show_the_results(both):
    """They show each pass; values written through them are used, even after they are dropped."""
    net = both.fast
    views = {name: (blob.data, blob.diff) for name, blob in net.blobs.items()}
    for seed in range(2):
        both.feed(seed)
        for each in both:
            each.forward()
        for name, (data, _) in views.items():
            np.testing.assert_array_equal(data, net.blobs[name].read_data(), err_msg=name)
        for each in both:
            each.backward()
        for name, (_, diff) in views.items():
            np.testing.assert_array_equal(diff, net.blobs[name].read_diff(), err_msg=name)
        both.check()
    score = net.blobs["z"].read_data().copy()
    views["j"][0][...] *= -2
    del views, data, diff
    both.plain.blobs["j"].data[...] = net.blobs["j"].read_data()
    for each in both:
        each.forward(start="j_relu6_0_split", end="bn5")
    np.testing.assert_allclose(net.blobs["z"].read_data(), both.plain.blobs["z"].read_data(), rtol=1e-3, atol=1e-3)
    assert np.abs(net.blobs["z"].read_data() - score).max() > 0.1


def test_a_view_of_the_last_top(both):
    """It contains the result at once, without a layer behind the group."""
    views = [net.blobs["d"].data for net in both.nets]
    for net in both:
        net.forward(end="relu2")
    np.testing.assert_allclose(*views[::-1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("way", ["read_data", "data", "share", "view"])
def test_the_top_inside_a_residual_block(both, way):
    """It may be computed on first read, in any way, and holds its values of that pass."""
    plain, fast = both.nets
    both.feed()
    for net in both:
        net.run_forward()
    expected = plain.blobs["g"].read_data().copy()
    fast.params["conv3"][0].data[...] *= 2  # too late for this pass
    blob = fast.blobs["g"]
    if way == "share":
        other = Blob((blob.count,))
        other.share_data(blob)
        got = other.data.reshape(blob.shape)
    else:
        got = blob.read_data() if way == "read_data" else blob.data
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)
    fast.params["conv3"][0].data[...] /= 2
    if way == "view":  # which contains the values of the next pass, too
        for net in both:
            net.blobs["x"].data[...] *= -1
            net.forward()
        np.testing.assert_allclose(got, plain.blobs["g"].read_data(), rtol=1e-3, atol=1e-3)


def write_the_input(net):
    net.blobs["d"].data[...] *= 100


def run_a_part(net):
    net.forward(end="conv2")
    net.blobs["x"].data[...] *= 100
    net.forward(end="relu2")


def run_a_part_twice(net):
    run_a_part(net)
    run_a_part(net)


def change_parameters(net):
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] *= 3


def reshape(net):
    net.blobs["x"].reshape(6, 3, 6, 5)
    net.forward(end="relu2")


@pytest.mark.parametrize("disturb", [write_the_input, run_a_part, run_a_part_twice, change_parameters, reshape])
def test_the_top_inside_a_residual_block_shows_its_own_pass(both, disturb):
    """Input, shapes or parameters may change before it is read."""
    both.feed()
    for net in both:
        net.run_forward()
        disturb(net)
    expected, got = (net.blobs["g"].read_data() for net in both.nets)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_a_layer_reads_the_top_inside_a_residual_block(both):
    """In a pass over the sum alone, after the convolution's input has changed."""
    both.feed()
    for net in both:
        net.run_forward()
        net.blobs["d"].data[...] *= 100
        net.forward(start="sum2")
    both.check(diffs=False)


# -- what comes between a forward and a backward pass ------------------------------------------------------------------


def poke(*names):
    def write(net):
        for name in names:
            net.blobs[name].data[...] *= -0.5

    return write


def alone(*names):
    def run(net):
        for name in names:
            net.forward(start=name, end=name)

    return run


def run_what_is_below(net):
    net.blobs["x"].data[...] *= 3
    net.forward(end="conv")


def change_statistics(net):
    for name in ("bn", "bn2", "bn3", "bn4"):
        net.params[name][0].data[...] += 1


def hold_views(net):
    net.held = [blob.data for blob in net.blobs.values()]


DISTURBANCES = {
    "nothing": lambda net: None,
    "BatchNorm alone": alone("bn", "bn2", "bn3", "bn4"),
    "Scale alone": alone("scale", "scale2", "scale3", "scale4"),
    "ReLU alone": alone("relu", "relu6"),
    "top": poke("c", "d", "h", "j"),
    "bottom": poke("x"),
    "in place": poke("a", "g"),
    "below": run_what_is_below,
    "statistics": change_statistics,
    "hold": hold_views,
}


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "in parts"])
@pytest.mark.parametrize("name", DISTURBANCES)
def test_backward_goes_by_the_forward_pass(both, name, parts):
    """It reads the current tops only where the layer by itself does; no blob's data change."""
    both.feed()
    for net in both:
        net.run_forward()
        DISTURBANCES[name](net)
        net.clear_param_diffs()
        if parts:
            net.backward(end="scale4")
            net.backward(start="bn4", end="scale3")
            net.backward(start="bn3", end="scale2")
            net.backward(start="bn2", end="relu")
            net.backward(start="scale")
        else:
            net.backward()
        net.held = None
    both.check()


def test_scales_of_zero(both):
    for net in both:
        for name in ("scale", "scale3"):
            net.params[name][0].data[3] = 0
    both.passes()
    both.check()
