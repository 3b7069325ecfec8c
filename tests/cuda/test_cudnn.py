"""`engine: CUDNN`: cuDNN's convolutions where its frontend is installed, our own elsewhere.

If the frontend is not installed, or the device is emulated, the tests use a mock, which checks how the frontend is
called and computes with minicaffe's kernels.
"""

import importlib.util
import sys
import types

import numpy as np
import pytest

import minicaffe
from helpers.nets import net_from_text
from minicaffe.cuda import context, convolution, cudnn
from minicaffe.cuda.memory import fill_bytes
from minicaffe.layers.shared.window import Window

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda_device")]

NET = """
layer {{ name: "in" type: "Input" top: "data" top: "label"
        input_param {{ shape {{ dim: 3 dim: 4 dim: 9 dim: 7 }} shape {{ dim: 3 }} }} }}
layer {{ name: "conv" type: "{type}" bottom: "data" top: "conv" {engine}
        convolution_param {{ num_output: 6 kernel_size: 3 {more} weight_filler {{ type: "xavier" }}
                            bias_filler {{ type: "uniform" }} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
        inner_product_param {{ num_output: 5 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }}
force_backward: true
"""


class Tensor:
    def __init__(self, name, dim, stride=None, data_type="float"):
        self.name, self.dim, self.stride, self.output = name, dim, stride, False
        assert data_type == "float"

    def set_output(self, yes):
        self.output = yes
        return self

    def set_dim(self, dim):
        self.dim = dim
        return self

    def set_stride(self, stride):
        self.stride = stride
        return self


