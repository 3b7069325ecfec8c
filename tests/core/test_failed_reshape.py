"""A reshape that fails changes nothing: the blob keeps its shape, and the net still runs with images that fit."""

import math

import numpy as np
import pytest

from minicaffe import Net, NetSpec
from minicaffe import layers as L
from minicaffe.core.blob import Blob
from minicaffe.core.memory import Memory
from minicaffe.core.places import HOST
from minicaffe.errors import BlobError, DeviceError, LayerError, MinicaffeError

TOO_LARGE = (1, 3, 2_000_000, 2_000_000)


def no_memory(*_, **__):
    raise MemoryError


def state(blob):
    return blob.shape, blob.count, blob.data_memory, blob.diff_memory, blob.data.copy()


def assert_unchanged(blob, before):
    assert blob.shape == before[0] and blob.count == before[1]
    assert blob.data_memory is before[2] and blob.diff_memory is before[3]
    np.testing.assert_array_equal(blob.data, before[4])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [TOO_LARGE, (2**31,), (2**40, 2**40), (2**62,), (2**63, 2), (2**16, 2**15 - 1)])
def test_a_blob_that_cannot_grow_stays_as_it_was(shape, dtype, monkeypatch):
    """Above 2^31 - 1 values a blob is refused; below, there may not be enough memory."""
    blob = Blob((2, 3), dtype)
    blob.data[...] = np.arange(6).reshape(2, 3)
    shared = Blob((6,), dtype)
    shared.share_data(blob)
    before, others = state(blob), state(shared)
    error, words = BlobError, "at most 2147483647 numbers"
    if math.prod(shape) < 2**31:
        error, words = MemoryError, r"no room for a blob of shape \(.*bytes cannot be allocated"
        monkeypatch.setattr(np, "empty", no_memory)
    for grown in (blob, shared):
        with pytest.raises(error, match=words):
            grown.reshape(shape)
    monkeypatch.undo()
    assert_unchanged(blob, before)
    assert_unchanged(shared, others)


def test_lengths_that_cannot_be():
    blob = Blob((2, 3))
    before = state(blob)
    with pytest.raises(BlobError, match="negative"):
        blob.reshape(1, -1)
    with pytest.raises((TypeError, ValueError)):
        blob.reshape((2, None))
    assert_unchanged(blob, before)


def spec():
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 3, 8, 8]))
    n.conv = L.Convolution(n.data, num_output=4, kernel_size=3, weight_filler=dict(type="xavier"))
    n.relu = L.ReLU(n.conv, in_place=True)
    n.norm = L.LRN(n.relu)
    n.pool = L.Pooling(n.norm, kernel_size=2, stride=2)
    n.middle = L.Convolution(n.pool, num_output=4, kernel_size=2, weight_filler=dict(type="xavier"))
    n.sum = L.Eltwise(n.middle, L.Power(n.middle))
    n.first, n.second = L.Slice(n.sum, ntop=2)
    n.back = L.Deconvolution(n.first, convolution_param=dict(
        num_output=2, kernel_size=4, stride=2, weight_filler=dict(type="xavier")))  # fmt: skip
    n.flat = L.Flatten(n.second)
    return n.to_proto()


@pytest.fixture
def net(engine):
    param = spec()
    param.force_backward = True
    return Net(param, phase=0)


def run(net, size=8):
    shape = (1, 3, size, size)
    net.blobs["data"].reshape(shape)
    net.clear_param_diffs()
    net.blobs["data"].data[...] = np.random.default_rng(0).random(shape)
    net.forward()
    for name in net.outputs:
        net.blobs[name].diff[...] = 1
    net.backward()
    return [b.data.copy() for b in net.blobs.values()] + [b.diff.copy() for b in net.learnable_params]


def assert_same(results, expected):
    for result, value in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("as_well", ["forward", "reshape"])
