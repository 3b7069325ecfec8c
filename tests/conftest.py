"""Fixtures for all tests."""

import os

import pytest

from minicaffe import onednn
from minicaffe.config import config


@pytest.fixture(params=["caffe", "onednn", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request):
    """Each test once with the numpy code, once with oneDNN and once on the (real or emulated) CUDA device."""
    was = config.gpu, config.engine
    if request.param == "gpu":
        request.getfixturevalue("cuda_device")
        config.gpu = True
    elif request.param == "onednn" and not onednn.available():
        pytest.skip("there is no oneDNN library")
    config.engine = "ONEDNN" if request.param == "onednn" else "CAFFE"
    yield request.param
    config.gpu, config.engine = was


@pytest.fixture(scope="session")
def cuda_device():
    """A CUDA device, real or emulated: skips without one, fails when MINICAFFE_REQUIRE_CUDA is 1."""
    from minicaffe.cuda import context

    reason = context.reason_unavailable()
    if reason and os.environ.get("MINICAFFE_REQUIRE_CUDA") == "1":
        pytest.fail(f"MINICAFFE_REQUIRE_CUDA is 1, but {reason}")
    if reason:
        pytest.skip(reason)
    return context.current()


@pytest.fixture(params=["forward", "reversed"])
def thread_order(request, cuda_device, monkeypatch):
    """Each test with the threads of a block run from first to last, and from last to first, where they are emulated."""
    if request.param == "reversed":
        if cuda_device.name != "emulated GPU":
            pytest.skip("a real device has no order of threads to turn")
        monkeypatch.setenv("EMU_REVERSE", "1")
    return request.param


@pytest.fixture
def cuda_graphs(cuda_device):
    """NVIDIA's cuda-bindings, which capture steps: skips without them, fails when MINICAFFE_REQUIRE_CUDA is 1."""
    try:
        import cuda.bindings.driver  # noqa: F401
    except ImportError as error:
        if os.environ.get("MINICAFFE_REQUIRE_CUDA") == "1":
            pytest.fail(f"MINICAFFE_REQUIRE_CUDA is 1, but there are no cuda-bindings: {error}")
        pytest.skip(f"there are no cuda-bindings: {error}")
