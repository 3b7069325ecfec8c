"""Channels-last copies of blobs: conversions, which copies are valid, and arrays that several users share."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minicaffe.core.blob import Blob
from minicaffe.cuda import channels_last, graph
from minicaffe.cuda.channels_last import LAST, Kept, layout_of
from minicaffe.cuda.memory import GPU, DeviceBuffer

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu_mode")]

SHAPES = [
    (2, 3, 5, 7),
    (1, 3, 40, 20),
    (2, 10, 4, 4),
    (1, 16, 8, 8),
    (3, 70, 7, 7),
    (2, 130, 12, 12),
    (5, 20),
    (1, 8, 9, 5, 4),
]
BF16 = pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])


def stored(array, bf16=True):
    """Rounded to bfloat16, ties to even."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return (bits + 0x7FFF + (bits >> 16 & 1) & np.uint32(0xFFFF0000)).view(np.float32) if bf16 else array


def filled(shape, seed=0):
    blob = Blob(shape)
    blob.data = np.random.default_rng(seed).standard_normal(shape)
    return blob


def values(array, layout):
    """An array's numbers, (N, places, padded channels)."""
    raw = array.buffer.to_host(np.empty(layout.nbytes, np.uint8))
    numbers = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32) if layout.bf16 else raw.view(np.float32)
    return numbers.reshape(layout.samples, layout.places, -1)


@BF16
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_conversion_to_and_from(shape, bf16):
    blob, layout = filled(shape), layout_of(shape, bf16)
    x = blob.read_data().copy()
    got = values(channels_last.read(blob.data_memory, layout), layout)
    want = stored(np.moveaxis(x.reshape(*shape[:2], -1), 1, 2), bf16)
    np.testing.assert_array_equal(got[..., : shape[1]], want)
    assert not got[..., shape[1] :].any()
    other = Blob(shape)
    channels_last.lend(blob.data_memory, other.data_memory, layout)
    assert other.data_memory.fresh == LAST.bit
    device = other.data_memory.read(GPU)
    np.testing.assert_array_equal(device.to_host(np.empty(shape, np.float32)), stored(x, bf16))
    np.testing.assert_array_equal(other.read_data(), stored(x, bf16))


def test_what_is_not_finite_and_what_rounds_up():
    numbers = np.array([np.inf, -np.inf, np.nan, 3.4e38, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, 1e-40], np.float32)
    blob, layout = Blob((1, 8, 1, 1)), layout_of((1, 8, 1, 1), True)
    blob.data[0, :, 0, 0] = numbers
    got = values(channels_last.read(blob.data_memory, layout), layout).reshape(-1)
    np.testing.assert_array_equal(got, [np.inf, -np.inf, np.nan, np.inf, -0.0, 1, 1 + 2**-6, stored(numbers[-1:])[0]])


def test_ordinary_copy_stays_the_newest_where_the_array_is_rounded():
    blob = filled((2, 5, 3, 3))
    x = blob.read_data().copy()
    blob.mutable_gpu_data()  # the host's copy is older from here on
    channels_last.read(blob.data_memory, layout_of(blob.shape, True))
    assert blob.data_memory.fresh == GPU.bit | LAST.bit
    np.testing.assert_array_equal(blob.read_data(), x)


def test_array_is_converted_once_after_each_write():
    blob, layout = filled((2, 5, 3, 3)), layout_of((2, 5, 3, 3), True)
    made = []
    convert, channels_last.to_array = channels_last.to_array, lambda *given: (made.append(1), convert(*given))
    try:
        for _ in range(2):
            channels_last.read(blob.data_memory, layout)
        assert len(made) == 1
        blob.data = 7
        array = channels_last.read(blob.data_memory, layout)
        assert len(made) == 2 and (values(array, layout)[..., :5] == 7).all()
    finally:
        channels_last.to_array = convert


