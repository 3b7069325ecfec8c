"""Device memory, pinned memory, and the context in several threads."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from minicaffe.core.blob import Blob
from minicaffe.cuda import context, memory
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.errors import DeviceError

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda_device")]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def pooled(monkeypatch):
    monkeypatch.setenv("MINICAFFE_DEVICE_POOL", "1")


def test_there_and_back():
    values = np.arange(10, dtype=np.float32)
    buffer = DeviceBuffer(values.nbytes)
    buffer.from_host(values)
    buffer.from_host(values[:2], offset=32)
    assert (buffer.to_host(np.empty(10, np.float32)) == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]).all()
    assert (buffer.to_host(np.empty(2, np.float32), offset=8) == [2, 3]).all()
    other = DeviceBuffer(values.nbytes)
    other.zero()
    other.copy_from(buffer, 8)
    assert (other.to_host(np.empty(10, np.float32)) == [0, 1] + [0] * 8).all()


def test_a_part_keeps_the_buffer():
    part = DeviceBuffer(64).part(16, 8)
    others = [DeviceBuffer(64) for _ in range(3)]
    part.from_host(np.arange(2, dtype=np.float32))
    for other in others:
        other.zero()
    assert (part.to_host(np.empty(2, np.float32)) == [0, 1]).all()
    assert memory.usage()["active"] >= 4 * 64
    with pytest.raises(DeviceError, match="12 bytes from byte 0 on do not fit in a device buffer of 8 bytes"):
        part.from_host(np.zeros(3, np.float32))
    with pytest.raises(DeviceError, match="8 bytes from byte 60 on do not fit in a device buffer of 64 bytes"):
        others[0].part(60, 8)


def test_what_does_not_fit_is_refused():
    buffer = DeviceBuffer(16)
    with pytest.raises(DeviceError, match="20 bytes from byte 0 on do not fit in a device buffer of 16 bytes"):
        buffer.from_host(np.zeros(5, np.float32))
    with pytest.raises(DeviceError, match="16 bytes from byte 4 on do not fit"):
        buffer.to_host(np.zeros(4, np.float32), offset=4)


def test_too_much_memory_names_what_is_free():
    with pytest.raises(DeviceError, match=r"has no room for \d+ bytes more: \d+ of its \d+ bytes are free"):
        DeviceBuffer(1 << 50)


def test_memory_is_used_again():
    first = DeviceBuffer(1 << 20)
    held = memory.usage()["held"]
    del first
    again = DeviceBuffer(1 << 20)
    assert memory.usage()["held"] == held
    assert memory.usage()["active"] >= again.nbytes


def test_without_a_pool_memory_is_exact(monkeypatch):
    before = memory.usage()
    monkeypatch.setenv("MINICAFFE_DEVICE_POOL", "0")
    buffer = DeviceBuffer(1000)
    after = memory.usage()
    assert after["active"] == before["active"] and after["held"] == before["held"]
    assert buffer.to_host(np.empty(1000, np.uint8)).size == 1000


def test_pinned_memory_is_an_array():
    array = memory.pinned((3, 4))
    array[...] = 5
    buffer = DeviceBuffer(array.nbytes)
    buffer.from_host(array)
    assert (buffer.to_host(np.empty((3, 4), np.float32)) == 5).all()


def test_a_blob_moves_only_when_it_must():
    blob = Blob((2, 3))
    blob.data[...] = 7
    pointer = blob.gpu_data()
    memory.fill_bytes(blob.mutable_gpu_data(), 0, 24)
    assert blob.gpu_data() == pointer
    assert (blob.data == 0).all()
    blob.data[0, 0] = 1
    on_device = memory.copy_to_host(np.empty((2, 3), np.float32), blob.gpu_data())
    assert on_device.tolist() == [[1, 0, 0], [0, 0, 0]]


def test_other_threads_may_use_the_device():
    results = []

    def work(value):
        buffer = DeviceBuffer(100)
        buffer.from_host(np.full(100, value, np.uint8))
        results.append(int(buffer.to_host(np.empty(100, np.uint8)).sum()))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 100, 200, 300]


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "raise SystemExit(0)",
        "import threading; t = threading.Thread(target=lambda: DeviceBuffer(8)); t.start(); t.join()",
    ],
)
def test_a_program_ends_quietly(ending):
    code = f"from minicaffe.cuda.memory import DeviceBuffer\nkept = DeviceBuffer(100)\n{ending}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_device_that_is_not_there():
    with pytest.raises(DeviceError, match=r"there is no GPU 99: this machine has \d+, numbered from 0"):
        context.require(99)


def test_streams_and_events():
    start, end = context.event(), context.event()
    start.record(context.stream())
    buffer = DeviceBuffer(1000)
    buffer.zero()
    end.record(context.stream())
    context.copy_stream().wait_for_event(end)
    context.synchronize()
    assert end.time_since(start) >= 0


def test_memory_is_freed_by_a_thread_that_has_not_used_the_device(monkeypatch):
    """The garbage collector may free buffers in any thread."""
    monkeypatch.setenv("MINICAFFE_DEVICE_POOL", "0")
    free = memory.usage()["free"]
    held = [DeviceBuffer(1 << 20)]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert not held and memory.usage()["free"] == free
