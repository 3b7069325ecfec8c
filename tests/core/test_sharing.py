"""Blobs that share buffers: every blob shows the numbers that it would show without sharing."""

import gc
import random
import threading
import weakref

import numpy as np
import pytest

import minicaffe
from minicaffe import Sharing, onednn
from minicaffe import layers as L
from minicaffe.core import recompute
from minicaffe.core.memory import Memory
from minicaffe.core.planner import Interval, Slabs, assign, backward_intervals, forward_intervals
from minicaffe.core.sharing import Plan
from minicaffe.errors import BlobError
from minicaffe.models import zoo
from minicaffe.proto import caffe_pb2, parse_text

ENGINES = ["CAFFE", *(["DEFAULT"] if onednn.available() else [])]

CHAIN = """
force_backward: true
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "a" type: "Power" bottom: "data" top: "a" power_param { shift: 1 scale: 2 } }
layer { name: "b" type: "TanH" bottom: "a" top: "b" }
layer { name: "c" type: "Convolution" bottom: "b" top: "c"
        convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "d" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "e" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "f" type: "ReLU" bottom: "c" top: "c" }
layer { name: "g" type: "Sigmoid" bottom: "c" top: "g" }
layer { name: "sum" type: "Eltwise" bottom: "g" bottom: "a" top: "h" }
layer { name: "i" type: "AbsVal" bottom: "h" top: "i" }
layer { name: "out" type: "InnerProduct" bottom: "i" top: "out"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
"""
SMALL = {
    "resnet50": dict(batch=1, size=64),
    "googlenet": dict(batch=1, size=224),
    "vgg16": dict(batch=1, size=32, fc=64),
    "squeezenet": dict(batch=1, size=67),
    "mobilenet": dict(batch=1, size=64),
    "densenet121": dict(batch=1, size=64, growth=8),
    "cifar_resnet": dict(batch=2),
    "fcn8s": dict(size=40, fc=32),
    "unet": dict(size=188, width=4),
}


@pytest.fixture(params=ENGINES, autouse=True)
def engine(request):
    minicaffe.set_engine(request.param)
    yield request.param
    minicaffe.set_engine("DEFAULT")


def chain(phase=minicaffe.TEST):
    minicaffe.set_random_seed(4)
    net = minicaffe.Net(parse_text(CHAIN, caffe_pb2.NetParameter()), phase=phase)
    net.params["d"][1].data = net.params["d"][2].data = 1
    return net


def twins(make):
    """Two nets with the same weights and inputs: one that shares, and one that does not."""
    nets = []
    for sharing in (Sharing.RECOMPUTE, Sharing.NEVER):
        net = make()
        net.share_memory(sharing)
        nets.append(net)
    fill(nets, 1)
    return nets


def fill(nets, seed):
    for net in nets:
        rng = np.random.default_rng(seed)
        for name in net.inputs:
            blob = net.blobs[name]
            blob.data = rng.integers(0, 2, blob.shape) if "label" in name else rng.standard_normal(blob.shape)


def run(nets):
    for net in nets:
        net.run_forward()


def agree(nets, names=None):
    shared, plain = nets
    for name in names or list(plain.blobs):
        np.testing.assert_array_equal(shared.blobs[name].read_data(), plain.blobs[name].read_data(), err_msg=name)


def lost(net, what="data_memory"):
    """The names of the blobs whose buffers others have taken."""
    taken = net.plan.slabs.overwritten()
    return [name for name, blob in net.blobs.items() if getattr(blob, what) in taken]


@pytest.fixture
def poison(monkeypatch):
    """Before a pass, all shared buffers hold NaN."""
    planned = Plan._planned

    def fill_with_nan(self, groups):
        found = planned(self, groups)
        for slab in self.slabs._all if found else ():
            if slab._buffer is not None:
                slab._buffer.view(np.float32)[:] = np.nan
        return found

    monkeypatch.setattr(Plan, "_planned", fill_with_nan)


# -- the planner -------------------------------------------------------------------------------------------------------


def memories(*sizes):
    return [Memory(size, np.dtype(np.float32)) for size in sizes]


def test_intervals_that_do_not_overlap_share():
    a, b, c = memories(8, 4, 8)
    slabs = assign({a: Interval(0, 1), b: Interval(1, 2), c: Interval(2, 3)})
    assert slabs[a] is slabs[c] is not slabs[b]
    assert (slabs[a].size, slabs[b].size) == (32, 16)


