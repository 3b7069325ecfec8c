"""Data layers read, decode and transform in threads: the batches do not depend on how many, and the threads end."""

import gc
import os
import signal
import sys
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from helpers.readers import data_layer, write_images
from minicaffe.data import image_list, open_db, workers
from minicaffe.data.image import encode_image
from minicaffe.data.mean import write_mean
from minicaffe.errors import DataError
from minicaffe.proto import caffe_pb2

COUNTS = (1, 2, 5)
SIZE, SIZES = (12, 14), [(12, 14), (15, 11), (10, 10), (12, 14), (13, 12)]

WINDOWS = "".join(
    f"# {i}\n{i}.png\n3\n12\n14\n3\n1 0.9 0 0 5 {5 + i}\n0 0.1 2 2 8 8\n2 0.7 1 1 9 7\n" for i in range(5)
)

TRAIN = 'crop_size: 8 mirror: true mean_file: "mean.binaryproto" scale: 0.02'
KINDS = {
    "raw": (f"""type: "Data" transform_param {{ {TRAIN} }}
        data_param {{ source: "raw" batch_size: 7 backend: LMDB }}""", 0),
    "encoded": (f"""type: "Data" transform_param {{ {TRAIN} }}
        data_param {{ source: "encoded" batch_size: 7 backend: LMDB }}""", 0),
    "shuffled": (f"""type: "Data" transform_param {{ {TRAIN} }}
        data_param {{ source: "encoded" batch_size: 7 backend: LMDB shuffle: true }}""", 0),
    "leveldb": ("""type: "Data" transform_param { crop_size: 9 mirror: true force_gray: true }
        data_param { source: "leveldb" batch_size: 4 }""", 1),
    "list": (f"""type: "ImageData" transform_param {{ {TRAIN} }}
        image_data_param {{ source: "list.txt" batch_size: 6 shuffle: true }}""", 0),
    "gray": ("""type: "ImageData" transform_param { crop_size: 8 mean_value: 100 }
        image_data_param { source: "list.txt" batch_size: 6 is_color: false rand_skip: 3 }""", 0),
    "sizes": ("""type: "ImageData"
        transform_param { crop_size: 10 mirror: true mean_value: 1 mean_value: 2 mean_value: 3 }
        image_data_param { source: "sizes.txt" batch_size: 8 shuffle: true }""", 0),
    "resized": ("""type: "ImageData" transform_param { mirror: true scale: 0.5 }
        image_data_param { source: "sizes.txt" batch_size: 5 new_height: 9 new_width: 17 }""", 0),
    "resize_param": ("""type: "ImageData" transform_param { crop_size: 7 mirror: true
            resize_param { prob: 0.5 height: 12 width: 14 interp_mode: LINEAR interp_mode: NEAREST } }
        image_data_param { source: "sizes.txt" batch_size: 5 shuffle: true }""", 0),
    "windows": ("""type: "WindowData" transform_param { crop_size: 6 mirror: true mean_value: 50 }
        window_data_param { source: "windows.txt" batch_size: 9 fg_fraction: 0.5 context_pad: 1 }""", 0),
    "cached windows": ("""type: "WindowData" transform_param { crop_size: 6 mirror: true }
        window_data_param { source: "windows.txt" batch_size: 9 fg_fraction: 0.5 cache_images: true }""", 0),
}  # fmt: skip

#: CRC-32 of four batches of each kind, as a single thread produced them that transformed in the forward pass
CHECKSUMS = {
    "raw": 0xA97E7A5B,
    "encoded": 0xC95A98C6,
    "shuffled": 0xB0047119,
    "leveldb": 0xE3FEE980,
    "list": 0xA8BFB2E1,
    "gray": 0x0151FC02,
    "sizes": 0x758B60A4,
    "resized": 0x30A6EA56,
    "resize_param": 0x2E13C8A0,
    "windows": 0x6D91EC7F,
    "cached windows": 0xEFFF9F79,
}


@pytest.fixture
def sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 3, *SIZE), np.uint8)
    write_images("raw", images, labels=9)
    for source, backend in (("encoded", "lmdb"), ("leveldb", "leveldb")):
        with open_db(source, backend, "w") as database:
            for i, image in enumerate(images):
                datum = caffe_pb2.Datum(data=encode_image(image, "png"), encoded=True, label=i)
                database.put(f"{i:03d}", datum.SerializeToString())
    write_mean("mean.binaryproto", rng.random((3, *SIZE)) * 255)
    for i, size in enumerate(SIZES):
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(f"{i}.png")
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(f"size{i}.png")
    (tmp_path / "list.txt").write_text("".join(f"{i}.png {i}\n" for i in range(5)))
    (tmp_path / "sizes.txt").write_text("".join(f"size{i}.png {i}\n" for i in range(5)))
    (tmp_path / "windows.txt").write_text(WINDOWS)
    return tmp_path


