"""Data: order, shapes, wrap-around, crops; a resumed reader continues where an uninterrupted one would."""

import json
import logging
import os

import numpy as np
import pytest

from helpers.readers import assert_same_batches, batches, data_layer, write_images
from minicaffe.data.datum import array_to_datum
from minicaffe.data.db import open_db
from minicaffe.data.image import encode_image
from minicaffe.data.mean import write_mean
from minicaffe.errors import DataError, LayerError
from minicaffe.proto import caffe_pb2
from minicaffe.testing import computing_with

IMAGES = np.random.default_rng(3).integers(0, 256, (7, 3, 6, 5), dtype=np.uint8)


def set_up(path, text="", data="batch_size: 3 backend: LMDB", tops=2, phase=0):
    source = f'data_param {{ source: "{path}" {data} }} transform_param {{ {text} }}'
    return data_layer(f'name: "cifar" type: "Data" {source}', tops, phase)


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_records_in_order_round_and_round(tmp_path, backend, caplog):
    layer, blobs = set_up(
        write_images(tmp_path / "db", IMAGES, backend=backend), data=f"batch_size: 3 backend: {backend.upper()}"
    )
    assert [blob.shape for blob in blobs] == [(3, 3, 6, 5), (3,)]
    with caplog.at_level(logging.INFO):
        got = batches(layer, blobs, 5)
        layer.close()
    expected = np.arange(15) % 7
    assert np.array_equal(np.concatenate([labels for _, labels in got]), expected)
    assert np.array_equal(np.concatenate([images for images, _ in got]), IMAGES[expected])
    assert "Restarting data prefetching from start." in caplog.text


def test_leveldb_is_the_default_backend(tmp_path):
    layer, blobs = set_up(write_images(tmp_path / "db", IMAGES, backend="leveldb"), data="batch_size: 1")
    assert blobs[0].shape == (1, 3, 6, 5)


def test_labels_are_optional(tmp_path):
    layer, (top,) = set_up(write_images(tmp_path / "db", IMAGES), tops=1)
    layer.forward([], [top])
    assert np.array_equal(top.data, IMAGES[:3])


def test_every_batch_takes_the_shape_of_its_first_record(tmp_path):
    path = write_images(tmp_path / "db", [*IMAGES[:3], *IMAGES[3:6, :, :4]])
    layer, blobs = set_up(path)
    shapes = []
    for _ in range(3):
        layer.forward([], blobs)
        shapes.append(blobs[0].shape)
    assert shapes == [(3, 3, 6, 5), (3, 3, 4, 5), (3, 3, 6, 5)]


def test_floats_and_encoded_images(tmp_path):
    write_images(tmp_path / "floats", IMAGES / np.float32(7))
    layer, blobs = set_up(tmp_path / "floats")
    layer.forward([], blobs)
    assert np.array_equal(blobs[0].data, IMAGES[:3] / np.float32(7))
    with open_db(tmp_path / "encoded", "lmdb", "w") as database:
        for i in range(3):
            datum = caffe_pb2.Datum(data=encode_image(IMAGES[i], "png"), encoded=True, label=i)
            database.put(str(i), datum.SerializeToString())
    layer, blobs = set_up(tmp_path / "encoded")
    layer.forward([], blobs)
    assert np.array_equal(blobs[0].data, IMAGES[:3])
    layer, blobs = set_up(tmp_path / "encoded", "force_gray: true")
    assert blobs[0].shape == (3, 1, 6, 5)


@pytest.mark.parametrize("phase", [0, 1])
def test_a_resumed_reader_equals_an_uninterrupted_one(tmp_path, phase):
    path, text = write_images(tmp_path / "db", IMAGES), "crop_size: 4 mirror: true scale: 0.5"
    layer, blobs = set_up(path, text, phase=phase)
    batches(layer, blobs, 4)
    state = layer.state()
    expected = batches(layer, blobs, 4)
    other, other_blobs = set_up(path, text, phase=phase)
    batches(other, other_blobs, 1)
    other.load_state(state)
    for a, b in zip(expected, batches(other, other_blobs, 4), strict=True):
        assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])


def test_the_state_is_fit_for_json_and_counts_only_what_was_used(tmp_path):
    layer, blobs = set_up(write_images(tmp_path / "db", IMAGES))
    assert json.loads(json.dumps(layer.state()))["position"] == {"key": None}
    batches(layer, blobs, 3)
    assert json.loads(json.dumps(layer.state()))["position"] == {"key": "00001"}


def test_closing_and_going_on_loses_nothing(tmp_path):
    layer, blobs = set_up(write_images(tmp_path / "db", IMAGES))
    labels = []
    for _ in range(4):
        labels.append(batches(layer, blobs, 1)[0][1])
        layer.close()
    assert np.array_equal(np.concatenate(labels), np.arange(12) % 7)


