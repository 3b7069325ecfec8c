"""BoxData: boxes of cells, and their pictures."""

import numpy as np
import pytest

from helpers.readers import assert_same_batches, batches, data_layer
from minicaffe.data.db import open_db
from minicaffe.data.image import encode_image
from minicaffe.errors import DataError, LayerError
from minicaffe.proto import caffe_pb2

pytestmark = pytest.mark.layers("BoxData")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(records):
    """Write "db" of pairs: an image (C, H, W), and rows class, difficult, x, y, width, height."""
    with open_db("db", "lmdb", "w") as database:
        for index, (image, rows) in enumerate(records):
            datum = caffe_pb2.Datum(data=encode_image(image, "png"), encoded=True, float_data=np.ravel(rows))
            database.put(f"{index:05d}", datum.SerializeToString())


def layer(transform="", sides="", batch=1, phase=0, tops=2):
    made, blobs = data_layer(
        f"""name: "d" type: "BoxData" transform_param {{ {transform} }}
        data_param {{ source: "db" backend: LMDB batch_size: {batch} {sides} }}""",
        tops, phase,
    )  # fmt: skip
    state = made.state()
    made.load_state(state | {"rng": state["rng"] | {"key": [3, 4], "counter": [0] * 4}})
    return made, blobs


def test_labels_of_cells():
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(3, 4, 6)
    write([
        (image, [(4, 0, 0.2, 0.3, 0.1, 0.2), (7, 1, 0.9, 1.0, 0.3, 0.4), (2, 0, 0.1, 0.1, 0.2, 0.2)]),
        (image, [(1, 0, 0.5, 0.5, 1, 1)]),
    ])  # fmt: skip
    made, blobs = layer("mean_value: 3", "side: 2 side: 1", batch=2, phase=1, tops=3)
    ((pictures, two, one),) = batches(made, blobs, 1)
    np.testing.assert_array_equal(pictures[0], image.astype(np.float32) - 3)
    boxes = [[0.1, 0.1, 0.2, 0.2], [0] * 4, [0] * 4, [0.9, 1, 0.3, 0.4]]
    expected = [0, 0, 0, 1, 1, 0, 0, 1, 2, -1, -1, 7, *np.ravel(boxes)]
    np.testing.assert_allclose(two[0], expected, atol=1e-6)
    np.testing.assert_allclose(two[1], [0] * 7 + [1, -1, -1, -1, 1] + [0] * 12 + [0.5, 0.5, 1, 1])
    np.testing.assert_allclose(one[0], [0, 1, 2, 0.1, 0.1, 0.2, 0.2], atol=1e-6)


def test_parts_of_pictures_in_training():
    """A white rectangle on black is where its box is, to a pixel, and no part is without a centre."""
    rng = np.random.default_rng(0)
    records = []
    for _ in range(20):
        left, top = rng.integers(0, 40, 2)
        width, height = rng.integers(10, 40, 2)
        image = np.zeros((1, 80, 80), np.uint8)
        image[:, top : top + height, left : left + width] = 255
        records.append((image, [(0, 0, (left + width / 2) / 80, (top + height / 2) / 80, width / 80, height / 80)]))
    write(records)
    made, blobs = layer("scale: 0.5", "side: 1")
    sizes, moved = {round(float(each), 4) for _, rows in records for each in rows[0][4:]}, 0
    for images, ((_, given, label, x, y, width, height),) in batches(made, blobs, 60):
        assert (given, label) == (1, 0) and 0 <= x <= 1 and 0 <= y <= 1
        rows, columns = (np.flatnonzero((images[0, 0] > 64).any(axis)) for axis in (1, 0))
        for seen, at, size in ((columns, x, width), (rows, y, height)):
            low, high = max(0, (at - size / 2) * 80), min(80, (at + size / 2) * 80)
            assert abs(seen[0] - low) < 1.5 and abs(seen[-1] + 1 - high) < 1.5
        moved += round(float(width), 4) not in sizes
    assert moved > 40


def test_a_restored_position_gives_the_same_batches():
    rng = np.random.default_rng(1)
    write([(rng.integers(0, 256, (3, 9, 9), np.uint8), rng.random((2, 6))) for _ in range(5)])
    made, blobs = layer("", "side: 3", batch=2)
    batches(made, blobs, 3)
    state = made.state()
    expected = batches(made, blobs, 3)
    other, others = layer("", "side: 3", batch=2)
    other.load_state(state)
    assert_same_batches(batches(other, others, 3), expected)


@pytest.mark.parametrize(
    ("rows", "phase", "words"),
    [
        ([1, 2, 3], 1, "must hold an image in data, and in float_data 6 finite numbers for each of its boxes, got 3"),
        ([0, 0, np.nan, 0, 0, 0], 1, "6 finite numbers"),
        ([-1, 0, 0.5, 0.5, 1, 1], 1, "has a box of class -1: classes are counted from 0"),
    ],
)
def test_errors_name_the_record(rows, phase, words):
    write([(np.zeros((1, 4, 4), np.uint8), rows)])
    with pytest.raises(DataError, match=f"^BoxData layer 'd': .*00000.* {words}"):
        batches(*layer(phase=phase), 1)


@pytest.mark.parametrize(
    ("transform", "sides", "error", "words"),
    [
        ("mirror: true", "", DataError, "boxes do not follow crops, mirror, resize_param"),
        ("crop_size: 3", "", DataError, "boxes do not follow crops"),
        ("", "side: 7 side: 3", LayerError, r"side must be given, above 0, for each of 1 labels, got \[7, 3\]"),
    ],
)
def test_errors_name_the_layer(transform, sides, error, words):
    write([(np.zeros((1, 4, 4), np.uint8), [0, 0, 0.5, 0.5, 1, 1])])
    with pytest.raises(error, match=f"^BoxData layer 'd': .*{words}"):
        layer(transform, sides)
