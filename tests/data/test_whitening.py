"""Whitening: unit covariance, numpy's eigenvectors of the whole matrix, streaming, databases, files, errors."""

import re

import h5py
import numpy as np
import pytest

from helpers.readers import write_images
from minicaffe import hdf5_file
from minicaffe.data import datum_to_array, open_db, whitening_database
from minicaffe.data.moments import Moments
from minicaffe.data.whitening import Method, Whitening
from minicaffe.data.whitening_database import compute, write_database
from minicaffe.data.whitening_file import read_whitening, write_whitening
from minicaffe.errors import DataError, UsageError
from minicaffe.proto import caffe_pb2

SHAPE = (3, 5, 4)
COUNT = 400


@pytest.fixture(scope="module")
def images():
    """Images whose values are correlated, around 100."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(60, 60))
    return (rng.normal(size=(COUNT, 60)) @ mixing * 3 + 100).reshape(COUNT, *SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def database(images, tmp_path_factory):
    with open_db(write_images(tmp_path_factory.mktemp("whitening") / "db", images, 7)) as opened:
        yield opened


def covariance(values):
    return np.atleast_2d(np.cov(values.astype(np.float64), rowvar=False))


def patches(images, size, stride=1):
    """All patches of images, (number, C * size * size), by slices."""
    _, _, height, width = images.shape
    starts = [(y, x) for y in range(0, height - size + 1, stride) for x in range(0, width - size + 1, stride)]
    parts = [images[:, :, y : y + size, x : x + size].reshape(len(images), -1) for y, x in starts]
    return np.stack(parts, 1).reshape(len(images) * len(starts), -1).astype(np.float64)


def inverse_root(matrix, eps=0.0):
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(1 / np.sqrt(values + eps)) @ vectors.T


# -- moments -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("diagonal", [False, True])
def test_moments_of_blocks_around_a_large_mean(diagonal):
    values = np.random.default_rng(1).normal(size=(1000, 2, 5)) * np.arange(1, 6) + 1e7
    moments = Moments(2, 5, diagonal)
    for block in np.split(values, [1, 1, 40, 700]):
        moments.add(block)
    assert moments.count == 1000
    assert np.allclose(moments.mean, values.mean(0), rtol=1e-15)
    for group in range(2):
        expected = covariance(values[:, group] - 1e7)
        assert np.allclose(
            moments.covariance()[group], np.diag(expected) if diagonal else expected, rtol=1e-7, atol=1e-7
        )


def test_moments_of_fewer_than_two_items_are_not_numbers():
    moments = Moments(1, 2)
    moments.add(np.ones((1, 1, 2)))
    assert np.isnan(moments.covariance()).all()


# -- what the transform is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pca", "zca"])
def test_whole_images_have_unit_covariance(images, database, kind):
    after = compute(database, Method(kind)).transform(images).reshape(COUNT, -1)
    assert np.abs(covariance(after) - np.eye(60)).max() < 1e-6
    assert np.abs(after.mean(0)).max() < 1e-9


def test_zca_is_the_symmetric_inverse_root(images, database):
    found = compute(database, Method("zca", eps=2.5))
    flat = images.reshape(COUNT, -1).astype(np.float64)
    expected = inverse_root(covariance(flat), 2.5)
    assert np.allclose(found.matrix[0], expected, rtol=1e-9, atol=1e-12)
    assert np.allclose(found.transform(images).reshape(COUNT, -1), (flat - flat.mean(0)) @ expected)
    assert found.count == COUNT and found.image_shape == SHAPE


def test_pca_has_numpys_eigenvectors_in_descending_order(images, database):
    found = compute(database, Method("pca", components=9, eps=0.5))
    values, vectors = np.linalg.eigh(covariance(images.reshape(COUNT, -1)))
    assert np.allclose(found.eigenvalues[0], values[::-1])
    rows = vectors.T[::-1][:9] / np.sqrt(values[::-1][:9] + 0.5)[:, None]
    signs = np.sign((rows * found.matrix[0]).sum(1, keepdims=True))
    assert np.allclose(found.matrix[0], rows * signs)
    assert found.output_shape() == (9, 1, 1)
    assert (np.take_along_axis(found.matrix[0], np.abs(found.matrix[0]).argmax(1)[:, None], 1) > 0).all()


def test_eps_shrinks_the_variance_along_each_eigenvector(images, database):
    after = compute(database, Method("zca", eps=30.0)).transform(images).reshape(COUNT, -1)
    values, vectors = np.linalg.eigh(covariance(images.reshape(COUNT, -1)))
    assert np.allclose(covariance(after), vectors @ np.diag(values / (values + 30)) @ vectors.T)


def test_each_channel_by_itself(images, database):
    found = compute(database, Method("zca", per_channel=True))
    after = found.transform(images)
    for channel in range(3):
        flat = images[:, channel].reshape(COUNT, -1).astype(np.float64)
        assert np.allclose(found.matrix[channel], inverse_root(covariance(flat)))
        assert np.abs(covariance(after[:, channel].reshape(COUNT, -1)) - np.eye(20)).max() < 1e-6


def test_standard_deviation_of_each_value(images, database):
    after = compute(database, Method("std")).transform(images)
    assert np.allclose(after, (images - images.mean(0, dtype=np.float64)) / images.std(0, ddof=1, dtype=np.float64))


def test_standard_deviation_of_each_channel(images, database):
    after = compute(database, Method("std", patch=1, eps=4.0)).transform(images)
    channels = images.astype(np.float64).transpose(1, 0, 2, 3).reshape(3, -1)
    mean, variance = (each.reshape(1, 3, 1, 1) for each in (channels.mean(1), channels.var(1, ddof=1)))
    assert np.allclose(after, (images - mean) / np.sqrt(variance + 4))


def test_mean_alone(images, database):
    assert np.allclose(compute(database, Method("mean")).transform(images), images - images.mean(0, dtype=np.float64))


def test_pixels(images, database):
    after = compute(database, Method("zca", patch=1)).transform(images)
    assert np.abs(covariance(after.transpose(0, 2, 3, 1).reshape(-1, 3)) - np.eye(3)).max() < 1e-6


# -- patches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("components", [None, 5])
def test_pca_of_patches(images, database, stride, components):
    found = compute(database, Method("pca", patch=2, stride=stride, components=components))
    cut = patches(images, 2, stride)
    assert found.count == len(cut) and np.allclose(found.mean[0], cut.mean(0))
    after = found.transform(images)
    assert after.shape == (COUNT, *found.output_shape()) and after.shape[1] == (components or 12)
    after = after.transpose(0, 2, 3, 1).reshape(len(cut), -1)
    assert np.allclose(after, (cut - cut.mean(0)) @ found.matrix[0].T)
    assert np.abs(covariance(after) - np.eye(components or 12)).max() < 1e-6


@pytest.mark.parametrize("per_channel", [False, True])
def test_zca_of_patches_gives_the_centre_of_each_whitened_patch(images, database, per_channel):
    found = compute(database, Method("zca", patch=3, per_channel=per_channel))
    inside = found.transform(images)[:, :, 1:-1, 1:-1]
    cut = patches(images, 3)
    if per_channel:
        parts = cut.reshape(-1, 3, 9)
        whole = np.stack([(x - x.mean(0)) @ inverse_root(covariance(x)) for x in parts.transpose(1, 0, 2)], 1)
    else:
        whole = ((cut - cut.mean(0)) @ inverse_root(covariance(cut))).reshape(-1, 3, 9)
        assert np.abs(covariance(whole[:, :, 4]) - np.eye(3)).max() < 1e-6
    assert np.allclose(inside.transpose(0, 2, 3, 1).reshape(-1, 3), whole[:, :, 4])


def test_zca_of_patches_at_the_border_continues_with_the_mean_of_the_channel(images, database):
    found = compute(database, Method("zca", patch=3, stride=2, eps=1.0))
    centre = found.mean.reshape(3, 9).mean(1)
    padded = np.empty((COUNT, 3, 7, 6))
    padded[:] = centre[:, None, None]
    padded[:, :, 1:-1, 1:-1] = images
    inside = found.transform(padded)[:, :, 1:-1, 1:-1]
    after = found.transform(images)
    assert after.shape == images.shape and np.allclose(after, inside)


def test_patches_fit_images_of_other_sizes_and_whole_images_do_not(database):
    patch, whole = compute(database, Method("zca", patch=3)), compute(database, Method("zca"))
    assert patch.transform(np.zeros((2, 3, 9, 8))).shape == (2, 3, 9, 8)
    for found, shape in ((patch, (1, 9, 8)), (patch, (3, 2, 8)), (whole, (3, 9, 8))):
        with pytest.raises(DataError, match=re.escape(f"does not fit an image of shape {shape}")):
            found.transform(np.zeros((2, *shape)))


# -- streaming, databases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [Method("zca"), Method("pca", patch=2), Method("std"), Method("mean", patch=1)], ids=str
)
def test_blocks_do_not_matter(database, monkeypatch, method):
    once = compute(database, method)
    monkeypatch.setattr(whitening_database, "_BLOCK", 60 * 7)
    counts = []
    blocks = compute(database, method, counts.append)
    assert counts == list(range(1, COUNT + 1))
    for name in ("mean", "eigenvalues", "matrix"):
        assert np.allclose(getattr(once, name), getattr(blocks, name), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_another_database_with_the_statistics_of_the_first(images, database, tmp_path, backend):
    found = compute(database, Method("pca", patch=2, stride=2, components=4))
    others = np.random.default_rng(5).integers(0, 256, (30, *SHAPE), np.uint8)
    with open_db(write_images(tmp_path / "test", others, 4, backend), backend) as source:
        with open_db(tmp_path / "out", backend, "w") as target:
            write_database(found, source, target)
    with open_db(tmp_path / "out", backend) as result:
        records = [(key, caffe_pb2.Datum.FromString(bytes(value))) for key, value in result.items()]
    assert [key for key, _ in records] == [b"%05d" % i for i in range(30)]
    assert [datum.label for _, datum in records] == [i % 4 for i in range(30)]
    values = np.stack([datum_to_array(datum) for _, datum in records])
    assert values.dtype == np.float32 and np.array_equal(values, found.transform(others).astype(np.float32))


def test_databases_that_have_no_statistics(tmp_path):
    def error(name, images, method):
        with open_db(write_images(tmp_path / name, images)) as source, pytest.raises(DataError) as raised:
            compute(source, method)
        return str(raised.value).replace(str(tmp_path), "")

    image = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)
    assert error("empty", [], Method()) == "database /empty holds no records, so it has no mean"
    assert error("one", [image], Method()) == "database /one has one vector only, so it has no variance"
    assert error("sizes", [image, image[:, :3]], Method("std")) == (
        "record '00001' of /sizes has shape (3, 3, 4), but the records before it (3, 4, 4): a whitening needs images "
        "of one size: make the database with `convert_imageset --resize_width=W --resize_height=H`"
    )
    assert error("nan", [image, image * np.nan], Method()) == "record '00001' of /nan has values that are not finite"
    assert error("small", [image], Method(patch=5)) == (
        "the images of /small have shape (3, 4, 4): no patch of 5x5 pixels fits"
    )
    assert error("few", [image, image + 1], Method("pca", components=49)) == (
        "a vector of /few has 48 components, got components 49"
    )


def test_rank_deficient_data_need_eps_or_fewer_components(tmp_path):
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (20, 3, 4, 4), np.uint8)
    images[:, 1, 2, 3] = 7
    with open_db(write_images(tmp_path / "db", images)) as database:
        with pytest.raises(
            DataError, match=r"has rank 19 of 48, so .*: give an eps above 0, or kind pca with at most 19"
        ):
            compute(database, Method("zca"))
        with pytest.raises(DataError, match="rank 19 of 48"):
            compute(database, Method("pca", components=20))
        with pytest.raises(DataError, match="1 of 48 values are the same in all images of .*: give an eps above 0"):
            compute(database, Method("std"))
        assert compute(database, Method("pca", components=19)).output_shape() == (19, 1, 1)
        for method in (Method("zca", eps=0.1), Method("std", eps=0.1), Method("mean")):
            assert np.isfinite(compute(database, method).matrix).all()


def test_a_covariance_that_is_too_large_is_refused_before_it_is_allocated(database, monkeypatch):
    monkeypatch.setenv("MINICAFFE_MAX_COVARIANCE", str(8 * 60 * 60 - 1))
    with pytest.raises(DataError, match=r"1 x 60 x 60 values, 28800 bytes, more than the 28799 that .* whiten patches"):
        compute(database, Method("zca"))
    assert compute(database, Method("zca", per_channel=True)).matrix.shape == (3, 20, 20)
    assert compute(database, Method("std")).matrix.shape == (1, 60)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"kind": "zac"}, r'kind must be mean, std, pca, zca, got "zac" \(did you mean "zca"\?\)'),
        ({"patch": 0}, "patch must be at least 1, got 0"),
        ({"components": -1, "kind": "pca"}, "components must be at least 1, got -1"),
        ({"eps": -0.1}, "eps must be a number from 0 on, got -0.1"),
        ({"eps": np.nan}, "eps must be a number from 0 on, got nan"),
        ({"stride": 2}, "stride is the step between patches: give patch, too"),
        ({"components": 3}, "components are kept of kind pca, not of kind zca"),
        ({"kind": "mean", "eps": 1.0}, "kind mean divides by nothing, so it takes no eps"),
        ({"kind": "std", "patch": 3}, "kind std takes patch 1, that is per channel, got 3"),
        ({"kind": "mean", "per_channel": True}, "per_channel has no effect; patch 1 is per channel"),
        ({"patch": 4}, "a patch of a ZCA has a centre, so its side is odd, got 4"),
    ],
)
def test_options_that_contradict_each_other(options, message):
    with pytest.raises(UsageError, match=message):
        Method(**options)


# -- files -------------------------------------------------------------------------------------------------------------

METHODS = [Method("mean"), Method("std", patch=1, eps=0.5), Method("pca", components=4, per_channel=True),
           Method("zca", patch=3, stride=2, eps=1e-3)]  # fmt: skip


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_file_has_the_same_whitening(images, database, tmp_path, method):
    found = compute(database, method)
    write_whitening(tmp_path / "w.h5", found)
    again = read_whitening(tmp_path / "w.h5")
    assert (again.method, again.image_shape, again.count) == (method, SHAPE, found.count)
    assert isinstance(again, Whitening) and np.array_equal(again.transform(images), found.transform(images))


def test_files_that_hold_no_whitening(database, tmp_path):
    path = tmp_path / "w.h5"
    write_whitening(path, compute(database, Method("zca", patch=3)))
    whole = path.read_bytes()

    def error(change):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(DataError) as raised:
            read_whitening(path)
        return str(raised.value).replace(str(path), "w.h5")

    def put(**values):
        def change(file):
            for name, value in values.items():
                del file[name]
                if value is not None:
                    file[name] = value

        return change

    assert error(put(matrix=None)) == 'HDF5 file w.h5 holds no whitening: it has no dataset "matrix"'
    assert error(put(mean=np.zeros((1, 26)))) == 'dataset "mean" of HDF5 file w.h5 must have shape (1, 27), got (1, 26)'
    assert error(put(mean=np.full((1, 27), np.inf))).endswith("has values that are not finite")
    assert error(put(kind="ica")).startswith("HDF5 file w.h5 holds no whitening: kind must be mean, std, pca, zca")
    assert error(put(patch=np.int64(2))).endswith("a patch of a ZCA has a centre, so its side is odd, got 2")
    assert error(put(patch=1.5)).endswith("must hold 1 whole number(s), got 1 of float64")
    assert error(put(image_shape=np.array([3, 0, 4]))).endswith("its image_shape is (3, 0, 4)")
    assert error(put(eps=np.nan)).endswith("has values that are not finite")
    path.write_bytes(hdf5_file.content(lambda file: None))
    with pytest.raises(DataError, match='it has no dataset "image_shape"'):
        read_whitening(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        read_whitening(path)
    with pytest.raises(DataError, match="does not exist"):
        read_whitening(tmp_path / "none.h5")
