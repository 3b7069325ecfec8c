"""Blobs pass from layer to layer in oneDNN's layouts; scripts read them in Caffe's."""

import threading

import numpy as np
import pytest

from helpers.engines import needs_onednn
from helpers.nets import net_from_text
from minicaffe.core.blob import Blob
from minicaffe.testing import NUMPY, ONEDNN

pytestmark = needs_onednn

from minicaffe.onednn import conversion, execution, layouts, primitives, tensors  # noqa: E402
from minicaffe.onednn.library import Arg  # noqa: E402

SHAPE = (2, 20, 5, 6)

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "c"
        convolution_param { num_output: 16 kernel_size: 3 pad: 1 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "scale" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "conv2" type: "Convolution" bottom: "c" top: "d"
        convolution_param { num_output: 16 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "c" bottom: "d" top: "e" }
layer { name: "flat" type: "Flatten" bottom: "e" top: "f" }
layer { name: "ip" type: "InnerProduct" bottom: "f" top: "y"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
"""


@pytest.fixture
def blocked():
    """A layout in blocks of channels, as a convolution chooses it."""
    any_layout = tensors.any_layout
    conv = primitives.convolution(
        any_layout(SHAPE), any_layout((16, 20, 3, 3)), None, any_layout((2, 16, 3, 4)), (1, 1), (0, 0), (0, 0), (0, 0)
    )  # fmt: skip
    desc = conv.desc(Arg.SRC)
    assert not desc.plain and desc.padded
    return desc


@pytest.fixture
def reorders(monkeypatch):
    """Count conversions."""
    count = []
    original = conversion.reorder

    def counted(*args, **kwargs):
        count.append(args)
        original(*args, **kwargs)

    monkeypatch.setattr(layouts, "reorder", counted)
    return count


def filled():
    blob = Blob(SHAPE)
    blob.data = np.random.default_rng(0).standard_normal(SHAPE)
    return blob, blob.read_data().copy()


def test_a_layout_is_converted_to_once(blocked, reorders):
    blob, values = filled()
    first = layouts.data(blob, blocked)
    assert layouts.data(blob, blocked) is first and layouts.data(blob) is first
    assert len(reorders) == 1
    np.testing.assert_array_equal(conversion.to_numpy(first), values)
    blob.data[0] = 3
    layouts.data(blob, blocked)
    assert len(reorders) == 2


def test_row_major_memory_is_the_hosts(reorders):
    blob, values = filled()
    array = layouts.data(blob, tensors.plain(SHAPE)).array()
    assert np.shares_memory(array, blob.read_data()) and not reorders
    out = layouts.mutable_data(blob, tensors.plain(SHAPE))
    out.array()[...] = 7
    assert (blob.data == 7).all() and not reorders


def test_what_an_engine_wrote_is_read_by_the_host(blocked):
    blob, values = filled()
    copy = layouts.data(blob, blocked)
    other = Blob(SHAPE)
    conversion.reorder(copy, layouts.mutable_data(other, blocked))
    np.testing.assert_array_equal(other.read_data(), values)
    np.testing.assert_array_equal(other.data, values)


def test_another_shape_of_the_same_memory(blocked):
    """Flatten and Reshape share memory under another shape."""
    blob, values = filled()
    flat = Blob((2, 600))
    flat.share_data(blob)
    conversion.reorder(tensors.of_array(2 * values), layouts.mutable_data(blob, blocked))
    np.testing.assert_array_equal(layouts.data(flat).array(), 2 * values.reshape(2, 600))


def test_a_view_that_a_script_holds_stays_valid(blocked):
    blob, values = filled()
    view = blob.data
    layouts.data(blob, blocked)
    view[0] = 5  # without reading the blob again
    np.testing.assert_array_equal(conversion.to_numpy(layouts.data(blob, blocked)), view)
    conversion.reorder(tensors.of_array(-values), layouts.mutable_data(blob, blocked))
    blob.settle()
    np.testing.assert_array_equal(view, -values)


def test_memory_is_reused_when_a_blob_shrinks(blocked):
    blob, values = filled()
    buffer = layouts.mutable_data(blob, blocked).buffer
    blob.reshape(1, *SHAPE[1:])
    conv = primitives.convolution(
        tensors.any_layout(blob.shape), tensors.any_layout((16, 20, 3, 3)), None, tensors.any_layout((1, 16, 3, 4)),
        (1, 1), (0, 0), (0, 0), (0, 0),
    )  # fmt: skip
    assert layouts.mutable_data(blob, conv.desc(Arg.SRC)).buffer is buffer


def test_diffs_of_parameters_add_up(blocked):
    blob, values = filled()
    blob.diff = 1
    layouts.add_to_diff(blob, layouts.data(blob, blocked))
    layouts.add_to_diff(blob, layouts.data(blob))
    np.testing.assert_allclose(blob.diff, 1 + 2 * values, rtol=1e-4)


# -- in a net ----------------------------------------------------------------------------------------------------------


def nets(text=NET):
    """The same net twice: in numpy, and in oneDNN."""
    result = []
    for engine in (NUMPY, ONEDNN):
        with engine.chosen():
            result.append(net_from_text(f"force_backward: true {text}"))
    plain, fast = result
    rng = np.random.default_rng(1)
    for layer in plain.params:
        for a, b in zip(plain.params[layer], fast.params[layer], strict=True):
            a.data = b.data = rng.random(a.shape)
    return plain, fast


def feed(net):
    rng = np.random.default_rng(2)
    net.blobs["x"].data[...] = rng.standard_normal(net.blobs["x"].shape)
    net.blobs["y"].diff[...] = rng.standard_normal(net.blobs["y"].shape)
    net.clear_param_diffs()


def assert_same(plain, fast):
    for name in plain.blobs:
        for what in ("read_data", "read_diff"):
            a, b = getattr(plain.blobs[name], what)(), getattr(fast.blobs[name], what)()
            np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4 * np.abs(a).max(), err_msg=f"{name} {what}")
    for name in plain.params:
        for i, (p, q) in enumerate(zip(plain.params[name], fast.params[name], strict=True)):
            a, b = p.read_diff(), q.read_diff()
            np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4 * np.abs(a).max(), err_msg=f"{name} {i} diff")


@pytest.mark.parametrize("access", ["never", "read", "live", "hold"])
def test_a_net_of_in_place_layers(access):
    """The results do not depend on reads of blobs between the passes, or on views that a script holds."""
    both = nets()
    for _ in range(3):
        held = []
        for net in both:
            feed(net)
            if access == "hold":
                held.append([(b.data, b.diff) for b in net.blobs.values()])
            net.forward()
            for blob in net.blobs.values():
                if access == "read":
                    blob.read_data()
                elif access == "live":
                    blob.data.sum()
            net.backward()
        if access == "hold":  # the views themselves, before the blob is read
            for (a, da), (b, db) in zip(*held, strict=True):
                np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4 * np.abs(a).max())
                np.testing.assert_allclose(db, da, rtol=1e-3, atol=1e-4 * np.abs(da).max())
        assert_same(*both)


def test_nothing_is_converted_between_convolutions(reorders):
    _, net = nets()
    feed(net)
    net.forward()
    del reorders[:]
    net.blobs["x"].data[...] += 1
    start, end = (list(net.layer_names).index(name) for name in ("bn", "conv2"))
    net.run_forward(0, start - 1)
    del reorders[:]
    net.run_forward(start, end)
    assert not reorders


def test_two_nets_share_parameters():
    plain, fast = nets()
    with ONEDNN.chosen():
        test = net_from_text(NET, 1)
    test.share_with(fast)
    feed(fast)
    fast.forward()
    test.blobs["x"].data[...] = fast.blobs["x"].data
    before = test.forward()["y"].copy()
    for blob in fast.params["ip"]:
        blob.data *= 2
    np.testing.assert_allclose(test.forward()["y"], 2 * before, rtol=1e-5)


def test_nets_in_threads():
    """Two nets compute at the same time, each in its own thread, and a third thread runs a net built elsewhere."""
    _, alone = nets()
    feed(alone)
    alone.forward_backward()
    others = [nets()[1] for _ in range(3)]
    errors = []

    def work(net):
        try:
            for _ in range(5):
                feed(net)
                net.run_forward()
                net.run_backward()
            assert_same(alone, net)
        except BaseException as error:  # an exception that ends a thread does not fail the test
            errors.append(error)

    workers = [threading.Thread(target=work, args=(net,)) for net in others]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors


def test_the_steady_state_makes_nothing(monkeypatch):
    """After some passes no memory is allocated, no primitive made or bound."""
    _, net = nets()
    for _ in range(5):
        feed(net)
        net.run_forward()
        net.run_backward()
    made = []
    for kind in (tensors.Tensor, execution.Execution, execution.Primitive):
        original = kind.__init__

        def noted(self, *args, _original=original, **kwargs):
            made.append(type(self).__name__)
            _original(self, *args, **kwargs)

        monkeypatch.setattr(kind, "__init__", noted)
    for _ in range(3):
        net.clear_param_diffs()
        net.run_forward()
        net.run_backward()
        for blobs in net.params.values():
            for blob in blobs:
                blob.data[...] *= 0.99
    assert not made


def test_a_view_is_written_to_and_dropped_between_passes():
    """Of a parameter, of an input and of a blob that a primitive writes."""
    both = nets()
    for net in both:
        feed(net)
        views = [net.params["conv"][0].data, net.blobs["x"].data]
        net.forward()
        for view in views:
            view *= 2
        del view, views[:]
        net.forward()
        view = net.blobs["c"].data
        net.forward()
        view[...] = np.arange(view.size).reshape(view.shape) % 3
        del view
        net.forward(start="conv2")
        net.clear_param_diffs()
        net.backward(end="conv2")
    assert_same(*both)