@pytest.fixture(params=COUNTS)
def number(request, monkeypatch):
    """The number of threads of the layers that are built."""
    monkeypatch.setattr(workers, "cores", lambda: request.param)
    return request.param


def layer_of(kind):
    text, phase = KINDS[kind]
    layer, blobs = data_layer(f'name: "d" {text}', phase=phase)
    state = layer.state()  # the seed of a layer is random
    layer.load_state(state | {"rng": state["rng"] | {"key": [11, 12], "counter": [0] * 4}, **_seeded(state)})
    return layer, blobs


def _seeded(state):
    """A position with a fixed seed, for readers that shuffle, or choose their start, at random."""
    position = state["position"]
    if "seed" in position:
        return {"position": position | {"seed": 3 if position["seed"] is not None else None, "index": 0}}
    return {"position": position | {"key": [5, 6]}} if isinstance(position.get("key"), list) else {}


def batches(layer, blobs, count):
    result = []
    for _ in range(count):
        layer.forward([], blobs)
        result += [blob.data.copy() for blob in blobs]
    return result


def checksum(arrays):
    return zlib.crc32(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))


def threads():
    gc.collect()  # those of layers of other tests end
    return {thread for thread in threading.enumerate() if thread.name.startswith("minicaffe-")}


@pytest.mark.parametrize("kind", KINDS)
def test_the_batches_do_not_depend_on_the_number_of_threads(sources, number, kind):
    layer, blobs = layer_of(kind)
    assert checksum(batches(layer, blobs, 4)) == CHECKSUMS[kind]
    layer.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_gives_the_batches_after_it(sources, number, kind):
    layer, blobs = layer_of(kind)
    batches(layer, blobs, 3)
    state = layer.state()
    expected = batches(layer, blobs, 4)
    other, other_blobs = data_layer(f'name: "d" {KINDS[kind][0]}', phase=KINDS[kind][1])
    batches(other, other_blobs, 1)
    other.load_state(state)
    assert checksum(batches(other, other_blobs, 4)) == checksum(expected)
    layer.load_state(state)
    assert checksum(batches(layer, blobs, 4)) == checksum(expected)


def test_a_stream_that_is_set_between_two_batches_counts(sources, number):
    layer, blobs = layer_of("raw")
    batches(layer, blobs, 2)
    position, stream = layer.position, layer.rng.get_state()
    expected = batches(layer, blobs, 1)
    layer.rng.set_state(stream | {"key": [1, 2]})
    others = batches(layer, blobs, 1)
    layer.go_back(position)
    layer.rng.set_state(stream)
    assert checksum(batches(layer, blobs, 1)) == checksum(expected)
    layer.rng.set_state(stream | {"key": [1, 2]})
    assert checksum(batches(layer, blobs, 1)) == checksum(others)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("kind", ["raw", "encoded", "sizes", "windows"])
def test_a_forked_process_goes_on_like_its_parent(sources, number, kind):
    layer, blobs = layer_of(kind)
    batches(layer, blobs, 2)
    pid = os.fork()
    if pid == 0:
        signal.alarm(120)  # for a child that hangs
        try:
            (sources / "child").write_text(str(checksum(batches(layer, blobs, 3))))
            layer.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert int((sources / "child").read_text()) == checksum(batches(layer, blobs, 3))
    layer.close()


# -- errors ------------------------------------------------------------------------------------------------------------


