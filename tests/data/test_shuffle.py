"""data_param { shuffle: true }: a new permutation in every round, resumed at any position, for CPU and GPU."""

import json
import logging

import numpy as np
import pytest

from helpers.readers import assert_same_batches, batches, data_layer, write_images
from minicaffe.core.random import set_random_seed
from minicaffe.errors import DataError
from minicaffe.testing import computing_with

IMAGES = np.random.default_rng(3).integers(0, 256, (7, 3, 6, 5), dtype=np.uint8)
SHUFFLED = "batch_size: 3 shuffle: true backend: LMDB"


def set_up(path, data=SHUFFLED, transform="", phase=0):
    source = f'data_param {{ source: "{path}" {data} }} transform_param {{ {transform} }}'
    return data_layer(f'name: "cifar" type: "Data" {source}', phase=phase)


@pytest.mark.parametrize("backend", ["LMDB", "LEVELDB"])
@pytest.mark.parametrize("phase", [0, 1])
def test_every_round_is_another_permutation(tmp_path, backend, phase, caplog):
    path = write_images(tmp_path / "db", IMAGES, backend=backend)
    with caplog.at_level(logging.INFO):
        layer, blobs = set_up(path, f"batch_size: 7 shuffle: true rand_skip: 3 backend: {backend}", phase=phase)
        got = batches(layer, blobs, 8)
        layer.close()
    assert all(sorted(labels) == list(range(7)) for _, labels in got)
    assert all(np.array_equal(images, IMAGES[labels.astype(int)]) for images, labels in got)
    assert len({tuple(labels) for _, labels in got}) > 1
    assert "Data layer 'cifar': rand_skip has no effect" in caplog.text
    assert "Shuffling data" in caplog.text and "Restarting data prefetching from start." in caplog.text


def test_rounds_end_within_batches_and_follow_the_seed(tmp_path):
    path, orders = write_images(tmp_path / "db", IMAGES), []
    for seed in (5, 5, 6):
        set_random_seed(seed)
        layer, blobs = set_up(path)
        orders.append(np.concatenate([labels for _, labels in batches(layer, blobs, 14)]).reshape(6, 7))
        assert all(sorted(order) == list(range(7)) for order in orders[-1].tolist())
        layer.close()
    assert np.array_equal(orders[0], orders[1]) and not np.array_equal(orders[0], orders[2])


@pytest.mark.parametrize("backend", ["LMDB", "LEVELDB"])
def test_resuming_in_the_middle_of_a_round(tmp_path, backend):
    data = f"batch_size: 3 shuffle: true backend: {backend}"
    path, crops = write_images(tmp_path / "db", IMAGES, backend=backend), "crop_size: 4 mirror: true"
    layer, blobs = set_up(path, data, crops)
    batches(layer, blobs, 4)
    state = json.loads(json.dumps(layer.state()))
    expected = batches(layer, blobs, 9)
    other, other_blobs = set_up(path, data, crops)
    batches(other, other_blobs, 1)
    other.load_state(state)
    for a, b in zip(expected, batches(other, other_blobs, 9), strict=True):
        assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])


def test_a_saved_position_in_another_order(tmp_path, caplog):
    path, plain = write_images(tmp_path / "db", IMAGES), "batch_size: 7 backend: LMDB"
    for first, second in ((plain, f"{plain} shuffle: true"), (f"{plain} shuffle: true", plain)):
        caplog.clear()
        layer, blobs = set_up(path, first)
        batches(layer, blobs, 2)
        other, other_blobs = set_up(path, second)
        other.load_state(layer.state())
        assert "Data layer 'cifar' reads from its start" in caplog.text
        assert sorted(batches(other, other_blobs, 1)[0][1]) == list(range(7))


def test_a_saved_position_beyond_the_end(tmp_path):
    data = "batch_size: 6 shuffle: true backend: LMDB"
    layer, blobs = set_up(write_images(tmp_path / "db", IMAGES), data)
    batches(layer, blobs, 1)
    other, _ = set_up(write_images(tmp_path / "smaller", IMAGES[:4]), data)
    with pytest.raises(DataError, match="Data layer 'cifar': cannot go on from entry 6: there are only 4 entries"):
        other.load_state(layer.state())


def test_an_empty_database(tmp_path):
    with pytest.raises(DataError, match="Data layer 'cifar': database .*db holds no records"):
        set_up(write_images(tmp_path / "db", []))


@pytest.mark.gpu
def test_the_device_gives_the_batches_of_the_host(tmp_path, cuda_device):
    path, transform = write_images(tmp_path / "db", IMAGES), "crop_size: 4 mirror: true scale: 0.5 mean_value: 100"
    layer, blobs = set_up(path, transform=transform)
    other, other_blobs = set_up(path, transform=transform)
    other.load_state(layer.state())
    with computing_with(gpu=True):
        got = batches(layer, blobs, 6)
        state = layer.state()
        got += batches(layer, blobs, 3)
    expected = batches(other, other_blobs, 6)
    assert state == other.state()
    assert_same_batches(got, expected + batches(other, other_blobs, 3))
