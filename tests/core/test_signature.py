"""A blob's signature changes whenever its shape or its memory does, and only then."""

from minicaffe.core.blob import Blob


def test_signature_follows_shape_and_memory():
    blob, other = Blob((2, 3)), Blob((6,))
    assert blob.signature == ((2, 3), blob.data_memory, blob.diff_memory)
    before = blob.signature
    blob.reshape(2, 3)
    assert blob.signature == before
    blob.reshape(3, 2)
    assert blob.signature == ((3, 2), *before[1:])
    blob.share_data(other)
    assert blob.signature == ((3, 2), other.data_memory, before[2])
    blob.share_diff(other)
    assert blob.signature == ((3, 2), other.data_memory, other.diff_memory)
    blob.restore(before)
    assert blob.signature == before and blob.shape == (2, 3) and blob.count == 6
    blob.reshape(100)
    assert blob.signature == ((100,), blob.data_memory, blob.diff_memory) != before
