"""CONTRIBUTING.md's promise: a new layer is one file, one kernel file, one test file of one stem, and one line.

A copy of the checkout gets these four and nothing else; then the layer trains from a prototxt and passes the tests that
every layer passes, those of the lists of layers and kernels included.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
KERNEL_TESTS = ("test_belongs_to_a_layer", "test_every_kernel_can_be_prepared")

LAYER = '''"""Cube: the third power."""

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register


@register("Cube")
class Cube(Layer):
    """y = x^3.  bottom, top: any shape."""

    family = "activation"
    exact_num_bottom = exact_num_top = 1
    in_place = False
    backward_reads = ("bottom",)

    def top_shapes(self, bottom_shapes):
        return bottom_shapes

    def forward_cpu(self, bottom, top):
        top[0].data[...] = bottom[0].read_data() ** 3

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff[...] = 3 * bottom[0].read_data() ** 2 * top[0].read_diff()

    def forward_gpu(self, bottom, top):
        self.kernel("forward")(top[0].count, bottom[0].gpu_data(), top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            dx = bottom[0].mutable_gpu_diff()
            self.kernel("backward")(top[0].count, bottom[0].gpu_data(), top[0].gpu_diff(), dx)
'''

KERNELS = """__global__ void forward(const int n, const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = x[i] * x[i] * x[i];
}

__global__ void backward(const int n, const Dtype *x, const Dtype *dy, Dtype *dx) {
  GRID_STRIDE(i, n) dx[i] = 3 * x[i] * x[i] * dy[i];
}
"""

TESTS = '''"""Cube, by its formula."""

import numpy as np
import pytest

import minicaffe
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.testing import Case, LayerProperties

NET = """
    force_backward: true
    layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 2 dim: 3 } } }
    layer { name: 'cube' type: 'Cube' bottom: 'x' top: 'y' }"""


class TestProperties(LayerProperties):
    cases = [Case("type: 'Cube'", [(3, 5)])]


def run():
    net = minicaffe.Net(parse_text(NET, caffe_pb2.NetParameter()), phase=minicaffe.TRAIN)
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(net.forward(x=x)["y"], x**3, rtol=1e-6)
    np.testing.assert_allclose(net.backward(y=np.ones_like(x))["x"], 3 * x**2, rtol=1e-6)
    return net.layers[1]


def test_in_a_net():
    run()


def refuse(*arguments):
    raise AssertionError("the numpy code ran in GPU mode")


@pytest.mark.gpu
def test_in_a_net_on_the_gpu(cuda_device, monkeypatch):
    for method in ("forward_cpu", "backward_cpu"):
        monkeypatch.setattr(type(run()), method, refuse)
        minicaffe.set_mode_gpu()
        try:
            assert run().kernel_file() == "cube"
        finally:
            minicaffe.set_mode_cpu()
            monkeypatch.undo()
'''


def copy(path, checkout):
    """Copy a file or folder of this checkout to its place in another."""
    target = checkout / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if (CHECKOUT / path).is_dir():
        shutil.copytree(CHECKOUT / path, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(CHECKOUT / path, target)


@pytest.fixture
def checkout(tmp_path):
    """A checkout with its own layers/ and cuda/, to which the new layer is added."""
    (tmp_path / "tests").mkdir()
    for path in ("minicaffe", "solvers", "models", "tests/support", "tests/engines"):
        (tmp_path / path).symlink_to(CHECKOUT / path)
    for path in ("layers", "cuda", "setup.cfg", "tests/conftest.py", "tests/layers", "tests/cuda/test_kernels.py"):
        copy(path, tmp_path)
    (tmp_path / "layers" / "cube.py").write_text(LAYER)
    (tmp_path / "cuda" / "cube.cu").write_text(KERNELS)
    (tmp_path / "tests" / "layers" / "test_cube.py").write_text(TESTS)
    listed = tmp_path / "layers" / "__init__.py"
    lines = listed.read_text().splitlines(keepends=True)
    lines.insert(lines.index("    data,\n"), "    cube,\n")
    listed.write_text("".join(lines))
    return tmp_path


def passes(checkout, *arguments, **environment):
    """Run pytest in a checkout, where all tests must pass; return its last line, the counts."""
    own = {**os.environ, "PYTHONPATH": str(checkout), **environment}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(checkout), *arguments]
    done = subprocess.run(command, cwd=checkout, env=own, capture_output=True, text=True)
    last = done.stdout.strip().rpartition("\n")[2]
    assert done.returncode == 0 and "passed" in last, done.stdout + done.stderr
    return last


def test_on_the_cpu(checkout):
    lists = ("tests/layers/test_registry.py", *(f"tests/cuda/test_kernels.py::{test}[cube]" for test in KERNEL_TESTS))
    passes(checkout, "-m", "not gpu", "tests/layers/test_cube.py", *lists)


@pytest.mark.gpu
def test_on_the_gpu(checkout, cuda_device):
    assert "skipped" not in passes(checkout, "-m", "gpu", "tests/layers/test_cube.py", MINICAFFE_REQUIRE_CUDA="1")