def test_no_two_tenants_of_a_slab_overlap():
    rng = random.Random(3)
    found = {}
    for memory in memories(*(rng.randint(1, 50) for _ in range(60))):
        first = rng.randint(0, 40)
        found[memory] = Interval(first, first + rng.randint(0, 6))
    slabs = assign(found)
    for a in found:
        assert slabs[a].size >= a.count * 4
        for b in found:
            assert a is b or slabs[a] is not slabs[b] or not found[a].overlaps(found[b])
    assert len(set(slabs.values())) < 20


def test_a_memory_that_needs_two_buffers_gets_different_ones():
    a, b = memories(8, 8)
    slabs = Slabs({a: Interval(0, 1), b: Interval(2, 3)})
    first, second, third = slabs.room(a, 32), slabs.room(a, 32), slabs.room(b, 32)
    assert not np.shares_memory(first, second)
    assert np.shares_memory(first, third) or np.shares_memory(second, third)
    assert slabs.overwritten() == [a]


def test_intervals_of_a_net():
    net = chain()
    at = {name: i for i, name in enumerate(net._layer_names)}
    found = forward_intervals(net, {})

    def interval(name):
        return found[net.blobs[name].data_memory]

    assert (interval("b").first, interval("b").last) == (at["b"], at["c"])
    assert (interval("c").first, interval("c").last) == (at["c"], at["g"])
    assert interval("a").last == at["sum"], "a Split's tops are its bottom"


def test_fused_layers_are_one_step():
    class Group:
        start, end = 4, 9

    net = chain()
    found = forward_intervals(net, {4: Group})
    inner = {id(b.data_memory): b for i in range(4, 10) for b in net.tops[i]}
    assert all(found[b.data_memory].first <= 4 and found[b.data_memory].last >= 9 for b in inner.values())


def test_diffs_go_backward():
    net = chain(minicaffe.TRAIN)
    found = backward_intervals(net, {})
    at = {name: i for i, name in enumerate(net._layer_names)}
    interval = found[net.blobs["b"].diff_memory]
    assert (interval.first, interval.last) == (-at["c"], -at["b"])
    assert net.blobs["out"].diff_memory not in found, "no layer writes it"


# -- nets in TEST ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_every_blob_in_any_order(name, poison, engine):
    if engine == "CAFFE" and name in ("googlenet", "fcn8s", "vgg16"):
        pytest.skip("slow without oneDNN, and like the others")

    def make():
        minicaffe.set_random_seed(5)
        net = minicaffe.Net(getattr(zoo, name)(training=False, **SMALL[name]), phase=minicaffe.TEST)
        for layer in net.layers:
            if layer.type == "BatchNorm":
                layer.blobs[1].data = layer.blobs[2].data = 1
        return net

    nets = twins(make)
    run(nets)
    run(nets)
    assert nets[0].plan.slabs.overwritten()
    names = list(nets[1].blobs)
    random.Random(name).shuffle(names)
    agree(nets, names[:2])
    fill(nets, 2)
    agree(nets, names[2:3])  # of the pass before the inputs changed
    run(nets)
    agree(nets, names[::-1])
    run(nets)
    agree(nets)


def test_memory_is_shared():
    shared, plain = twins(chain)
    run((shared, plain))
    buffers = {name: blob.data_memory._host for name, blob in shared.blobs.items()}
    taken = [b for b in shared.plan.slabs._all if len(b.users) > 1]
    assert taken and buffers["data"] is not None
    assert shared.plan.slabs.nbytes < sum(m.count * 4 for m in shared.plan.slabs.intervals)


def test_what_was_read_is_not_shared_any_more(poison):
    nets = twins(chain)
    run(nets)
    agree(nets, ["a"])
    fill(nets, 3)
    run(nets)
    assert nets[0].blobs["a"].data_memory.plan is None and nets[0].blobs["a"].data_memory.fresh
    agree(nets)
    fill(nets, 4)
    run(nets)
    agree(nets)


def test_many_reads_end_the_sharing(monkeypatch, poison):
    monkeypatch.setattr(recompute, "_MOST_READ", 0)
    nets = twins(chain)
    run(nets)
    agree(nets, lost(nets[0])[:1])
    assert nets[0].plan is None
    agree(nets)