def test_the_whole_data_set_for_a_device(tmp_path):
    layer, _ = set_up(write_images(tmp_path / "db", IMAGES))
    images, labels, keys = layer.reader.load_all()
    assert np.array_equal(images, IMAGES) and labels.tolist() == list(range(7)) and keys[0] == b"00000"
    assert layer.reader.load_all(limit=100) is None
    layer, _ = set_up(
        write_images(tmp_path / "ragged", [IMAGES[0], IMAGES[1, :, :4]]), data="batch_size: 1 backend: LMDB"
    )
    assert layer.reader.load_all() is None


def test_fields_that_moved_are_ignored_with_a_warning(tmp_path, caplog):
    layer, blobs = set_up(
        write_images(tmp_path / "db", IMAGES), data="batch_size: 3 backend: LMDB scale: 0.1 crop_size: 2"
    )
    layer.forward([], blobs)
    assert np.array_equal(blobs[0].data, IMAGES[:3])
    assert "Data layer 'cifar': scale, crop_size has no effect here any more" in caplog.text


def test_errors_name_the_layer(tmp_path):
    with pytest.raises(DataError, match="Data layer 'cifar': LMDB .*none does not exist"):
        set_up(tmp_path / "none")
    path = write_images(tmp_path / "db", IMAGES)
    with pytest.raises(LayerError, match="Data layer 'cifar': data_param.batch_size must be positive, got 0"):
        set_up(path, data="backend: LMDB")
    with pytest.raises(DataError, match="Data layer 'cifar': transform_param: crop 7x7 is larger than the image, 6x5"):
        set_up(path, "crop_size: 7")
    write_mean(tmp_path / "mean", np.zeros((3, 8, 8)))
    with pytest.raises(DataError, match=r"Data layer 'cifar': mean file .*mean has shape \(3, 8, 8\), .*\(3, 6, 5\)"):
        set_up(path, f'mean_file: "{tmp_path}/mean"')
    os.truncate(path / "data.mdb", 6000)
    with pytest.raises(DataError, match="Data layer 'cifar': LMDB .*db is truncated: data.mdb has 6000 bytes"):
        set_up(path)


def test_an_error_in_the_thread_comes_out_of_forward(tmp_path):
    with open_db(tmp_path / "db", "lmdb", "w") as database:
        database.put("00000", array_to_datum(IMAGES[0], 0).SerializeToString())
        database.put("00001", b"\xff\xff\xff")
    layer, blobs = set_up(tmp_path / "db", data="batch_size: 1 backend: LMDB")
    layer.forward([], blobs)
    with pytest.raises(DataError, match="Data layer 'cifar': record '00001' of .*db is no Datum"):
        layer.forward([], blobs)


# -- on the GPU --------------------------------------------------------------------------------------------------------


TRANSFORM = "crop_size: 4 mirror: true scale: 0.5 mean_value: 100"


@pytest.mark.gpu
@pytest.mark.parametrize("tops", [1, 2])
def test_a_database_on_the_device_gives_the_batches_of_the_host(tmp_path, gpu_mode, tops):
    path = write_images(tmp_path / "db", IMAGES)
    layer, blobs = set_up(path, TRANSFORM, tops=tops)
    other, other_blobs = set_up(path, TRANSFORM, tops=tops)
    other.load_state(layer.state())
    got = batches(layer, blobs, 6)
    with computing_with(gpu=False):
        assert_same_batches(got, batches(other, other_blobs, 6))
    assert layer.state() == other.state()


@pytest.mark.gpu
def test_from_the_device_to_the_host_and_back(tmp_path, gpu_mode):
    path = write_images(tmp_path / "db", IMAGES)
    layer, blobs = set_up(path, TRANSFORM)
    other, other_blobs = set_up(path, TRANSFORM)
    other.load_state(layer.state())
    got = []
    for turn in (True, False, False, True, False, True):
        with computing_with(gpu=turn):
            got += batches(layer, blobs, 1)
    with computing_with(gpu=False):
        assert_same_batches(got, batches(other, other_blobs, 6))


@pytest.mark.gpu
def test_a_state_is_taken_up_on_the_device(tmp_path, gpu_mode):
    path = write_images(tmp_path / "db", IMAGES)
    layer, blobs = set_up(path, TRANSFORM)
    batches(layer, blobs, 4)
    state = layer.state()
    expected = batches(layer, blobs, 3)
    layer.load_state(state)
    assert_same_batches(expected, batches(layer, blobs, 3))
    other, other_blobs = set_up(path, TRANSFORM)
    batches(other, other_blobs, 1)
    other.load_state(state)
    assert_same_batches(expected, batches(other, other_blobs, 3))


@pytest.mark.gpu
@pytest.mark.parametrize("what", ["floats", "sizes", "resize"])
def test_what_does_not_go_to_the_device_comes_from_the_host(tmp_path, gpu_mode, what):
    images = {"floats": IMAGES / np.float32(2), "sizes": [*IMAGES[:4], *IMAGES[4:, :, :5]]}.get(what, IMAGES)
    text = "crop_size: 4" + (" resize_param { height: 8 width: 8 }" if what == "resize" else "")
    path = write_images(tmp_path / "db", images)
    layer, blobs = set_up(path, text, phase=1)
    got = batches(layer, blobs, 4)
    with computing_with(gpu=False):
        assert_same_batches(got, batches(*set_up(path, text, phase=1), 4))
