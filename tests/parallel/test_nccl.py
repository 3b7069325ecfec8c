"""The binding of NCCL: what two ranks compute together, and how errors are reported."""

import contextlib
import glob
import importlib.metadata
import os
import signal
import threading

import numpy as np
import pytest

from helpers.rank_process import Processes
from minicaffe.cuda import nccl
from minicaffe.errors import DeviceError

pytestmark = pytest.mark.gpu


@pytest.fixture
def emulated(cuda_device):
    if cuda_device.name != "emulated GPU":
        pytest.skip("NCCL does not find this error")


def connected(group):
    from minicaffe.cuda import context, nccl

    context.require(group.rank)
    return nccl.connection(group)


# -- operations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 100_000])
def test_sums_means_and_broadcasts(ranks, dtype, count):
    terms = [values(rank, count, dtype) for rank in range(2)]
    for found in ranks.run(compute, count, dtype):
        np.testing.assert_array_equal(found["sum"], terms[0] + terms[1])
        np.testing.assert_array_equal(found["average"], (terms[0] + terms[1]) / 2)
        np.testing.assert_array_equal(found["broadcast"], terms[0])


def values(rank, count, dtype):
    return np.random.default_rng(rank).standard_normal(count).astype(dtype)


def compute(group, count, dtype):
    from minicaffe.cuda.memory import DeviceBuffer

    connection, results = connected(group), {}
    for name in ("sum", "average", "broadcast"):
        array = values(group.rank, count, dtype)
        buffer = DeviceBuffer(array.nbytes)
        buffer.from_host(array)
        getattr(connection, name)(buffer, count, np.dtype(dtype))
        results[name] = buffer.to_host(array)
    connection.check()
    return results


def test_a_captured_operation(ranks, cuda_graphs):
    assert ranks.run(capture) == [[2.0**k for k in range(1, 7)]] * 2


def capture(group):
    from minicaffe.cuda.graph import CapturedStep
    from minicaffe.cuda.memory import DeviceBuffer

    connection, buffer, one = connected(group), DeviceBuffer(4), np.ones(1, np.float32)
    buffer.from_host(one)
    step, results = CapturedStep(lambda: connection.sum(buffer, 1, np.dtype(np.float32))), []
    for _ in range(6):
        step()
        results.append(float(buffer.to_host(one)[0]))
    assert step.captured
    return results


def test_one_connection_for_a_group(ranks):
    assert ranks.run(connect_twice) == [True, True]


def connect_twice(group):
    return connected(group) is connected(group)


def test_three_ranks(cuda_device, emulated):
    processes = Processes(3)
    terms = [values(rank, 10, "float32") for rank in range(3)]
    for found in processes.run(compute, 10, "float32"):
        np.testing.assert_array_equal(found["sum"], terms[0] + terms[1] + terms[2])
        np.testing.assert_array_equal(found["average"], (terms[0] + terms[1] + terms[2]) * np.float32(1 / 3))
    assert processes.close() == [0, 0, 0]


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("difference", ["count", "dtype", "operation", "capture"])
def test_operations_that_do_not_match(ranks, emulated, difference):
    for text in ranks.run(mismatch, difference):
        assert text.startswith(
            "NCCL failed: an operation of several ranks: invalid usage (ranks 0 and 1 call different"
        )


def mismatch(group, difference):
    from minicaffe.cuda import context
    from minicaffe.cuda.graph import CapturedStep
    from minicaffe.cuda.memory import DeviceBuffer

    connection, buffer, other = connected(group), DeviceBuffer(80), group.rank == 1
    count, dtype = 9 if other and difference == "count" else 10, np.dtype(np.float32)
    if other and difference == "dtype":
        dtype = np.dtype(np.float64)

    def work():
        if other and difference == "operation":
            connection.broadcast(buffer, count, dtype)
        else:
            connection.sum(buffer, count, dtype)

    if difference == "capture":  # the ranks do not agree on captures: the library finds the difference
        connection.accord.reach = lambda: None
    step = CapturedStep(work, report=lambda line: None) if difference == "capture" and not other else work
    with contextlib.suppress(DeviceError):
        step()
        step()
    context.synchronize()
    with pytest.raises(DeviceError) as raised:
        connection.check()
    connection.close()
    return str(raised.value)