class Graph:
    """One operation, computed by our own kernels."""

    operations: list = []

    def __init__(self, io_data_type, intermediate_data_type, compute_data_type, handle):
        assert {io_data_type, intermediate_data_type, compute_data_type} == {"float"} and handle == "handle"
        self.tensors, self.steps = [], []

    def tensor(self, **arguments):
        self.tensors.append(Tensor(**arguments))
        return self.tensors[-1]

    def conv_fprop(self, image, weight, padding, stride, dilation):
        return self._convolution("forward", (image, weight, None), padding, stride, dilation)

    def conv_dgrad(self, loss, filter, padding, stride, dilation):
        return self._convolution("data_gradient", (None, filter, loss), padding, stride, dilation)

    def conv_wgrad(self, image, loss, padding, stride, dilation):
        return self._convolution("weight_gradient", (image, None, loss), padding, stride, dilation)

    def _convolution(self, what, roles, padding, stride, dilation):
        self.operations.append(what)
        self.what, self.sizes = what, (tuple(stride), tuple(padding), tuple(dilation))
        self.out = Tensor("out", None)
        self.roles = [role or self.out for role in roles]
        return self.out

    def __getattr__(self, name):
        return lambda *arguments: self.steps.append((name, *arguments))

    def get_workspace_size(self):
        return 64

    def execute(self, places, workspace, handle):
        notes = [step[1] for step in self.steps if step[0] == "deselect_numeric_notes"]
        order = "validate build_operation_graph create_execution_plans deselect_numeric_notes check_support build_plans"
        assert [step[0] for step in self.steps] == order.split()
        assert ("TENSOR_CORE" in notes[0]) != context.allows_tf32() and "NONDETERMINISTIC" in notes[0]
        assert self.out.output and isinstance(workspace, int) and handle == "handle"
        for tensor in (*self.tensors, self.out):
            assert tensor.stride == [int(np.prod(tensor.dim[i + 1 :])) for i in range(4)]
            assert type(places[tensor]) is int
        x, w, y = (role.dim for role in self.roles)
        own = convolution.CudaCorrelation(Window(tuple(w[2:]), *self.sizes), x[1] // w[1], np.dtype(np.float32))
        own.prepare(tuple(x), tuple(y))
        a, b, c = (places[role] for role in self.roles)
        if self.what == "weight_gradient":
            fill_bytes(b, 0, 4 * int(np.prod(w)))
        arguments = {"forward": (a, b, c), "data_gradient": (c, b, a), "weight_gradient": (a, c, b)}[self.what]
        getattr(own, self.what)(*arguments)


@pytest.fixture
def frontend(cuda_device, monkeypatch):
    """cuDNN's frontend, or a stand-in; yields the operations that were requested, or None."""
    real = cuda_device.name != "emulated GPU" and importlib.util.find_spec("cudnn")
    if not real:
        notes = types.SimpleNamespace(**{n: n for n in ("TENSOR_CORE", "DOWN_CONVERT_INPUTS", "NONDETERMINISTIC")})
        module = types.SimpleNamespace(
            pygraph=Graph, numerical_note=notes, heur_mode=types.SimpleNamespace(A="A", FALLBACK="FALLBACK"),
            data_type=types.SimpleNamespace(FLOAT="float"), backend_version=lambda: 1, create_handle=lambda: "handle",
            set_stream=lambda handle, stream: None,
        )  # fmt: skip
        monkeypatch.setitem(sys.modules, "cudnn", module)
        monkeypatch.setattr(Graph, "operations", [])
        cuda_device.cache.pop("cudnn", None)
    cudnn.reason_unavailable.cache_clear()
    yield None if real else Graph.operations
    cudnn.reason_unavailable.cache_clear()
    if not real:
        cuda_device.cache.pop("cudnn", None)


def passes(type_name, more, engine):
    """Run two passes, accumulating parameter diffs; return the net, and its blobs and parameter diffs by name."""
    minicaffe.set_random_seed(5)
    text = NET.format(type=type_name, more=more, engine=engine)
    net = net_from_text(text, 0)
    rng = np.random.default_rng(1)
    net.blobs["data"].data[...] = rng.standard_normal(net.blobs["data"].shape)
    net.blobs["label"].data[...] = rng.integers(0, 5, 3)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = rng.standard_normal(blob.shape) / 4
    net.clear_param_diffs()
    for _ in range(2):
        net.run_forward()
        net.run_backward()
    results = {"conv": net.blobs["conv"].data, "data": net.blobs["data"].diff}
    return net, {**results, **{f"conv {i}": blob.diff for i, blob in enumerate(net.params["conv"])}}


@pytest.mark.parametrize("type_name", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize("more", ["", "stride: 2 pad: 1", "dilation: 2 pad: 2 group: 2", "bias_term: false"])
def test_the_numbers_of_our_own_kernels(frontend, gpu_mode, type_name, more):
    _, expected = passes(type_name, more, 'engine: "CAFFE"')
    net, got = passes(type_name, more, 'engine: "CUDNN"')
    assert net.layers[1].engine == "CUDNN" and isinstance(net.layers[1].on_device, cudnn.CudnnCorrelation)
    for name in expected:
        largest = np.abs(expected[name]).max()
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-4, atol=1e-4 * largest, err_msg=name)
    if frontend is not None:
        assert sorted(frontend) == ["data_gradient", "forward", "weight_gradient"]  # each planned once


def test_what_cudnn_refuses_our_own_kernels_do(frontend, gpu_mode, monkeypatch, log_lines):
    _, expected = passes("Convolution", "", 'engine: "CAFFE"')

    def refuse(*_):
        raise RuntimeError("no engine\nand more")

    monkeypatch.setattr(cudnn, "_Plan", refuse)
    _, got = passes("Convolution", "", 'engine: "CUDNN"')
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name])
    lines = [line for line in log_lines if "engine CUDNN" in line]
    assert len(lines) == 1 and lines[0].endswith(": no engine")
    assert "minicaffe's own kernels do what cuDNN has no plan for, first conv_fprop of {" in lines[0]


def test_without_cudnn_one_line_says_so(gpu_mode, monkeypatch, log_lines):
    monkeypatch.setitem(sys.modules, "cudnn", None)
    cudnn.reason_unavailable.cache_clear()
    try:
        for _ in range(2):
            net, got = passes("Convolution", "pad: 1", 'engine: "CUDNN"')
    finally:
        cudnn.reason_unavailable.cache_clear()
    assert type(net.layers[1].on_device) is convolution.CudaCorrelation
    assert net.layers[1].engine == "CAFFE"
    lines = [line for line in log_lines if "] Engine" in line]
    assert len(lines) == 1, lines
    assert "] Engine CAFFE (CUDA) computes in place of CUDNN: cuDNN cannot be used: its frontend" in lines[0]
    _, expected = passes("Convolution", "pad: 1", 'engine: "CAFFE"')
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name])
