"""Blob: shapes, arrays, sharing, and views that a script holds."""

import copy
import pickle

import numpy as np
import pytest

from minicaffe.core.blob import Blob
from minicaffe.core.places import HOST, Place
from minicaffe.errors import BlobError
from minicaffe.proto import caffe_pb2

ELSEWHERE = Place("of a test")


class DoublingEngine:
    """An engine's copy in a layout of its own: all values doubled."""

    def __init__(self, values):
        self.values = values

    def to_host(self, flat):
        flat[: self.values.size] = self.values / 2


def test_starts_as_a_scalar_zero():
    blob = Blob()
    assert blob.shape == () and blob.count == 1 and float(blob.data) == 0 and float(blob.diff) == 0


def test_reshape_keeps_memory_until_it_must_grow():
    blob = Blob((2, 3))
    blob.data[...] = np.arange(6).reshape(2, 3)
    memory = blob.data_memory
    blob.reshape(3)
    np.testing.assert_array_equal(blob.data, [0, 1, 2])
    blob.reshape((3, 2))
    np.testing.assert_array_equal(blob.data, [[0, 1], [2, 3], [4, 5]])
    assert blob.data_memory is memory
    blob.reshape(4, 4)
    assert blob.data_memory is not memory and not blob.data.any() and blob.diff.shape == (4, 4)


def test_legacy_names_count_from_the_front():
    blob = Blob((5, 6))
    assert (blob.num, blob.channels, blob.height, blob.width) == (5, 6, 1, 1)
    with pytest.raises(BlobError, match=r"at most 4 axes, got \(1, 1, 1, 1, 2\)"):
        Blob((1, 1, 1, 1, 2)).num  # noqa: B018


def test_negative_lengths_and_axes_are_refused():
    with pytest.raises(BlobError, match="negative"):
        Blob((2, -1))
    with pytest.raises(BlobError, match="axis 2 is out of range for a blob of 2 axes"):
        Blob((2, 3)).canonical_axis(2)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 2**30), "at most 2147483647 numbers, got the shape"),
        ((3, 2**63 - 1), "at most 2147483647 numbers"),
        ((0, 2**62), "at most 2147483647 numbers"),
        ((1,) * 33, "at most 32 axes, got 33"),
    ],
)
def test_what_is_larger_than_in_caffe_is_refused(shape, words):
    blob = Blob((2, 3))
    with pytest.raises(BlobError, match=words):
        blob.reshape(shape)
    assert blob.shape == (2, 3)


def test_data_is_live_and_assignable():
    blob = Blob((2, 2))
    view = blob.data
    view[0, 1] = 5
    assert blob.data[0, 1] == 5
    blob.data = 3
    assert view[1, 1] == 3


def test_sharing_is_one_memory_for_two_shapes():
    a, b = Blob((2, 3)), Blob((6,))
    b.share_data(a)
    a.data[1, 2] = 9
    assert b.data[5] == 9 and not b.diff.any()
    with pytest.raises(BlobError, match="equal counts"):
        Blob((5,)).share_data(a)


def test_diff_grows_when_the_data_was_borrowed_from_something_larger():
    small, large = Blob((4,)), Blob((4,))
    large.reshape(10)
    large.reshape(4)
    small.share_data(large)
    small.reshape(8)
    assert small.diff.shape == (8,)


def test_engine_results_come_to_the_host_when_asked():
    blob = Blob((3,))
    blob.data_memory.wrote(ELSEWHERE, DoublingEngine(np.array([2.0, 4.0, 6.0])))
    assert blob.data_memory.valid_at(ELSEWHERE)
    np.testing.assert_array_equal(blob.read_data(), [1, 2, 3])
    assert blob.data_memory.valid_at(ELSEWHERE), "reading leaves the engine's copy valid"
    blob.data[0] = 7
    assert not blob.data_memory.valid_at(ELSEWHERE), "a view may be written to: the host copy is the newest"


def test_clearing_asks_nothing_of_the_engine():
    blob = Blob((3,))
    blob.diff_memory.wrote(ELSEWHERE, DoublingEngine(np.array([2.0, 4.0, 6.0])))
    blob.clear_diff()
    np.testing.assert_array_equal(blob.diff, 0)


def test_a_view_that_is_kept_stays_true():
    blob = Blob((3,))
    part = blob.data[1:]
    blob.data_memory.wrote(ELSEWHERE, DoublingEngine(np.array([2.0, 4.0, 6.0])))
    blob.settle()
    np.testing.assert_array_equal(part, [2, 3])
    assert not blob.data_memory.valid_at(ELSEWHERE), "the view may be written to: engines must read the host"
    del part
    assert blob.data_memory.fresh, "and the values are still there"


