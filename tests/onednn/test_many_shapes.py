"""Caches for each shape are bounded, and freed with their last user."""

import gc
import os
import subprocess
import sys

import numpy as np
import pytest

from helpers.engines import needs_onednn
from minicaffe import NetSpec
from minicaffe import layers as L
from minicaffe.core.net import Net

pytestmark = needs_onednn

from minicaffe.onednn import conversion, execution, library, primitives, tensors  # noqa: E402
from minicaffe.onednn.library import Alg, Arg  # noqa: E402


def spec():
    n = NetSpec()
    msra = dict(weight_filler=dict(type="msra"))
    n.data = L.Input(shape=dict(dim=[1, 3, 16, 16]))
    n.conv = L.ReLU(L.Convolution(n.data, num_output=16, kernel_size=3, pad=1, **msra), in_place=True)
    n.norm = L.Scale(L.BatchNorm(L.Convolution(n.conv, num_output=16, kernel_size=1, **msra), in_place=True),
                     bias_term=True, in_place=True)  # fmt: skip
    n.lrn = L.LRN(L.PReLU(L.Eltwise(n.conv, n.norm)), local_size=3)
    n.wide = L.LRN(L.Concat(L.Pooling(n.lrn, kernel_size=2, stride=2), L.Pooling(n.conv, kernel_size=2, stride=2)))
    n.big = L.Deconvolution(n.wide, convolution_param=dict(num_output=2, kernel_size=4, stride=2, pad=1, **msra))
    n.loss = L.Reduction(n.big, loss_weight=1)
    param = n.to_proto()
    param.force_backward = True
    return param


def run(net, *size):
    net.blobs["data"].reshape(1, 3, *size)
    net.blobs["data"].data[...] = np.random.default_rng(size[0]).random((1, 3, *size))
    net.forward()
    if net.phase == 0:
        net.backward()
    return [net.blobs[name].read_data().copy() for name in ("lrn", "big")]


@pytest.fixture
def no_collector():
    """Disable the garbage collector, so that only reference counts free memory."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("phase", [0, 1])
def test_primitives_and_buffers_of_old_shapes_go(phase, no_collector):
    execution.find.cache_clear()
    net, before, own = Net(spec(), phase=phase), len(library.RUNTIME.primitives), set()
    run(net, 11, 14)
    per_shape = len(library.RUNTIME.primitives) - before
    for size in range(12, 72):
        run(net, size, size + 3)
        assert len(library.RUNTIME.primitives) <= before + execution.KEPT + 12 * per_shape
        own.add(sum(len(layer._own) for layer in net.layers if hasattr(layer, "_own")))
    assert len(own) == 1, "memory of the last shape only"
    execution.find.cache_clear()
    assert len(library.RUNTIME.primitives) <= before + 12 * per_shape


@pytest.mark.parametrize("phase", [0, 1])
def test_eight_shapes_keep_their_primitives(phase, monkeypatch):
    net, made = Net(spec(), phase=phase), []
    original = execution.Primitive.__init__
    monkeypatch.setattr(execution.Primitive, "__init__", lambda *args: made.append(args[2]) or original(*args))
    sizes = [(size, size + 3) for size in range(12, 20)]
    first = [run(net, *size) for size in sizes]
    assert "convolution_forward" in made
    made.clear()
    again = [run(net, *size) for size in sizes]
    assert set(made) <= {"reorder"}, made
    for a, b in zip(first, again, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_a_primitive_goes_with_its_last_user():
    desc = tensors.plain((3, 5))
    relu = primitives.eltwise(Alg.RELU, desc, desc)
    key = next(key for key, value in library.RUNTIME.primitives.items() if value is relu)
    execution.find.cache_clear()
    assert primitives.eltwise(Alg.RELU, desc, desc) is relu
    execution.find.cache_clear()
    del relu
    assert key not in library.RUNTIME.primitives


def test_layouts_are_one_object_while_they_are_used_and_no_longer():
    kept = tensors.strided((7, 11), (1, 7))
    key = kept.key
    for make in (tensors.plain, tensors.strided):
        make.cache_clear()
    assert tensors.strided((7, 11), (1, 7)) is kept
    del kept
    tensors.strided.cache_clear()
    assert key not in library.RUNTIME.descs


def test_a_reorder_does_not_keep_its_memory(no_collector):
    before = len(library.RUNTIME.primitives)
    execution.find.cache_clear()
    source, target = tensors.Tensor(tensors.plain((2, 5))), tensors.Tensor(tensors.strided((2, 5), (1, 2)))
    conversion.reorder(source, target)
    last = target.filled[2]
    assert target not in last.memories.values()
    del source, target, last
    execution.find.cache_clear()
    assert len(library.RUNTIME.primitives) <= before


@pytest.mark.parametrize("slope", [0.0, 0.25, -0.5])
def test_a_relu_behind_a_convolution_for_inference(slope):
    """Inference uses no eltwise post-operation: oneDNN 3.2 never frees the code of one."""
    x, w = (np.random.default_rng(0).standard_normal(s).astype(np.float32) for s in ((1, 8, 9, 9), (16, 8, 3, 3)))
    x[0, 0, 4, 4] = -1e30
    results = []
    for training in (True, False):
        conv = primitives.convolution(
            tensors.any_layout(x.shape), tensors.any_layout(w.shape), None, tensors.any_layout((1, 16, 7, 7)),
            (1, 1), (0, 0), (0, 0), (0, 0), training, (("eltwise", Alg.RELU, slope, 0.0),),
        )  # fmt: skip
        args = {arg: tensors.Tensor(conv.desc(arg)) for arg in (Arg.SRC, Arg.WEIGHTS, Arg.DST)}
        conversion.reorder(tensors.of_array(x), args[Arg.SRC])
        conversion.reorder(tensors.of_array(w), args[Arg.WEIGHTS])
        conv.run(args)
        results.append(conversion.to_numpy(args[Arg.DST]))
    assert np.isfinite(results[1]).all()
    np.testing.assert_allclose(results[1], results[0], rtol=1e-4, atol=1e-5 * np.abs(results[0]).max())


def test_the_library_keeps_no_primitives_of_its_own():
    import ctypes

    capacity = ctypes.c_int(-1)
    library.call("get_primitive_cache_capacity", ctypes.byref(capacity))
    assert capacity.value == 0


SIZES = """
import mmap

import numpy as np
import minicaffe as caffe
from minicaffe import layers as L

n = caffe.NetSpec()
n.data = L.Input(shape=dict(dim=[1, 3, 32, 32]))
top = n.data
for _ in range(6):
    conv = L.Convolution(top, num_output=32, kernel_size=3, pad=1, weight_filler=dict(type="msra"))
    top = L.ReLU(conv, in_place=True)
n.out = L.LRN(L.Pooling(top, kernel_size=2, stride=2), local_size=3)
net = caffe.Net(n.to_proto(), phase=caffe.TEST)

def run(height, width):
    net.blobs["data"].reshape(1, 3, height, width)
    net.forward()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE >> 20

run(48, 48)
sizes = [(h, w) for h in range(24, 44) for w in range(24, 44)]
np.random.default_rng(0).shuffle(sizes)
for count, size in enumerate(sizes):
    run(*size)
    if count == 40:
        before = resident()
print(resident() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="there is no /proc/self/statm to read")
def test_400_sizes_take_little_more_memory_than_40():
    """The bound is a third of the growth when nothing is freed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", SIZES], env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40, f"{done.stdout} MB"
