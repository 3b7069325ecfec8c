"""Chains computed in one go: the same numbers as layer by layer, whatever is asked for in between."""

import numpy as np
import pytest

from minicaffe import Net, onednn
from minicaffe.core.blob import Blob
from minicaffe.core.engine import runner
from minicaffe.core.settings import settings
from minicaffe.errors import LayerError
from minicaffe.proto import caffe_pb2, parse_text

pytestmark = pytest.mark.skipif(not onednn.available(), reason=f"oneDNN: {onednn.reason()}")

CONV = 'num_output: 16 kernel_size: 3 pad: 1 weight_filler { type: "xavier" }'
NET = f"""
force_backward: true
layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 4 dim: 3 dim: 6 dim: 6 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "x" top: "a" convolution_param {{ {CONV} bias_term: false }} }}
layer {{ name: "bn" type: "BatchNorm" bottom: "a" top: "a" }}
layer {{ name: "scale" type: "Scale" bottom: "a" top: "a" scale_param {{ bias_term: true }} }}
layer {{ name: "relu" type: "ReLU" bottom: "a" top: "a" }}
layer {{ name: "conv2" type: "Convolution" bottom: "a" top: "b" convolution_param {{ {CONV} group: 2 }} }}
layer {{ name: "bn2" type: "BatchNorm" bottom: "b" top: "c" }}
layer {{ name: "scale2" type: "Scale" bottom: "c" top: "c" }}
layer {{ name: "sum" type: "Eltwise" bottom: "a" bottom: "c" top: "d" }}
layer {{ name: "relu2" type: "ReLU" bottom: "d" top: "d" relu_param {{ negative_slope: 0.1 }} }}
layer {{ name: "conv4" type: "Convolution" bottom: "d" top: "g" convolution_param {{ {CONV} }} }}
layer {{ name: "bn4" type: "BatchNorm" bottom: "g" top: "g" }}
layer {{ name: "scale4" type: "Scale" bottom: "g" top: "g" scale_param {{ bias_term: true }} }}
layer {{ name: "sum2" type: "Eltwise" bottom: "d" bottom: "g" top: "h" }}
layer {{ name: "relu5" type: "ReLU" bottom: "h" top: "h" }}
layer {{ name: "conv3" type: "Convolution" bottom: "h" top: "e" convolution_param {{ {CONV} }} }}
layer {{ name: "relu3" type: "ReLU" bottom: "e" top: "e" }}
layer {{ name: "ip" type: "InnerProduct" bottom: "e" top: "y"
         inner_product_param {{ num_output: 5 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "relu4" type: "ReLU" bottom: "y" top: "y" }}
"""


@pytest.fixture(params=[0, 1], ids=["TRAIN", "TEST"])
def both(request, monkeypatch):
    """The net in numpy and in oneDNN, with equal parameters and inputs."""
    monkeypatch.setattr(settings, "engine", runner("CPU"))
    result = []
    for engine in ("CAFFE", "ONEDNN"):
        monkeypatch.setattr(settings, "variants", engine)
        result.append(Net(parse_text(NET, caffe_pb2.NetParameter()), phase=request.param))
    for net in result:
        rng = np.random.default_rng(1)
        for blobs in net.params.values():
            for blob in blobs:
                blob.data = (
                    rng.standard_normal(blob.shape) * 0.3 if len(blob.shape) > 1 else rng.random(blob.shape) + 0.5
                )
        feed(net)
    return result


def feed(net):
    rng = np.random.default_rng(2)
    net.blobs["x"].data = rng.standard_normal(net.blobs["x"].shape)
    net.blobs["y"].diff = rng.standard_normal(net.blobs["y"].shape)
    net.clear_param_diffs()


def close(a, b, what):
    np.testing.assert_allclose(b, a, rtol=1e-3, atol=2e-4 * max(np.abs(a).max(), 0.1), err_msg=what)