def test_view_that_a_script_holds_counts():
    blob, layout = filled((2, 5, 3, 3)), layout_of((2, 5, 3, 3), False)
    view = blob.data
    channels_last.read(blob.data_memory, layout)
    view[...] = 3
    assert (values(channels_last.read(blob.data_memory, layout), layout)[..., :5] == 3).all()
    array = channels_last.write(blob.data_memory, layout)
    array.buffer.zero()
    blob.settle()
    assert (view == 0).all() and (values(channels_last.read(blob.data_memory, layout), layout) == 0).all()


def test_other_shape_of_the_same_memory():
    blob, flat = filled((2, 6, 2, 2)), Blob((2, 24))
    flat.share_data(blob)
    x = blob.read_data().copy()
    channels_last.write(blob.data_memory, layout_of(blob.shape, False)).buffer.zero()
    blob.data = x
    got = values(channels_last.read(blob.data_memory, layout_of(flat.shape, False)), layout_of(flat.shape, False))
    np.testing.assert_array_equal(got.reshape(2, 24), x.reshape(2, 24))


def test_lent_and_kept_arrays_are_not_overwritten():
    blob, other, layout = filled((2, 5, 3, 3)), Blob((2, 5, 3, 3)), layout_of((2, 5, 3, 3), False)
    x = blob.read_data().copy()
    kept = Kept()
    for value in (1, 2, 3):
        blob.data = x
        channels_last.lend(blob.data_memory, other.data_memory, layout)
        array = kept.keep(blob.data_memory, layout)
        new = channels_last.write(blob.data_memory, layout)
        new.buffer.zero()
        assert int(new) != int(array)
        np.testing.assert_array_equal(other.read_data(), x)
        np.testing.assert_array_equal(np.moveaxis(values(array, layout)[..., :5], 1, 2).reshape(x.shape), x)
        assert not blob.read_data().any()
        x = x + value
    arrays = blob.data_memory.copies[LAST]
    assert len(arrays.spares[layout]) <= 3  # they are used again


def test_smaller_batch_uses_the_same_memory():
    blob = Blob((4, 8, 3, 3))
    memory = blob.data_memory
    channels_last.write(memory, layout_of(blob.shape, True)).buffer.zero()
    blob.reshape(2, 8, 3, 3)
    assert blob.data_memory is memory
    channels_last.write(memory, layout_of(blob.shape, True)).buffer.zero()
    assert not blob.read_data().any() and len(memory.copies[LAST].copies) == 1


def test_threads_read_one_memory():
    blob, layout = filled((3, 70, 9, 9)), layout_of((3, 70, 9, 9), True)
    want = values(channels_last.read(blob.data_memory, layout), layout)
    for _ in range(3):
        blob.data = blob.read_data().copy()
        with ThreadPoolExecutor(4) as threads:
            arrays = list(threads.map(lambda _: channels_last.read(blob.data_memory, layout), range(4)))
        assert len(set(map(id, arrays))) == 1 and (values(arrays[0], layout) == want).all()


@pytest.mark.usefixtures("cuda_graphs")
def test_conversion_in_a_graph_that_is_not_agreed_to():
    """Of several ranks one cannot capture its step: the others have recorded theirs, and run it directly."""
    blob, out, reasons = filled((2, 8, 3, 3)), DeviceBuffer(576), []
    layout = layout_of(blob.shape, False)

    def work():
        channels_last.from_array(layout, channels_last.read(blob.data_memory, layout), out)

    def agree(reason):
        reasons.append(reason)
        return "another rank works on the host" if len(reasons) > 1 else ""

    step = graph.CapturedStep(work, report=reasons.append, agree=agree)
    for seed in range(3):
        blob.data = filled(blob.shape, seed).read_data()
        step()
        np.testing.assert_array_equal(out.to_host(np.empty(blob.shape, np.float32)), blob.read_data())
    assert step.plain and reasons[:2] == ["", ""]