@pytest.mark.parametrize("start, end", [("g", None), (None, "c"), ("c", "c"), ("sum", "i")])
def test_partial_passes(start, end, poison):
    nets = twins(chain)
    for net in nets:
        net.forward()
        net.forward(start=start, end=end)
    agree(nets)
    fill(nets, 6)
    run(nets)
    agree(nets)


def test_a_blob_that_a_script_writes_to(poison):
    nets = twins(chain)
    run(nets)
    for net in nets:
        net.blobs["c"].data[...] = 0.5
        net.blobs["out"].data[...] = 7
    agree(nets, ["b", "c", "out", "g"])
    for net in nets:
        net.forward(start="g")
    agree(nets)


def test_a_view_that_is_held(poison):
    nets = twins(chain)
    views = [net.blobs["g"].data for net in nets]
    inputs = [net.blobs["data"].data for net in nets]
    for seed in (1, 2):
        for view in inputs:
            view[...] = np.random.default_rng(seed).standard_normal(view.shape)
        run(nets)
        np.testing.assert_array_equal(*views)
    for view in inputs:
        view[...] = 0
    agree(nets)


def test_parameters_that_change(poison):
    nets = twins(chain)
    run(nets)
    for net in nets:
        net.params["c"][0].data[...] *= 2
    agree(nets)
    run(nets)
    agree(nets)


def test_inputs_of_another_shape_and_back(poison):
    nets = twins(chain)
    for batch in (2, 4, 1, 2):
        for net in nets:
            net.blobs["data"].reshape(batch, 3, 6, 6)
        fill(nets, batch)
        agree(nets, ["out"])
        run(nets)
        agree(nets, ["out", "g"])
    agree(nets)


def test_net_reshape(poison):
    nets = twins(chain)
    run(nets)
    for net in nets:
        net.blobs["data"].reshape(1, 3, 6, 6)
        net.reshape()
    assert nets[0].blobs["h"].data.shape == (1, 3, 6, 6)
    fill(nets, 5)
    run(nets)
    agree(nets)


def test_backward(poison):
    nets = twins(chain)
    run(nets)
    for net in nets:
        net.blobs["out"].diff = 1
        net.backward()
    agree(nets)
    for name, blob in nets[1].blobs.items():
        np.testing.assert_allclose(nets[0].blobs[name].read_diff(), blob.read_diff(), rtol=1e-5, atol=1e-6)
    for name, blobs in nets[1].params.items():
        for a, b in zip(nets[0].params[name], blobs):
            np.testing.assert_allclose(a.read_diff(), b.read_diff(), rtol=1e-5, atol=1e-5)


def test_callbacks_see_every_blob(poison):
    nets, seen = twins(chain), ([], [])
    run(nets)
    for net, values in zip(nets, seen):
        net.after_forward(lambda i, net=net, values=values: values.append(net.blobs["a"].read_data().copy()))
    run(nets)
    np.testing.assert_array_equal(*seen)
    agree(nets)