def test_abort_ends_the_wait_of_both(ranks, emulated):
    own, others = ranks.run(abort)
    assert own == "the connection of the GPUs has been ended, after an error"
    assert others.startswith("NCCL failed: an operation of several ranks: remote process exited or there was a network")


def abort(group):
    """Rank 0 waits for rank 1, which does not come, until another thread aborts."""
    from minicaffe.cuda.memory import DeviceBuffer

    connection, buffer = connected(group), DeviceBuffer(4)
    if group.rank == 0:
        timer = threading.Timer(0.1, connection.abort)
        timer.start()
        connection.sum(buffer, 1, np.dtype(np.float32))
        timer.join()
        group.share(None)
    else:
        group.share(None)
        connection.sum(buffer, 1, np.dtype(np.float32))
    with pytest.raises(DeviceError) as raised:
        connection.check()
    connection.close()
    return str(raised.value)


def test_a_killed_rank_and_nothing_left_of_it(cuda_device, emulated):
    processes = Processes(2)
    processes.begin(be_killed)
    assert processes.result(0).endswith("(the process of a rank has ended)")
    assert processes.result(1) is None
    assert not [path for rank in processes.ranks for path in glob.glob(f"/dev/shm/emulated-nccl-{rank.pid}-*")]
    assert processes.close() == [0, -signal.SIGKILL]


def be_killed(group):
    """Return what rank 0 finds when rank 1 is killed."""
    from minicaffe.cuda.memory import DeviceBuffer

    connection, buffer = connected(group), DeviceBuffer(4)
    connection.sum(buffer, 1, np.dtype(np.float32))
    if group.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    connection.sum(buffer, 1, np.dtype(np.float32))
    with pytest.raises(DeviceError) as raised:
        connection.check()
    return str(raised.value)


def test_wrong_arguments(ranks, emulated):
    for texts in ranks.run(call_wrongly):
        assert texts == [
            "NCCL failed: ncclAllReduce: invalid argument (a pointer is NULL)",
            "NCCL failed: ncclBroadcast: invalid argument (there is no such root)",
        ]


def call_wrongly(group):
    from minicaffe.cuda.memory import DeviceBuffer

    connection, buffer, texts = connected(group), DeviceBuffer(4), []
    for arguments in (("ncclAllReduce", 0, 1, np.float32, 0), ("ncclBroadcast", buffer, 1, np.float32, 7)):
        with pytest.raises(DeviceError) as raised:
            connection._call(*arguments)
        texts.append(str(raised.value))
    return texts


# -- the library -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/no/such/library", "NCCL cannot be used (/no/such/library: cannot open shared object file"),
        ("libc.so.6", "NCCL cannot be used: its library is not complete ("),
    ],
)
def test_a_library_that_cannot_be_used(monkeypatch, path, text):
    monkeypatch.setenv("MINICAFFE_NCCL", path)
    assert nccl.reason_unavailable().startswith(text)


def test_an_old_version(emulated, monkeypatch):
    monkeypatch.setenv("EMU_NCCL_VERSION", "2804")
    assert nccl.reason_unavailable() == "NCCL cannot be used: 2.10 or newer is needed, the version code is 2804"
    monkeypatch.setenv("EMU_NCCL_VERSION", "21003")
    assert nccl.reason_unavailable() == ""


def test_where_the_library_is_looked_for(monkeypatch, tmp_path):
    class Listed:
        name = "libnccl.so.2"

        def locate(self):
            return tmp_path / "libnccl.so.2"

    def files(package):
        if package == "nvidia-nccl-cu12":
            return [Listed()]
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.delenv("MINICAFFE_NCCL", raising=False)
    monkeypatch.setattr(importlib.metadata, "files", files)
    assert list(nccl._candidates()) == [str(tmp_path / "libnccl.so.2"), "libnccl.so.2"]
