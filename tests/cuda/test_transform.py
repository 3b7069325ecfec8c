"""Batches from a data set on the GPU are the same as those of the CPU's transformer."""

import numpy as np
import pytest

from minicaffe.core.random import Stream
from minicaffe.cuda import context
from minicaffe.cuda.graph import CapturedStep
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.cuda.transform import DeviceBatches, StagedBatches, fits
from minicaffe.data.mean import write_mean
from minicaffe.data.transformer import BatchTransformer
from minicaffe.errors import DataError
from minicaffe.proto import caffe_pb2, parse_text

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("thread_order")]

TOTAL, SHAPE = 11, (3, 9, 8)
SETTINGS = ["", "scale: 0.25", "mirror: true", "crop_size: 5", "crop_size: 5 mirror: true scale: 0.5 mean_value: 7",
            "mean_value: 1 mean_value: 2 mean_value: 3 mirror: true", "crop_h: 9 crop_w: 4 mirror: true"]  # fmt: skip


@pytest.fixture
def images():
    return np.random.default_rng(2).integers(0, 256, (TOTAL, *SHAPE), np.uint8)


@pytest.fixture
def labels():
    return np.arange(TOTAL) % 4


def transformer(text, train, stream):
    return BatchTransformer(parse_text(text, caffe_pb2.TransformationParameter()), train, stream)


class Pair:
    """Batches of the CPU and of the GPU, from equal random streams."""

    def __init__(self, text, images, labels, train=True, dtype=np.float32):
        self.images, self.labels, self.dtype, self.position = images, labels, np.dtype(dtype), 0
        self.cpu = transformer(text, train, Stream(8))
        self.stream = Stream(8)
        self.gpu = DeviceBatches(images, labels, transformer(text, train, self.stream), dtype)

    def expected(self, count):
        rows = (self.position + np.arange(count)) % TOTAL
        self.position = (self.position + count) % TOTAL
        out = np.empty((count, *self.gpu.shape), self.dtype)
        self.cpu.transform(self.images[rows], out)
        return out, self.labels[rows]

    def check(self, count, top, label_top):
        images, labels = self.expected(count)
        assert np.array_equal(top.to_host(np.empty_like(images)), images)
        assert (label_top.to_host(np.empty(count, self.dtype)) == labels).all()
        assert self.gpu.position == self.position
        assert self.stream.get_state()["counter"] == self.cpu.rng.get_state()["counter"]

    def buffers(self, count):
        size = self.dtype.itemsize * count
        return DeviceBuffer(size * int(np.prod(self.gpu.shape))), DeviceBuffer(size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("text", SETTINGS)
def test_against_the_processor(images, labels, text, train, dtype):
    pair = Pair(text, images, labels, train, dtype)
    for count in (4, 4, 13, 1):
        top, label_top = pair.buffers(count)
        pair.gpu.next_batch(count, top, label_top)
        pair.check(count, top, label_top)


def test_a_mean_image(images, labels, tmp_path):
    path = tmp_path / "mean.binaryproto"
    write_mean(str(path), images.mean(0, dtype=np.float32))
    pair = Pair(f"mean_file: '{path}' crop_size: 6 mirror: true", images, labels)
    top, label_top = pair.buffers(5)
    pair.gpu.next_batch(5, top, label_top)
    pair.check(5, top, label_top)


def test_every_replay_takes_the_next_batch(images, labels, cuda_graphs):
    pair, lines = Pair("crop_size: 5 mirror: true", images, labels), []
    top, label_top = pair.buffers(4)
    step = CapturedStep(lambda: pair.gpu.next_batch(4, top, label_top), report=lines.append)
    for _ in range(5):
        step()
        pair.check(4, top, label_top)
    pair.gpu.position = pair.position = 9  # as when a snapshot is restored
    for _ in range(2):
        step()
        pair.check(4, top, label_top)
    assert step.captured and lines == []


@pytest.mark.parametrize("text", ["", "crop_size: 5 mirror: true"])
def test_a_batch_is_one_launch(images, labels, text, launched):
    pair = Pair(text, images, labels)
    top, label_top = pair.buffers(4)
    pair.gpu.next_batch(4, top, label_top)
    assert launched == ["transform.batch"]


def test_without_labels(images):
    batches = DeviceBatches(images, None, transformer("", True, Stream(1)))
    top = DeviceBuffer(4 * images[0].size)
    batches.next_batch(1, top)
    assert (top.to_host(np.empty(SHAPE, np.float32)) == images[0]).all()


def test_only_bytes_and_only_what_fits(images):
    with pytest.raises(DataError, match=r"must be uint8 \(T, C, H, W\), got float32"):
        DeviceBatches(images.astype(np.float32), None, transformer("", True, Stream(1)))
    with pytest.raises(DataError, match="mean_value must be given once or once per channel"):
        DeviceBatches(images, None, transformer("mean_value: 1 mean_value: 2", True, Stream(1)))
    assert fits(1000) and not fits(1 << 50)


@pytest.mark.parametrize("captured", [False, True])
def test_staged_batches_are_taken_in_order(request, images, labels, captured):
    if captured:
        request.getfixturevalue("cuda_graphs")
    cpu, lines = transformer("crop_size: 5 mirror: true scale: 0.5", True, Stream(8)), []
    gpu = StagedBatches((3, *SHAPE), True, transformer("crop_size: 5 mirror: true scale: 0.5", True, Stream(8)))
    top, label_top = DeviceBuffer(4 * 3 * 3 * 25), DeviceBuffer(4 * 3)
    work = lambda: gpu.next_batch(3, top, label_top)  # noqa: E731
    step = CapturedStep(work, report=lines.append) if captured else work
    batches = [(images[i : i + 3], labels[i : i + 3]) for i in range(6)]
    gpu.put(*batches[0])
    for i, (raw, wanted) in enumerate(batches):
        step()
        if i + 1 < len(batches):
            gpu.put(*batches[i + 1])
        expected = np.empty((3, 3, 5, 5), np.float32)
        cpu.transform(raw, expected)
        assert np.array_equal(top.to_host(np.empty_like(expected)), expected)
        assert (label_top.to_host(np.empty(3, np.float32)) == wanted).all()
    assert lines == []


def test_staging_knows_what_waits(images):
    staged = StagedBatches((2, *SHAPE), False, transformer("", True, Stream(8)))
    with pytest.raises(DataError, match="2 images were asked for: a batch holds 2, waiting: 0"):
        staged.next_batch(2, 0)
    with pytest.raises(DataError, match=r"shape \(3, 3, 9, 8\) was put where \(2, 3, 9, 8\) was announced"):
        staged.put(images[:3])
    staged.put(images[:2])
    staged.put(images[:2])
    with pytest.raises(DataError, match="a third batch was put before the first was taken"):
        staged.put(images[:2])


def test_memory_is_not_given_back_while_a_copy_into_it_runs(images):
    batches = StagedBatches(images.shape, False, transformer("", True, Stream(8)))
    waited = []

    class Copied:
        record = staticmethod(lambda stream: waited.append("copying" if stream is context.copy_stream() else "?"))
        synchronize = staticmethod(lambda: waited.append("copied"))

    batches._slots[0].copied = Copied
    batches.put(images)
    del batches
    assert waited == ["copying", "copied"]
