"""Steps captured into CUDA graphs compute what plain steps compute."""

import sys
import threading

import numpy as np
import pytest

from minicaffe.core.blob import Blob
from minicaffe.core.random import Stream
from minicaffe.cuda import context, graph, kernels, memory, ops
from minicaffe.cuda.graph import CapturedStep
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.cuda.random import DeviceStream

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda_graphs")]


@pytest.fixture
def lines():
    return []


def test_the_third_call_is_a_replay(lines):
    x, y = Blob((100,)), Blob((100,))
    x.data[...] = 1
    runs = []

    def work():
        runs.append(1)
        ops.axpy(100, 2.0, x.gpu_data(), y.mutable_gpu_data())

    step = CapturedStep(work, report=lines.append)
    expected = 0
    for call in range(5):
        step()
        expected += 2
        assert step.captured == (call > 0)
        assert (y.read_data() == expected).all()
    assert len(runs) == 2 and lines == []


def test_what_the_host_writes_between_replays_counts(lines):
    x, y = Blob((10,)), Blob((10,))
    step = CapturedStep(lambda: ops.scale(10, 3.0, x.gpu_data(), y.mutable_gpu_data()), report=lines.append)
    for value in range(6):
        x.data[...] = value
        step()
        assert (y.data == 3 * value).all()
        y.data[...] = -1  # makes the host copy the newest; the next replay overwrites it
    assert step.captured and lines == []


def test_copies_and_fills_are_captured(lines):
    a, b = DeviceBuffer(400), DeviceBuffer(400)
    a.from_host(np.arange(100, dtype=np.float32))

    def work():
        b.zero()
        memory.copy_on_device(b.ptr, a.ptr, 200)
        ops.fill(10, 7.0, b.ptr + 200)

    step = CapturedStep(work, report=lines.append)
    for _ in range(3):
        step()
        memory.fill_bytes(b.ptr, 1, 400)
    step()
    expected = np.concatenate([np.arange(50), np.full(10, 7), np.zeros(40)])
    assert (b.to_host(np.empty(100, np.float32)) == expected).all() and step.captured


def test_every_replay_draws_new_numbers(lines):
    stream, reference = Stream(4), Stream(4)
    device, out = DeviceStream(stream), DeviceBuffer(4 * 30)

    def work():
        kernels.kernel("random", "uniform_u32")(30, device.draw(30), ops.tickets(1), out)

    step = CapturedStep(work, report=lines.append)
    for _ in range(5):
        step()
        assert (out.to_host(np.empty(30, np.uint32)) == reference.uniform_u32(30)).all()
        assert stream.get_state()["counter"] == reference.get_state()["counter"]
    saved = stream.get_state()
    step()
    reference.uniform_u32(30)
    stream.set_state(saved)  # as when a snapshot is restored
    again = Stream(4)
    again.set_state(saved)
    step()
    assert (out.to_host(np.empty(30, np.uint32)) == again.uniform_u32(30)).all()
    assert step.captured and lines == []


@pytest.mark.parametrize("hindrance", ["reads back", "waits", "allocates", "uses the host", "forbids"])
def test_what_cannot_be_captured_runs_plainly_and_says_so_once(lines, hindrance, monkeypatch):
    monkeypatch.setenv("MINICAFFE_DEVICE_POOL", "0")
    x = Blob((10,))
    hindrances = {
        "reads back": lambda: memory.copy_to_host(np.empty(10, np.float32), x.gpu_data()),
        "waits": context.synchronize,
        "allocates": lambda: DeviceBuffer(1000),
        "uses the host": lambda: x.read_data(),
        "forbids": lambda: graph.forbid("this layer reads a file"),
    }
    count = []

    def work():
        hindrances[hindrance]()
        count.append(1)
        ops.axpby(10, 0.0, x.gpu_data(), 1.0, x.mutable_gpu_data())
        ops.add(10, x.gpu_data(), ones, x.mutable_gpu_data())

    ones = DeviceBuffer(40)
    ones.from_host(np.ones(10, np.float32))
    step = CapturedStep(work, report=lines.append)
    for call in range(1, 5):
        step()
        assert (x.read_data() == call).all()
    assert not step.captured and len(count) == 4
    assert len(lines) == 1 and lines[0].startswith("The step runs without a CUDA graph: ")


def test_counters_made_during_a_capture_are_zero_without_its_graph(lines, monkeypatch):
    monkeypatch.setenv("MINICAFFE_DEVICE_POOL", "1")
    x = Blob((10,))
    ops.sum(10, x.gpu_data())
    count = ops.tickets(1).nbytes  # more counters than there are
    written, made = DeviceBuffer(4 * count), []
    memory.fill_bytes(written, 255, written.nbytes)
    ops.sum(10, x.gpu_data())
    del written  # the pool gives its memory to the next buffer of this size

    def work():
        if graph.capturing():
            made.append(ops.tickets(count))
            graph.forbid("this layer reads a file")

    step = CapturedStep(work, report=lines.append)
    for _ in range(2):
        step()
    assert len(lines) == 1 and not made[0].to_host(np.ones(count, np.uint32)).any()