def assert_same(plain, fast, diffs=True):
    for name, blob in plain.blobs.items():
        close(blob.read_data(), fast.blobs[name].read_data(), name)
    for name, blobs in plain.params.items():
        for a, b in zip(blobs, fast.params[name], strict=True):
            close(a.read_data(), b.read_data(), name)
            if diffs:
                close(a.read_diff(), b.read_diff(), name + " diff")
    if diffs:
        close(plain.blobs["x"].read_diff(), fast.blobs["x"].read_diff(), "x diff")


def kinds(net):
    return [type(chain).__name__ for chain in net.chains.values()]


def test_which_layers_are_chained(both):
    first, last = ["FusedNorm", "SumReLU"], ["ConvolutionReLU", "InnerProductReLU"]
    train = ["FusedNorm", *first, "FusedNorm", "SumReLU", *last]
    test = ["FoldedConvolution", *first, "FoldedSum", *last]
    assert kinds(both[0]) == [] and kinds(both[1]) == (test if both[1].phase else train)


def test_passes_one_after_another(both):
    for _ in range(3):
        for net in both:
            feed(net)
            net.run_forward()
            net.run_backward()
        assert_same(*both)
    assert all(chain.possible for chain in both[1].chains.values())


def test_layers_run_backward_alone_after_a_chain(both):
    """Backward in two parts, cut in the middle of a chain."""
    for _ in range(2):
        for net in both:
            feed(net)
            net.run_forward()
            net.backward(end="scale")
            net.backward(start="bn")
        assert_same(*both)


def test_layers_run_forward_alone(both):
    for net in both:
        net.run_forward()
        net.forward(end="bn")
        net.forward(start="scale")
        net.run_backward()
    assert_same(*both)


def test_somebody_watches(both):
    """A callback sees every layer by itself."""
    seen = []
    both[1].after_forward(lambda i: seen.append((i, float(both[1].blobs["a"].read_data().min()))))
    for net in both:
        net.run_forward()
        net.run_backward()
    assert [i for i, _ in seen] == list(range(len(both[1].layers)))
    names = list(both[1]._layer_names)
    assert seen[names.index("scale")][1] < 0 <= seen[names.index("relu")][1]
    assert_same(*both)


@pytest.mark.parametrize("hold", [False, True])
def test_parameters_change_between_passes(both, hold):
    views = [[blob.data for blobs in net.params.values() for blob in blobs] for net in both]
    for net, arrays in zip(both, views, strict=True):
        net.run_forward()
        if not hold:
            arrays = [blob.data for blobs in net.params.values() for blob in blobs]
        for i, array in enumerate(arrays):
            array *= 1 + 0.1 * i
        del arrays
    if not hold:
        del views[:]
    for net in both:
        feed(net)
        net.run_forward()
    assert_same(*both, diffs=False)


def test_statistics_come_from_the_training_net(both):
    """A test net that shares blobs folds again after each training step."""
    if both[1].phase:
        pytest.skip("a training net is wanted")
    tests = []
    for net, engine in zip(both, ("CAFFE", "ONEDNN"), strict=True):
        from minicaffe.core.settings import settings

        settings.variants = engine
        tests.append(Net(parse_text(NET, caffe_pb2.NetParameter()), phase=1))
        tests[-1].share_with(net)
    for _ in range(3):
        for net, test in zip(both, tests, strict=True):
            feed(net)
            net.run_forward()
            net.run_backward()
            net.params["conv"][0].data[...] *= 1.1
            feed(test)
            test.run_forward()
        assert_same(*tests, diffs=False)


def test_a_view_of_the_last_chains_top(both):
    """It shows the result at once, with no layer behind the chain."""
    views = [net.blobs["d"].data for net in both]
    for net in both:
        net.run_forward(0, list(net._layer_names).index("relu2"))
    close(*views, "d")