def test_a_pass_that_fails(monkeypatch, poison):
    """What it has computed can be read; what it was about to compute has no values."""
    nets = twins(chain)
    run(nets)
    fill(nets, 8)
    for _ in range(2):
        for net in nets:
            with monkeypatch.context() as patch:
                patch.setattr(net.layer_dict["sum"], "forward", lambda bottom, top: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    net.run_forward()
        agree(nets, ["data", "a", "b", "c", "g", "out"])
        for name in ("h", "i"):
            with pytest.raises(BlobError, match="an error has ended its last pass"):
                nets[0].blobs[name].read_data()
        with pytest.raises(BlobError, match="run forward on all layers first"):
            nets[0].forward(start="i")
    run(nets)
    agree(nets)
    assert nets[0].plan is None


def test_the_first_pass_fails(monkeypatch):
    nets = twins(chain)
    for net in nets:
        with monkeypatch.context() as patch:
            patch.setattr(net.layer_dict["sum"], "forward", lambda bottom, top: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                net.run_forward()
    agree(nets)


def test_another_thread_gets_an_error_and_no_numbers():
    net, _ = twins(chain)
    net.run_forward()
    blob, errors = net.blobs["a"], []

    def read():
        try:
            blob.read_data()
        except minicaffe.errors.NetError as error:
            errors.append(error)

    with net.guard:
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert errors
    assert blob.read_data().any()


def test_nets_that_share_weights_share_no_buffers():
    first, second = chain(), chain()
    second.share_with(first)
    assert first.plan is second.plan is None


def test_a_layer_that_cannot_be_repeated():
    text = CHAIN.replace('type: "BatchNorm"', 'type: "BatchNorm" batch_norm_param { use_global_stats: false }')
    net = minicaffe.Net(parse_text(text, caffe_pb2.NetParameter()), phase=minicaffe.TEST)
    assert net.plan is None


def test_a_blob_that_outlives_its_net():
    net = chain()
    net.run_forward()
    gone, kept = net.blobs[lost(net)[0]], net.blobs["out"]
    alive = weakref.ref(net)
    del net
    gc.collect()
    assert alive() is None and kept.read_data().any()
    with pytest.raises(BlobError, match="keep the net"):
        gone.read_data()


# -- values that are forgotten -----------------------------------------------------------------------------------------


def test_forget_in_test():
    net, plain = twins(chain)
    net.share_memory(Sharing.FORGET)
    run((net, plain))
    agree((net, plain), ["data", "out"])
    name = lost(net)[0]
    with pytest.raises(BlobError, match=rf"net '': the values of blob '{name}' are gone.*Sharing\.NEVER"):
        net.blobs[name].read_data()
    with pytest.raises(BlobError, match="are gone"):
        net.forward(start="g")
    run((net, plain))
    agree((net, plain), ["out"])


def solver(sharing):
    minicaffe.set_random_seed(2)
    param = caffe_pb2.SolverParameter(base_lr=0.01, lr_policy="fixed", momentum=0.9, snapshot_after_train=False)
    param.net_param.CopyFrom(zoo.cifar_resnet(depth=8, batch=4))
    found = minicaffe.SGDSolver(param)
    found.net.share_memory(sharing)
    fill([found.net], 1)
    return found


def test_forget_in_training(poison):
    plain, forgetful = solver(Sharing.NEVER), solver(Sharing.FORGET)
    for each in (plain, forgetful):
        each.step(3)
    for a, b in zip(plain.net.learnable_params, forgetful.net.learnable_params):
        np.testing.assert_array_equal(a.read_data(), b.read_data())
        np.testing.assert_array_equal(a.read_diff(), b.read_diff())
    agree((forgetful.net, plain.net))
    name = lost(forgetful.net, "diff_memory")[0]
    with pytest.raises(BlobError, match=f"the diffs of blob '{name}' are gone"):
        forgetful.net.blobs[name].read_diff()


def test_forget_ends_with_callbacks():
    each = solver(Sharing.FORGET)
    each.step(1)
    name = lost(each.net, "diff_memory")[0]
    each.net.after_backward(lambda i: None)
    each.step(1)
    assert each.net.plan is None and each.net.blobs[name].diff.any()


def test_test_nets_of_a_solver_have_all_blobs():
    param = caffe_pb2.SolverParameter(base_lr=0.01, lr_policy="fixed", test_iter=[1], test_interval=10)
    param.net_param.CopyFrom(zoo.cifar_resnet(depth=8, batch=4))
    assert minicaffe.SGDSolver(param).test_nets[0].plan is None


@pytest.mark.parametrize("repeatable", [None, True])
def test_layers_of_other_packages_say_whether_they_can_be_repeated(repeatable, poison, monkeypatch):
    from minicaffe.layers.tanh import TanH

    monkeypatch.setattr(TanH, "__module__", "elsewhere")
    monkeypatch.setattr(TanH, "repeatable", repeatable)
    minicaffe.set_engine("CAFFE")
    nets = twins(chain)
    assert (nets[0].plan is None) == (repeatable is None)
    run(nets)
    agree(nets)


def test_buffers_of_earlier_shapes_are_freed():
    """Of pictures that get larger, none larger than the first: each shape may need buffers that the others lack."""
    n = minicaffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 3, 16, 16]))
    top, filler = n.data, dict(type="xavier")
    for _ in range(3):
        top = L.ReLU(L.Convolution(top, num_output=16, kernel_size=3, pad=1, weight_filler=filler), in_place=True)
    n.norm = L.LRN(L.Pooling(top, kernel_size=2, stride=2))
    n.out = L.Deconvolution(n.norm, convolution_param=dict(num_output=2, kernel_size=4, stride=2, pad=1))
    net, used = minicaffe.Net(n.to_proto(), minicaffe.TEST), []
    for size in (50, *range(20, 50)):
        net.blobs["data"].reshape(1, 3, size, size)
        net.forward()
        used.append(net.plan.slabs.nbytes)
    assert max(used[1:]) <= 3 * used[1]