def test_without_cuda_bindings_steps_run_plainly(lines, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    x = Blob((10,))
    step = CapturedStep(lambda: ops.fill(10, 3.0, x.mutable_gpu_data()), report=lines.append)
    for _ in range(3):
        step()
    assert (x.read_data() == 3).all() and not step.captured
    assert len(lines) == 1 and "cuda-bindings is not installed" in lines[0]


def test_a_known_obstacle_is_told_at_once(lines):
    step = CapturedStep(lambda: None, obstacle="layer 'python' runs Python code", report=lines.append)
    step()
    assert lines == ["The step runs without a CUDA graph: layer 'python' runs Python code"] and not step.captured


def test_mistakes_in_the_step_are_not_swallowed(lines):
    def work():
        raise ValueError("a mistake")

    step = CapturedStep(work, report=lines.append)
    for _ in range(2):
        with pytest.raises(ValueError, match="a mistake"):
            step()
    context.synchronize()
    assert not graph.capturing()


def test_an_invalidated_step_captures_anew(lines):
    blobs = [Blob((10,)), Blob((10,))]
    step = CapturedStep(lambda: ops.fill(10, 4.0, blobs[0].mutable_gpu_data()), report=lines.append)
    for _ in range(3):
        step()
    blobs.reverse()
    step.invalidate()
    for _ in range(3):
        blobs[0].data[...] = 0
        step()
        assert (blobs[0].data == 4).all()
    assert step.captured


def test_graphs_can_be_turned_off(lines, monkeypatch):
    monkeypatch.setenv("MINICAFFE_GRAPH", "0")
    count = []
    step = CapturedStep(lambda: count.append(1), report=lines.append)
    for _ in range(4):
        step()
    assert len(count) == 4 and not step.captured
    assert lines == ["The step runs without a CUDA graph: MINICAFFE_GRAPH is 0"]


@pytest.mark.parametrize("pooled", ["0", "1"], ids=["no pool", "pool"])
def test_a_captured_step_keeps_the_buffers_that_it_was_given(lines, monkeypatch, pooled):
    monkeypatch.setenv("MINICAFFE_DEVICE_POOL", pooled)
    held, y = [DeviceBuffer(40_000)], Blob((10_000,))

    def work():
        ops.fill(10_000, 3.0, held[-1])
        ops.axpby(10_000, 2.0, held[-1], 0.0, y.mutable_gpu_data())

    step = CapturedStep(work, report=lines.append)
    for _ in range(3):
        step()
    held[0] = DeviceBuffer(40_000)  # as a layer does if a buffer is too small
    others = [held[0], *(DeviceBuffer(40_000) for _ in range(3))]
    for other in others:
        other.zero()
    y.data[...] = 0
    step()
    assert (y.read_data() == 6).all() and step.captured
    assert not any(other.to_host(np.empty(10_000, np.float32)).any() for other in others)


def test_an_invalidated_step_gives_its_buffers_back(lines, monkeypatch):
    monkeypatch.setenv("MINICAFFE_DEVICE_POOL", "1")
    held = [DeviceBuffer(4000)]
    step = CapturedStep(lambda: ops.fill(1000, 3.0, held[0]), report=lines.append)
    for _ in range(3):
        step()
    active = memory.usage()["active"]
    held.clear()
    assert memory.usage()["active"] == active
    step.invalidate()
    assert memory.usage()["active"] < active


def test_what_other_threads_do_is_no_part_of_a_capture(lines):
    x, seen = Blob((10,)), []

    def elsewhere():
        mine = Blob((10,))
        ops.fill(10, 5.0, mine.mutable_gpu_data())
        graph.forbid("a graph cannot hold this")
        graph.before_replay(lambda: seen.append("replayed"))
        seen.append((graph.capturing(), mine.read_data().tolist()))

    def work():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        ops.fill(10, 3.0, x.mutable_gpu_data())

    step = CapturedStep(work, report=lines.append)
    for _ in range(4):
        step()
    assert step.captured and lines == [] and seen == [(False, [5.0] * 10)] * 2
    assert (x.read_data() == 3).all()


def test_sums_of_several_threads_do_not_share_their_scratch_memory(lines):
    """Direct calls of `ops.sum` alternate with replays of a graph that contains one."""
    wrong = []

    def run(value):
        x, out = Blob((9_000,)), Blob((1,))
        x.data[...] = value
        step = CapturedStep(lambda: ops.sum(9_000, x.gpu_data(), out=out.mutable_gpu_data()), report=lines.append)
        for _ in range(25):
            step()
            wrong.extend(
                total for total in (out.read_data()[0], ops.sum(9_000, x.gpu_data())) if total != 9_000 * value
            )

    threads = [threading.Thread(target=run, args=(value,)) for value in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and lines == []
