"""CustomData: records with slices of channels."""

import numpy as np
import pytest

from minicaffe.data.datum import array_to_datum
from minicaffe.data.db import open_db
from minicaffe.errors import DataError, LayerError
from minicaffe.proto import caffe_pb2
from minicaffe.testing import build_layer

SLICED = """slice_point: 1 slice_point: 2 slice_point: 4 encoding: UINT8 encoding: UINT8 encoding: UINT16FLOW
    encoding: BOOL1"""
COUNT, SIZE = 7, (3, 5)


def scene(i):
    """Two pictures (H, W), a flow (2, H, W) with an unknown place, and a mask (H, W)."""
    rng = np.random.default_rng(i)
    one, two = rng.integers(0, 256, (2, *SIZE), np.uint8)
    flow = rng.integers(-640, 640, (2, *SIZE)) / 32
    flow[:, 1, 1] = np.nan
    return one, two, flow, rng.integers(0, 2, SIZE)


def record(i):
    one, two, flow, mask = scene(i)
    stored = np.where(np.isnan(flow), 32767, np.nan_to_num(flow) * 32).astype("<i2")
    bits = np.packbits(mask.ravel(), bitorder="little")
    data = one.tobytes() + two.tobytes() + stored.tobytes() + bits.tobytes()
    return caffe_pb2.Datum(channels=5, height=SIZE[0], width=SIZE[1], data=data, label=i)


@pytest.fixture
def source(tmp_path):
    with open_db(tmp_path / "pairs", "lmdb", "w") as database:
        for i in range(COUNT):
            database.put(f"{i:08d}", record(i).SerializeToString())
    return str(tmp_path / "pairs")


def text(source, more):
    return f"type: 'CustomData' data_param {{ source: '{source}' backend: LMDB batch_size: 2 {more} }}"


def read(source, more="", passes=1, tops=5):
    """The tops of some passes, one after the other, and the layer."""
    layer, bottom, top = build_layer(text(source, f"{SLICED} {more}"), num_top=tops, dtype=np.float32)
    batches = []
    try:
        for _ in range(passes):
            layer.forward(bottom, top)
            batches.append([blob.data.copy() for blob in top])
    finally:
        layer.close()
    return [np.concatenate(each) for each in zip(*batches)], layer


def labels(source, more, passes):
    return read(source, more, passes)[0][4].astype(int).tolist()


def test_slices_and_encodings(source):
    tops, _ = read(source, passes=4)
    assert [blob.shape for blob in tops] == [(8, 1, 3, 5), (8, 1, 3, 5), (8, 2, 3, 5), (8, 1, 3, 5), (8,)]
    for n in range(8):
        for got, expected in zip(tops, (*scene(n % COUNT), n % COUNT)):
            np.testing.assert_array_equal(got[n].reshape(np.shape(expected)), expected)
    assert len(read(source, tops=4)[0]) == 4  # without labels


def test_floats_and_mean(tmp_path):
    values = np.random.default_rng(0).standard_normal((3, 3, 5))
    with open_db(tmp_path / "floats", "lmdb", "w") as database:
        database.put("0", array_to_datum(values).SerializeToString())
    layer, bottom, top = build_layer(
        text(tmp_path / "floats", "slice_point: 2 subtract: [1, 2, 3] scale: 2"), num_top=2, dtype=np.float32
    )
    layer.forward(bottom, top)
    layer.close()
    expected = 2 * (values - np.array([1, 2, 3])[:, None, None])
    np.testing.assert_allclose(np.concatenate([blob.data[0] for blob in top]), expected, rtol=1e-5)


def test_preselection_and_range(source, tmp_path):
    (tmp_path / "split").write_text("1\n2\n1 1\n2\n1\n1\n")
    selected = f"preselection_file: '{tmp_path / 'split'}' preselection_label: 1"
    assert labels(source, selected, 3) == [0, 2, 3, 5, 6, 0]
    assert labels(source, f"{selected} range_start: 1 range_end: 3", 3) == [2, 3, 5, 2, 3, 5]
    assert labels(source, "range_start: 5", 2) == [5, 6, 5, 6]


def test_a_fixed_order(source):
    more = "rand_permute: true rand_permute_seed: 77"
    order = labels(source, more, 7)
    assert order[:7] == order[7:]
    assert sorted(order[:7]) == list(range(7)) != order[:7]
    assert labels(source, more, 7) == order
    assert labels(source, f"{more} range_end: 2", 3) == 2 * order[:3]
    early = labels(source, f"{more} range_end: 2 rand_permute_order: FIRST_RANGE_THEN_PERMUTE", 3)
    assert sorted(early[:3]) == [0, 1, 2]


def test_another_order_in_each_pass(source):
    order = labels(source, "rand_permute: true", 7)
    assert sorted(order[:7]) == sorted(order[7:]) == list(range(7))
    assert order[:7] != order[7:]


@pytest.mark.parametrize("more", ["", "rand_permute: true", "rand_permute: true rand_permute_seed: 5"])
def test_a_resumed_layer_continues(source, more):
    layer, bottom, top = build_layer(text(source, f"{SLICED} {more}"), num_top=5, dtype=np.float32)
    layer.forward(bottom, top)
    state, expected = layer.state(), []
    for _ in range(5):
        layer.forward(bottom, top)
        expected += top[4].data.tolist()
    layer.close()
    other, bottom, top = build_layer(text(source, f"{SLICED} {more}"), num_top=5, dtype=np.float32)
    other.load_state(state)
    got = []
    for _ in range(5):
        other.forward(bottom, top)
        got += top[4].data.tolist()
    other.close()
    assert got == expected


@pytest.mark.parametrize(
    ("more", "tops", "kind", "words"),
    [
        ("slice_point: 2", 4, LayerError, "takes a top for each of 2 slices and one, got 4"),
        ("encoding: UINT8 encoding: UINT8", 1, LayerError, "encoding must be given at most once for each slice, got 2"),
        ("", 1, DataError, "has 92 bytes, expected 75 for its size"),
        ("encoding: UINT16FLOW", 1, DataError, "has 92 bytes, too few for its size"),
        ("slice_point: 3 slice_point: 3", 3, DataError, r"slice_point \[3, 3\] must ascend, from 1 to .* 5"),
        (f"{SLICED} range_start: 9", 4, DataError, "no record is left of 7"),
        (f"{SLICED} preselection_file: 'none'", 4, DataError, "cannot read preselection_file none"),
    ],
)
def test_errors_name_the_layer(source, more, tops, kind, words):
    with pytest.raises(kind, match=f"^CustomData layer 'layer': .*{words}"):
        build_layer(text(source, more), num_top=tops)