def test_small_pictures_after_one_that_is_too_large(net, as_well):
    expected = run(net)
    with pytest.raises((MemoryError, MinicaffeError)):
        net.blobs["data"].reshape(TOO_LARGE)
        getattr(net, as_well)()
    assert_same(run(net), expected)


@pytest.mark.parametrize("size", [2, 4])
def test_a_picture_that_a_layer_in_the_middle_refuses(net, size):
    expected = run(net)
    for _ in range(2):
        net.blobs["data"].reshape(1, 3, size, size)
        with pytest.raises(LayerError):
            net.forward()
    assert_same(run(net), expected)
    run(net, 12)
    assert_same(run(net), expected)


@pytest.mark.parametrize("fail_at", range(11))
def test_a_layer_that_fails_in_the_middle_of_its_reshape(net, fail_at, monkeypatch):
    """Its tops keep shape and memory, and it is reshaped again before the next pass, even with the old shapes."""
    expected = run(net)
    layer, tops = net.layers[1 + fail_at], net.tops[1 + fail_at]
    before = [blob.signature for blob in tops if blob not in net.bottoms[1 + fail_at]]
    original = layer.reshape

    def fail(bottom, top):
        original(bottom, top)
        raise MemoryError("of the test")

    monkeypatch.setattr(layer, "reshape", fail)
    net.blobs["data"].reshape(1, 3, 12, 12)
    with pytest.raises(LayerError, match="not enough memory .of the test"):
        net.forward()
    monkeypatch.setattr(layer, "reshape", original)
    assert [blob.signature for blob in tops if blob not in net.bottoms[1 + fail_at]] == before
    assert_same(run(net), expected)
    run(net, 12)
    assert_same(run(net), expected)


@pytest.mark.parametrize("fail_at", range(1, 11, 2))
def test_memory_that_is_refused_when_it_is_used(net, fail_at, monkeypatch):
    """Memory is allocated at its first use; if that fails, the blob can still be reshaped and used."""
    expected = run(net)
    limit = 4 * 3 * 40 * 40

    def refuse(count, dtype):
        if count * dtype.itemsize > limit:
            raise MemoryError("of the test")
        return original(count, dtype)

    import minicaffe.core.memory
    from minicaffe.onednn import tensors

    original = minicaffe.core.memory.aligned_zeros
    for module in (minicaffe.core.memory, tensors):
        monkeypatch.setattr(module, "aligned_zeros", refuse)
    limit *= fail_at
    net.blobs["data"].reshape(1, 3, 130, 130)
    net.reshape()
    with pytest.raises(MemoryError, match="of the test"):
        net.blobs["data"].data[...] = 1
        net.forward()
        for blob in net.blobs.values():
            blob.data[...] = 1
    assert_same(run(net), expected)


def test_what_the_host_holds_is_kept_when_another_place_refuses(monkeypatch):
    memory = Memory(6, np.dtype(np.float32))
    memory.live()[:] = range(6)

    def refuse():
        raise DeviceError("the GPU has no room")

    with pytest.raises(DeviceError):
        memory.allocate(refuse)
    smaller = memory.fitted(3, HOST)
    assert smaller.count == 3 and not smaller.refused
    np.testing.assert_array_equal(smaller.host(), [0, 1, 2])


@pytest.mark.gpu
def test_a_gpu_without_room(gpu_mode, monkeypatch):
    from minicaffe.cuda import memory

    net = Net(spec(), phase=1)

    def passes(size):
        x = np.random.default_rng(0).random((1, 3, size, size))
        net.blobs["data"].reshape(x.shape)
        return {name: values.copy() for name, values in net.forward(data=x).items()}

    expected = passes(8)
    original = memory.DeviceBuffer.__init__

    def refuse(self, nbytes):
        if nbytes > 4 * 3 * 40 * 40:
            raise DeviceError("the GPU has no room")
        original(self, nbytes)

    monkeypatch.setattr(memory.DeviceBuffer, "__init__", refuse)
    with pytest.raises(DeviceError, match="no room"):
        passes(60)
    for name, values in passes(8).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-6)
