"""Fixtures for all tests, and the choice of those that can fail: see tests/support/helpers/engines.py."""

import ctypes
import functools
import logging
import os

import pytest

from helpers import mpi_ranks
from helpers.engines import ENGINES, can_fail, params
from minicaffe.cli import main
from minicaffe.cli.progress import LineHandler
from minicaffe.testing import computing_with


def pytest_generate_tests(metafunc):
    """Parametrize the tests of a `LayerProperties` class with its cases."""
    if "case" in metafunc.fixturenames and hasattr(metafunc.cls, "cases"):
        metafunc.parametrize("case", metafunc.cls.cases, ids=str)


def pytest_collection_modifyitems(items):
    """Leave out tests of an engine, or with a case, for which they compute nothing of their own."""
    items[:] = [item for item in items if can_fail(item)]


@pytest.fixture(params=params(ENGINES))
def engine(request):
    """Each test once on each engine, which is chosen while the test runs; its value is the `EngineChoice`."""
    if request.param.gpu:
        request.getfixturevalue("cuda_device")
    if reason := request.param.missing():
        pytest.skip(reason)
    with request.param.chosen():
        yield request.param


@pytest.fixture
def gpu_mode(cuda_device):
    """GPU mode while a test runs, with the engines that prototxts name."""
    with computing_with(gpu=True):
        yield


@pytest.fixture(autouse=True)
def kept_logger():
    """Give the process's logger "minicaffe" its level, handlers and filters back after each test."""
    logger = logging.getLogger("minicaffe")
    was = logger.level, logger.propagate, list(logger.handlers), list(logger.filters)
    yield
    logger.setLevel(was[0])
    logger.propagate, logger.handlers[:], logger.filters[:] = was[1:]


@pytest.fixture
def log_lines(kept_logger):
    """The lines of a log that is written while a test runs, in glog's format."""
    logger, lines = logging.getLogger("minicaffe"), []
    logger.addHandler(LineHandler(lines.append))
    logger.setLevel(logging.INFO)
    return lines


@pytest.fixture
def run(capsys):
    """Run a command line in this process; returns (exit status, standard output, standard error)."""

    def call(*words):
        capsys.readouterr()
        status = main([str(word) for word in words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def mpiexec():
    """A function that runs Python in processes of MPI: skips without MPI, fails when MINICAFFE_REQUIRE_MPI is 1."""
    program, reason = mpi_ranks.find()
    if reason and os.environ.get("MINICAFFE_REQUIRE_MPI") == "1":
        pytest.fail(f"MINICAFFE_REQUIRE_MPI is 1, but {reason}")
    if reason:
        pytest.skip(reason)
    return functools.partial(mpi_ranks.run, program)


class HidingPool:
    """PyCUDA's pool for the emulated device; freed memory is inaccessible until it is allocated again."""

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
        if os.environ.get("EMU_RACE", "0") != "0":
            from minicaffe.cuda import channels_last, kernels, ops, planes  # noqa: F401  (others keep the constant)

            kernels.BLOCK = 32  # small arrays are divided among several blocks, too: races between blocks show
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
def launched(monkeypatch):
    """The names of the kernels that are launched, such as "ops.axpy", in a list that grows."""
    from minicaffe.cuda.kernels import Kernel

    names, launch = [], Kernel.launch
    monkeypatch.setattr(Kernel, "launch", lambda self, *a, **k: (names.append(self.name), launch(self, *a, **k)))
    return names


@pytest.fixture
def cuda_graphs(cuda_device):
    """NVIDIA's cuda-bindings, which capture steps: skips without them, fails when MINICAFFE_REQUIRE_CUDA is 1."""
    try:
        import cuda.bindings.driver  # noqa: F401
    except ImportError as error:
        if os.environ.get("MINICAFFE_REQUIRE_CUDA") == "1":
            pytest.fail(f"MINICAFFE_REQUIRE_CUDA is 1, but there are no cuda-bindings: {error}")
        pytest.skip(f"there are no cuda-bindings: {error}")