def test_a_view_is_forgotten_with_its_last_slice():
    blob = Blob((2, 3))
    memory = blob.data_memory
    first = blob.data
    row = first[1]
    del first
    assert memory.held and memory.view is not None
    del row
    assert memory.view is None and not memory.held
    second = blob.data
    assert memory.held and blob.data.base is not None
    del memory, blob
    assert second.sum() == 0  # the array may outlive its blob


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_proto_round_trip(dtype):
    blob = Blob((2, 3), dtype)
    blob.data[...] = np.arange(6).reshape(2, 3) / 3
    blob.diff[...] = -1
    other = Blob(dtype=dtype)
    other.from_proto(blob.to_proto(write_diff=True))
    np.testing.assert_array_equal(other.data, blob.data)
    np.testing.assert_array_equal(other.diff, blob.diff)


@pytest.mark.parametrize("dtype, prefix", [("f4", ""), ("f8", "double_")])
@pytest.mark.parametrize("shape", [(), (0, 3), (127,), (128, 129)])
def test_protos_hold_the_bytes_of_appended_numbers(dtype, prefix, shape):
    blob = Blob(shape, np.dtype(dtype))
    blob.data = np.random.default_rng(0).standard_normal(shape)
    blob.diff = np.random.default_rng(1).standard_normal(shape)
    expected = caffe_pb2.BlobProto(shape=caffe_pb2.BlobShape(dim=shape))
    getattr(expected, prefix + "data").extend(blob.data.ravel().tolist())
    getattr(expected, prefix + "diff").extend(blob.diff.ravel().tolist())
    assert blob.to_proto(write_diff=True).SerializeToString() == expected.SerializeToString()


def test_legacy_protos_fit_shapes_with_ones_in_front():
    proto = Blob((10, 64)).to_proto()
    proto.ClearField("shape")
    proto.num, proto.channels, proto.height, proto.width = 1, 1, 10, 64
    blob = Blob((10, 64))
    blob.from_proto(proto, reshape=False)
    with pytest.raises(BlobError, match=r"expected a blob of shape \(64, 10\), got \(1, 1, 10, 64\)"):
        Blob((64, 10)).from_proto(proto, reshape=False)


@pytest.mark.gpu
def test_values_cross_the_bus_only_when_asked(cuda_device):
    blob = Blob((4,))
    blob.data[...] = [1, 2, 3, 4]
    pointer = blob.gpu_data()
    assert pointer and blob.gpu_data() == pointer
    assert blob.data_memory.fresh == HOST.bit | Place.named("gpu").bit, "reading on the device leaves the host valid"
    blob.mutable_gpu_data()
    assert blob.data_memory.fresh == Place.named("gpu").bit
    np.testing.assert_array_equal(blob.data, [1, 2, 3, 4])
    blob.mutable_gpu_data()
    blob.data_memory.clear()
    np.testing.assert_array_equal(blob.data, 0)


def test_what_was_written_through_a_view_counts_when_it_is_gone():
    """Also if, while the view was held, an engine wrote to the blob and the view was updated."""
    blob = Blob((3,))
    view = blob.data
    blob.data_memory.wrote(ELSEWHERE, DoublingEngine(np.array([2.0, 4.0, 6.0])))
    blob.settle()
    versions = [blob.data_memory.version]
    view[...] = 7
    del view
    versions.append(blob.data_memory.version)
    np.testing.assert_array_equal(blob.read_data(), 7)
    assert not blob.data_memory.valid_at(ELSEWHERE)
    assert versions[0] is not versions[1] and versions[1] is blob.data_memory.version


@pytest.mark.parametrize("how", [copy.deepcopy, copy.copy, lambda blob: pickle.loads(pickle.dumps(blob))])
def test_copies_and_pickles_hold_the_values(how):
    blob = Blob((2, 3), np.float64)
    blob.data[...], blob.diff[...] = np.arange(6).reshape(2, 3), -1
    other = how(blob)
    assert other.dtype == np.float64
    np.testing.assert_array_equal(other.data, blob.data)
    np.testing.assert_array_equal(other.diff, blob.diff)
    other.data[0, 0] = 9
    assert blob.data[0, 0] == 0


@pytest.mark.gpu
def test_a_smaller_shape_keeps_what_an_engine_wrote(gpu_mode):
    """Also where the next pass will be on the GPU, whose memory is not made for the larger shape."""
    blob = Blob((3,))
    blob.data_memory.wrote(ELSEWHERE, DoublingEngine(np.array([2.0, 4.0, 6.0])))
    blob.reshape(2)
    np.testing.assert_array_equal(blob.read_data(), [1, 2])
