"""Fixtures for all tests."""

import ctypes
import os

import pytest

import counting
from minicaffe import onednn
from minicaffe.core.engine import runner
from minicaffe.core.settings import settings


@pytest.fixture(params=["caffe", "onednn", "counting", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request):
    """Each test once with the numpy code, with oneDNN, with the COUNTING engine, and on the (real or emulated) GPU."""
    was = settings.engine, settings.variants
    if request.param == "gpu":
        request.getfixturevalue("cuda_device")
        settings.engine = runner("GPU")
    elif request.param == "onednn" and not onednn.available():
        pytest.skip("there is no oneDNN library")
    settings.variants = {"onednn": "ONEDNN", "counting": counting.COUNTING.name}.get(request.param, "CAFFE")
    yield request.param
    settings.engine, settings.variants = was


class HidingPool:
    """PyCUDA's pool for the emulated device, but what is given back cannot be touched until it is handed out again."""

    def __init__(self, driver):
        self._driver, self._cuda = driver, ctypes.CDLL("libcuda.so.1")
        self._free, self._sizes = {}, {}  # allocations by size; sizes of those in use by address

    def allocate(self, nbytes):
        kept = self._free.setdefault(nbytes, [])
        return _Lent(self, kept.pop() if kept else self._driver.mem_alloc(nbytes), nbytes)

    def show(self, allocation, nbytes):
        self._sizes[int(allocation)] = nbytes
        self._cuda.emuMemShow(ctypes.c_void_p(int(allocation)))

    def take_back(self, allocation, nbytes):
        self._sizes.pop(int(allocation))
        self._cuda.emuMemHide(ctypes.c_void_p(int(allocation)))
        self._free[nbytes].append(allocation)

    def free_held(self):
        for kept in self._free.values():
            kept.clear()

    @property
    def active_bytes(self):
        return sum(list(self._sizes.values()))

    @property
    def managed_bytes(self):
        return self.active_bytes + sum(nbytes * len(kept) for nbytes, kept in list(self._free.items()))


class _Lent:
    def __init__(self, pool, allocation, nbytes):
        self._pool, self._allocation, self._nbytes = pool, allocation, nbytes
        pool.show(allocation, nbytes)

    def __int__(self):
        return int(self._allocation)

    def __del__(self):
        self._pool.take_back(self._allocation, self._nbytes)


@pytest.fixture(scope="session")
def cuda_device():
    """A CUDA device, real or emulated: skips without one, fails when MINICAFFE_REQUIRE_CUDA is 1."""
    from minicaffe.cuda import context

    reason = context.reason_unavailable()
    if reason and os.environ.get("MINICAFFE_REQUIRE_CUDA") == "1":
        pytest.fail(f"MINICAFFE_REQUIRE_CUDA is 1, but {reason}")
    if reason:
        pytest.skip(reason)
    device = context.current()
    if device.name == "emulated GPU":
        device.cache["pool"] = HidingPool(device.driver)
    return device


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
