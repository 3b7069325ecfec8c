"""Work of another stream is done as late as CUDA allows, so that a missing wait gives wrong numbers."""

import numpy as np
import pytest

from helpers.emulator import floats, on_device, run
from minicaffe.core.random import Stream
from minicaffe.cuda import context, graph, memory
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.cuda.transform import StagedBatches
from minicaffe.data.transformer import BatchTransformer
from minicaffe.proto import caffe_pb2

pytestmark = pytest.mark.gpu

DOUBLE = "__global__ void k(const float *x, float *out) { out[threadIdx.x] = 2 * x[threadIdx.x]; }"
ONES = np.ones(4, np.float32)


@pytest.fixture
def upload(emulated):
    """A function that queues a copy of pinned ones to a buffer in the copying stream, and returns (ones, event)."""

    def queue(target):
        host, copied = memory.pinned((4,)), context.event()
        host[:] = 1
        context.current().driver.memcpy_htod_async(target.ptr, host, context.copy_stream())
        copied.record(context.copy_stream())
        return host, copied

    return queue


def doubled(build, x, before=lambda: None):
    """What a kernel of the computing stream makes of x."""
    k, out = build(DOUBLE, "PP"), DeviceBuffer(16)
    run(k, (1, 1), (4, 1, 1), x, out)  # from now on this stream runs kernels
    before()
    run(k, (1, 1), (4, 1, 1), x, out)
    return floats(out, 4)


@pytest.mark.parametrize("waits", [True, False])
def test_a_kernel_sees_a_copy_only_if_it_waits_for_it(build, upload, waits):
    x, kept = on_device(np.zeros(4, np.float32)), []

    def before():
        kept.append(upload(x))
        if waits:
            context.stream().wait_for_event(kept[0][1])

    assert (doubled(build, x, before) == (2 if waits else 0)).all()
    assert (floats(x, 4) == (1 if waits else 0)).all()
    context.synchronize()
    assert (floats(x, 4) == 1).all()


def test_an_event_is_ready_when_its_work_is_done(upload):
    x = on_device(np.zeros(4, np.float32))
    _, copied = upload(x)
    assert not copied.query()
    assert copied.query()  # a loop that asks ends
    assert (floats(x, 4) == 1).all()
    _, copied = upload(x)
    assert not context.copy_stream().is_done()
    assert context.copy_stream().is_done()
    assert copied.query()


def test_a_wait_is_for_what_was_recorded_before_it(build, upload):
    x, y = on_device(np.zeros(4, np.float32)), on_device(np.zeros(4, np.float32))
    first, second = upload(x), upload(y)
    assert (doubled(build, x, lambda: context.stream().wait_for_event(first[1])) == 2).all()
    assert (floats(y, 4) == 0).all()
    second[1].synchronize()
    assert (floats(y, 4) == 1).all()


def test_pinned_memory_is_read_when_the_copy_runs(upload, emulated):
    x, y = on_device(np.zeros(4, np.float32)), on_device(np.zeros(4, np.float32))
    host, copied = upload(x)
    pageable = ONES.copy()
    emulated.driver.memcpy_htod_async(y.ptr, pageable, context.copy_stream())
    host[:] = pageable[:] = 5
    context.synchronize()
    assert (floats(x, 4) == 5).all()
    assert (floats(y, 4) == 1).all()


def test_memory_given_back_before_a_copy_into_it_has_run(upload, emulated, capfd, monkeypatch):
    monkeypatch.setenv("MINICAFFE_DEVICE_POOL", "1")
    x = DeviceBuffer(16)
    kept = upload(x)
    del x
    with pytest.raises(emulated.driver.Error):
        kept[1].synchronize()
    assert "given back to a pool before" in capfd.readouterr().err


@pytest.mark.parametrize("waits", [True, False])
def test_kernels_can_be_the_late_ones(build, upload, monkeypatch, waits):
    """A copy that does not wait for the kernel which reads its target."""
    monkeypatch.setenv("EMU_LATE", "kernels")
    k, out, x = build(DOUBLE, "PP"), DeviceBuffer(16), on_device(np.zeros(4, np.float32))
    run(k, (1, 1), (4, 1, 1), x, out)
    used = context.event()
    used.record(context.stream())
    if waits:
        context.copy_stream().wait_for_event(used)
    upload(x)
    assert (floats(out, 4) == (0 if waits else 2)).all()


def test_a_captured_stream_cannot_wait_for_others(upload, emulated):
    _, copied = upload(on_device(ONES))
    with context.recording() as stream:
        graph._call("cuStreamBeginCapture", int(stream.handle), graph._driver().CUstreamCaptureMode(1))
        with pytest.raises(emulated.driver.Error, match="dependency created on uncaptured work in another stream"):
            stream.wait_for_event(copied)
        graph._call("cuGraphDestroy", graph._call("cuStreamEndCapture", int(stream.handle)))


def event_of_nothing():
    """An event that does not wait for a copy."""
    event = context.event()
    event.record(context.stream())
    return event


@pytest.mark.parametrize("late", ["copies", "kernels"])
@pytest.mark.parametrize("waits", [True, False])
def test_staged_batches_wait_for_their_upload(emulated, monkeypatch, late, waits):
    monkeypatch.setenv("EMU_LATE", late)
    images = np.random.default_rng(2).integers(0, 256, (6, 3, 5, 4), np.uint8)
    settings = BatchTransformer(caffe_pb2.TransformationParameter(), True, Stream(1))
    staged, top, right = StagedBatches((2, 3, 5, 4), False, settings), DeviceBuffer(4 * images[:2].size), []
    staged.put(images[:2])
    for i in (0, 2, 4):
        if i < 4:
            staged.put(images[i + 2 : i + 4])
        for slot in staged._slots if not waits else ():
            slot.copied = event_of_nothing()
        staged.next_batch(2, top)
        right.append((floats(top, 2, 3, 5, 4) == images[i : i + 2]).all())
    assert all(right) == (waits or late == "kernels")
