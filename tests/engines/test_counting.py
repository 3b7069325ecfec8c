"""The engine COUNTING works without an edit in core, and copies only what layers read at another place."""

import threading

import numpy as np
import pytest

import minicaffe
from counting import BUFFERS, COUNTING, NOT_COMPUTED, CountingLayer, ProductReLU
from minicaffe.core.blob import Blob
from minicaffe.core.registry import layer_class, variants_of
from minicaffe.core.settings import restored
from minicaffe.gradient_check import check_gradient
from minicaffe.proto import caffe_pb2, parse_text

X = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'


@pytest.fixture(autouse=True)
def chosen():
    with restored():
        minicaffe.set_engine("COUNTING")
        yield


def layer(name, kind, bottom, top, more=""):
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {more} }}'


def product(name, bottom, top):
    filler = 'weight_filler { type: "gaussian" }'
    return layer(name, "InnerProduct", bottom, top, f"inner_product_param {{ num_output: 3 {filler} }}")


def build(*layers, force=True):
    """A net of these layers behind an input x (2, 3)."""
    text = "\n".join([f"force_backward: {str(force).lower()}", X, *layers])
    net = minicaffe.Net(parse_text(text, caffe_pb2.NetParameter()), phase=minicaffe.TRAIN)
    net.blobs["x"].data[...] = np.random.default_rng(0).standard_normal((2, 3))
    return net


def copies(run):
    """The numbers of copies that a call makes: (to the host, from the host)."""
    before = BUFFERS.to_host, BUFFERS.from_host
    run()
    return BUFFERS.to_host - before[0], BUFFERS.from_host - before[1]


# -- what there is -----------------------------------------------------------------------------------------------------


def test_every_type_that_computes_has_a_variant():
    mine = {cls.type for cls in variants_of("COUNTING")}
    ours = (
        cls for cls in variants_of("CAFFE") if cls.__module__.startswith("minicaffe.")
    )  # other tests register types
    others = {cls.type for cls in ours} - mine
    assert len(mine) > 55 and all(issubclass(layer_class(kind, "COUNTING"), CountingLayer) for kind in mine)
    assert all(kind in NOT_COMPUTED or layer_class(kind).exact_num_bottom == 0 for kind in others)


def test_a_prototxt_may_name_it():
    minicaffe.set_engine("DEFAULT")
    net = build(layer("a", "AbsVal", "x", "y", 'engine: "COUNTING"'), layer("b", "AbsVal", "y", "z", 'engine: "CAFFE"'))
    assert [each.engine for each in net.layers] == ["CAFFE", "COUNTING", "CAFFE"]


def test_float64():
    net = minicaffe.Net(parse_text(X + layer("a", "AbsVal", "x", "y"), caffe_pb2.NetParameter()), 0, dtype=np.float64)
    assert net.layers[1].engine == "COUNTING"
    check_gradient('type: "TanH"', [np.random.default_rng(0).standard_normal((2, 3))])


def test_a_type_without_a_backward_pass_has_none_in_its_variant_either():
    arg_max = layer_class("ArgMax", "COUNTING")(caffe_pb2.LayerParameter(type="ArgMax"))
    assert not arg_max.allow_force_backward(0)


def test_results_stay_in_its_buffers():
    net = build(layer("a", "AbsVal", "x", "y"))
    net.run_forward()
    assert net.blobs["y"].data_memory.newest() is COUNTING.place


# -- copies ------------------------------------------------------------------------------------------------------------


def test_nothing_is_copied_between_its_layers():
    net = build(layer("a", "TanH", "x", "a"), layer("b", "Power", "a", "b"), layer("c", "AbsVal", "b", "c"))
    assert copies(net.run_forward) == (0, 1)  # the input
    assert copies(net.run_forward) == (0, 0)
    assert copies(lambda: net.blobs["c"].read_data()) == (1, 0)
    net.blobs["c"].diff[...] = 1
    assert copies(net.run_backward) == (0, 1)  # the gradient of the top
    assert copies(lambda: net.blobs["x"].read_diff()) == (1, 0)


def test_a_numpy_layer_between_its_layers_costs_a_copy_each_way():
    minicaffe.set_engine("DEFAULT")
    net = build(
        layer("a", "TanH", "x", "a", 'engine: "COUNTING"'),
        layer("b", "AbsVal", "a", "b", 'engine: "CAFFE"'),
        layer("c", "TanH", "b", "c", 'engine: "COUNTING"'),
    )
    net.run_forward()
    assert copies(net.run_forward) == (1, 1)
    net.blobs["c"].diff[...] = 1
    net.run_backward()
    assert copies(net.run_backward) == (1, 1)


def test_layers_that_share_memory_cost_nothing():
    net = build(layer("a", "TanH", "x", "a"), layer("b", "Flatten", "a", "b"), layer("c", "TanH", "b", "c"))
    net.run_forward()
    assert copies(net.run_forward) == (0, 0)