def test_a_top_that_was_put_off(both):
    """Inside a FoldedSum: computed when somebody asks, by whatever way, and as it was in that pass."""
    plain, fast = both
    if not fast.phase:
        pytest.skip("only in TEST")
    for ask in ("read_data", "data", "share", "view"):
        for net in both:
            feed(net)
            net.run_forward()
        expected = plain.blobs["g"].read_data()
        fast.params["conv4"][0].data[...] *= 2  # too late for this pass
        blob = fast.blobs["g"]
        if ask == "share":
            other = Blob((blob.count,))
            other.share_data(blob)
            got = other.data.reshape(blob.shape)
        else:
            got = blob.read_data() if ask == "read_data" else blob.data
        close(expected, got, ask)
        fast.params["conv4"][0].data[...] /= 2
        if ask == "view":  # which stays true in the next pass
            for net in both:
                net.blobs["x"].data[...] *= -1
                net.run_forward()
            close(plain.blobs["g"].read_data(), got, "view")
        del got


# -- what comes in between ---------------------------------------------------------------------------------------------


def write_the_input(net):
    net.blobs["d"].data[...] *= 100


def run_a_part(net):
    net.forward(end="conv2")
    net.blobs["x"].data[...] *= 100
    net.run_forward(0, list(net._layer_names).index("relu2"))


def run_a_part_twice(net):
    run_a_part(net)
    run_a_part(net)


def change_parameters(net):
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] *= 3


def reshape(net):
    net.blobs["x"].reshape(6, 3, 6, 6)
    net.forward(end="relu2")


@pytest.mark.parametrize("disturb", [write_the_input, run_a_part, run_a_part_twice, change_parameters, reshape])
def test_a_deferred_top_shows_its_own_pass(both, disturb):
    """Whatever happens to the input, the shapes or the parameters before it is read."""
    for net in both:
        feed(net)
        net.run_forward()
        disturb(net)
    close(both[0].blobs["g"].read_data(), both[1].blobs["g"].read_data(), "g")


def test_a_layer_reads_a_deferred_top(both):
    """In a pass over the sum alone, after the convolution's input has changed."""
    for net in both:
        feed(net)
        net.run_forward()
        net.blobs["d"].data[...] *= 100
        net.forward(start="sum2")
    assert_same(*both, diffs=False)


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
    for name in ("bn", "bn2", "bn4"):
        net.params[name][0].data[...] += 1


def hold_views(net):
    net.held = [blob.data for blob in net.blobs.values()]


#: what a script may do between a forward and a backward pass
DISTURBANCES = {
    "nothing": lambda net: None,
    "BatchNorm alone": alone("bn", "bn2", "bn4"),
    "Scale alone": alone("scale", "scale2", "scale4"),
    "ReLU alone": alone("relu"),
    "top": poke("c", "d", "h"),
    "bottom": poke("x"),
    "in place": poke("a", "g"),
    "below": run_what_is_below,
    "statistics": change_statistics,
    "hold": hold_views,
}


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "in two parts"])
@pytest.mark.parametrize("name", DISTURBANCES)
def test_backward_goes_by_the_forward_pass(both, name, parts):
    """And by what tops hold now where the layer itself would; no blob's data change."""
    for net in both:
        feed(net)
        net.run_forward()
        DISTURBANCES[name](net)
        net.clear_param_diffs()
        if parts:
            net.backward(end="scale4")
            net.backward(start="bn4", end="scale2")
            net.backward(start="bn2", end="relu")
            net.backward(start="scale")
        else:
            net.backward()
        net.held = None
    assert_same(*both)


def test_every_blob_has_the_diff_of_the_layers_one_by_one(both):
    """Also one on which Scale and ReLU work in place behind a BatchNorm that does not."""
    for net in both:
        feed(net)
        net.run_forward()
        net.run_backward()
    for name, blob in both[0].blobs.items():
        close(blob.read_diff(), both[1].blobs[name].read_diff(), f"diff of {name}")


def test_scales_of_zero(both):
    """From such a channel's top the Scale's bottom cannot be found: it is computed again, from the same parameters."""
    plain, fast = both
    for net in both:
        for name in ("scale", "scale4"):
            net.params[name][0].data[3] = 0
        feed(net)
        net.run_forward()
        net.run_backward()
    assert_same(*both)
    if not fast.phase:
        return
    fast._chains.clear()
    fast.folds = True
    fast.run_forward()
    fast.params["conv"][0].data[...] *= 2
    with pytest.raises(LayerError, match="'conv': its parameters were written to since the forward pass: run forward"):
        fast.run_backward()