def spoil(*numbers):
    """Write the database `encoded` anew, as `spoiled`, with damaged images in some records."""
    with open_db("spoiled", "lmdb", "w") as database:
        for key, value in open_db("encoded", "lmdb").items():
            datum = caffe_pb2.Datum.FromString(bytes(value))
            if int(key) in numbers:
                datum.data = datum.data[: len(datum.data) // 2]
            database.put(key, datum.SerializeToString())


def test_the_first_damaged_record_is_named_and_those_before_its_batch_are_used(sources, number):
    spoil(10, 11, 13)
    layer, blobs = data_layer('name: "d" type: "Data" data_param { source: "spoiled" batch_size: 4 backend: LMDB }')
    assert [batches(layer, blobs, 1)[1].tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    for _ in range(2):
        with pytest.raises(DataError, match="Data layer 'd': cannot decode record '010' of spoiled: .*truncated"):
            layer.forward([], blobs)
    layer.close()


def test_a_damaged_image_comes_before_a_damaged_record_behind_it(sources, number):
    spoil(2)
    with open_db("both", "lmdb", "w") as database:
        for key, value in open_db("spoiled", "lmdb").items():
            database.put(key, b"\xff\xff" if int(key) == 3 else bytes(value))
    layer, blobs = data_layer('name: "d" type: "Data" data_param { source: "both" batch_size: 5 backend: LMDB }')
    with pytest.raises(DataError, match="record '002' of both"):
        layer.forward([], blobs)
    layer.close()


def test_a_missing_file_is_named(sources, number):
    (sources / "list.txt").write_text("0.png 0\n1.png 1\nnone.png 2\n2.png 3\nneither.png 4\n")
    text = 'name: "d" type: "ImageData" image_data_param { source: "list.txt" batch_size: 5 }'
    layer, blobs = data_layer(text)
    with pytest.raises(DataError, match="ImageData layer 'd': cannot read image none.png"):
        layer.forward([], blobs)
    layer.close()


def test_after_a_batch_that_cannot_be_transformed_comes_the_next(sources, number):
    (sources / "sizes.txt").write_text("size0.png 0\nsize1.png 1\nsize0.png 2\nsize3.png 3\n")
    layer, blobs = data_layer('name: "d" type: "ImageData" image_data_param { source: "sizes.txt" batch_size: 2 }')
    for _ in range(2):
        with pytest.raises(DataError, match=r"image 1 of the batch \(size1.png\) has shape .* need crop_size"):
            layer.forward([], blobs)
        assert batches(layer, blobs, 1)[1].tolist() == [2, 3]
    layer.close()


# -- threads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["raw", "encoded", "list", "windows"])
def test_no_thread_is_left(sources, number, kind):
    before = threads()
    layer, blobs = layer_of(kind)
    batches(layer, blobs, 2)
    assert threads() > before
    layer.close()
    assert threads() == before
    batches(layer, blobs, 1)
    del layer
    assert threads() == before


def test_no_thread_is_left_after_an_error(sources, number):
    before = threads()
    spoil(1)
    layer, blobs = data_layer('name: "d" type: "Data" data_param { source: "spoiled" batch_size: 4 backend: LMDB }')
    with pytest.raises(DataError):
        layer.forward([], blobs)
    del layer
    assert threads() == before


def waits_for_a_batch(thread):
    """Whether the thread waits inside `Prefetcher.get`."""
    frame = sys._current_frames()[thread.ident]
    names = [frame.f_code.co_name]
    while frame := frame.f_back:
        names.append(frame.f_code.co_name)
    return names[0] == "wait" and "take" in names


@pytest.fixture
def ctrl_c_raises():
    """SIGINT raises KeyboardInterrupt, also in a process that was started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="a signal cannot be sent to one thread here")
def test_ctrl_c_while_a_batch_is_loaded(sources, number, monkeypatch, ctrl_c_raises):
    """The main thread waits for a batch; the signal ends the wait, and the net can go on."""
    read, slow, go_on = image_list.read_pixels, threading.Event(), threading.Event()

    def read_slowly(*args):
        slow.set()
        assert go_on.wait(60)
        return read(*args)

    layer, blobs = layer_of("list")
    expected = batches(layer, blobs, 1)
    state = layer.state()
    after = batches(layer, blobs, 1)
    layer.load_state(state)
    monkeypatch.setattr(image_list, "read_pixels", read_slowly)

    def interrupt():
        assert slow.wait(60)
        while not waits_for_a_batch(threading.main_thread()):
            time.sleep(0.001)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        go_on.set()

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        layer.forward([], blobs)
    interrupter.join()
    assert checksum(batches(layer, blobs, 1)) == checksum(after) != checksum(expected)
    layer.close()


@pytest.mark.parametrize(
    "text",
    [
        'type: "Data" data_param { source: "encoded" batch_size: 16 backend: LMDB threads: %d }',
        'type: "ImageData" image_data_param { source: "list.txt" batch_size: 16 threads: %d }',
    ],
)
def test_the_number_of_threads_can_be_given(sources, text):
    before, counts = threads(), []
    for number in (1, 4):
        layer, blobs = data_layer(f'name: "d" {text % number}')
        batches(layer, blobs, 1)
        counts.append(len(threads() - before))
        layer.close()
    assert counts == [2, 5]  # the two of the Feed, and one less than given beside them