def test_values_kept_for_backward_stay_in_its_buffers():
    net = build(layer("a", "TanH", "x", "a"), layer("b", "ReLU", "a", "a"))
    net.blobs["a"].diff[...] = 1
    net.forward_backward()
    assert net.layers[1].kept_blobs.tops
    assert copies(net.forward_backward) == (0, 0)


def test_a_held_view_costs_a_copy_per_pass():
    net = build(layer("a", "TanH", "x", "a"), layer("b", "TanH", "a", "b"))
    net.run_forward()
    view = net.blobs["b"].data
    assert copies(net.run_forward)[0] == 1
    np.testing.assert_allclose(view, np.tanh(np.tanh(net.blobs["x"].read_data())), rtol=1e-6)
    del view
    net.run_forward()
    assert copies(net.run_forward) == (0, 0)


def test_parameters_are_copied_once_after_each_write():
    net = build(product("ip", "x", "y"), force=False)
    assert copies(net.run_forward) == (0, 3)  # input, weights, bias
    assert copies(net.run_forward) == (0, 0)
    net.params["ip"][0].data[...] = 1
    assert copies(net.run_forward) == (0, 1)
    assert copies(lambda: net.params["ip"][0].read_data()) == (0, 0)
    assert copies(net.run_forward) == (0, 0)


def test_two_nets_share_parameters_and_their_copy():
    net, other = build(product("ip", "x", "y")), build(product("ip", "x", "y"))
    other.share_with(net)
    net.run_forward()
    assert copies(other.run_forward) == (0, 1)  # its input
    np.testing.assert_array_equal(other.blobs["y"].data, net.blobs["y"].data)


@pytest.mark.gpu
def test_its_results_are_read_on_the_gpu(cuda_device):
    """A net built for it runs on the GPU, too: the values pass through the host."""
    net = build(layer("a", "TanH", "x", "a"), layer("b", "TanH", "a", "b"))
    net.run_forward()
    expected = net.blobs["b"].data.copy()
    minicaffe.set_mode_gpu()
    net.forward_from_to(2, 2)
    np.testing.assert_allclose(net.blobs["b"].data, expected, rtol=1e-5)


# -- layers computed as one --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [0, 0.25])
def test_a_product_and_its_relu_are_computed_as_one(slope, monkeypatch):
    relu = layer("relu", "ReLU", "y", "y", f"relu_param {{ negative_slope: {slope} }}")
    nets = []
    for engine in ("COUNTING", "CAFFE"):
        minicaffe.set_engine(engine)
        minicaffe.set_random_seed(1)
        nets.append(build(product("ip", "x", "y"), relu))
    fused, plain = nets
    monkeypatch.setattr(layer_class("ReLU", "COUNTING"), "forward_cpu", None)  # which does not run by itself
    for net in nets:
        net.run_forward()
    assert isinstance(fused.layers[1].fused, ProductReLU)
    for net in nets:
        net.blobs["y"].diff[...] = 1
        net.run_backward()
    for name in ("x", "y"):
        np.testing.assert_allclose(fused.blobs[name].data, plain.blobs[name].data, rtol=1e-6)
        np.testing.assert_allclose(fused.blobs[name].diff, plain.blobs[name].diff, rtol=1e-6)


def test_a_group_copies_what_its_first_layer_reads():
    net = build(product("ip", "x", "y"), layer("relu", "ReLU", "y", "y"), force=False)
    assert copies(net.run_forward) == (0, 3)  # input, weights, bias
    assert copies(net.run_forward) == (0, 0)
    assert isinstance(net.layers[2].fused, ProductReLU)


def test_a_relu_that_a_later_layer_overwrites_runs_by_itself():
    net = build(product("ip", "x", "y"), layer("relu", "ReLU", "y", "y"), layer("p", "Power", "y", "y"))
    net.run_forward()
    assert net.layers[1].fused is None


# -- threads -----------------------------------------------------------------------------------------------------------


def test_threads_that_first_read_a_blob_share_one_copy(monkeypatch):
    """As in nets that share parameters: no thread gets a buffer that another one has not filled yet."""
    memory, allocate = Blob((3,)).data_memory, BUFFERS.allocate
    memory.host_place()[:] = 7
    memory.wrote_host()
    other = threading.Thread(target=lambda: memory.read(BUFFERS))

    def while_another_thread_reads(count, dtype):
        if not other.ident:
            other.start()
            other.join(0.2)  # without a lock it would allocate as well in this time
        return allocate(count, dtype)

    monkeypatch.setattr(BUFFERS, "allocate", while_another_thread_reads)
    first = memory.read(BUFFERS)
    other.join()
    assert first is memory.read(BUFFERS)
    np.testing.assert_array_equal(first.array, 7)
