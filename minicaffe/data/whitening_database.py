"""Statistics of a database's images for a whitening, in one pass; a copy of a database with its images whitened."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from minicaffe import limits
from minicaffe.data.datum import array_to_datum
from minicaffe.data.db import Database, DatabaseWriter
from minicaffe.data.mean import images_of_one_size
from minicaffe.data.moments import Moments
from minicaffe.data.whitening import Method, Whitening, images_of
from minicaffe.errors import DataError

_BLOCK = 1 << 22  # values of the vectors that are processed at once
_EPSILON = float(np.finfo(np.float64).eps)


def ignore(count: int) -> None:
    """Progress callback that does nothing."""


def compute(database: Database, method: Method, progress: Callable[[int], None] = ignore) -> Whitening:
    """Compute the statistics of a database's images in one pass, and the transform.

    progress: called with the number of images read.
    DataError when images differ in size, are smaller than a patch or have values that are not finite, for fewer than
    two vectors, for a covariance matrix above `limits.max_covariance`, and when eps is 0 and a variance that is
    divided by is 0.
    """
    moments, shape = None, (0, 0, 0)
    for _, _, images in _blocks(database, method, progress):
        if moments is None:
            shape = images.shape[1:]
            moments = _moments(method, shape, database.source)
        moments.add(method.vectors(images))
    if moments is None:
        raise DataError(f"database {database.source} holds no records, so it has no mean")
    if moments.count < 2:
        raise DataError(f"database {database.source} has one vector only, so it has no variance")
    eigenvalues, matrix = map(np.ascontiguousarray, _solve(moments, method, database.source))
    return Whitening(method, shape, moments.count, moments.mean, eigenvalues, matrix)


def write_database(
    whitening: Whitening, database: Database, target: DatabaseWriter, progress: Callable[[int], None] = ignore
) -> None:
    """Transform all images of a database, and write them as Datums of floats under the same keys with their labels.

    progress: called with the number of images written.
    DataError for images that do not fit the whitening, and as for `compute`.
    """
    for keys, labels, images in _blocks(database, whitening.method, progress):
        for key, label, image in zip(keys, labels, whitening.transform(images)):
            target.put(key, array_to_datum(image.astype(np.float32), label).SerializeToString())


def _blocks(
    database: Database, method: Method, progress: Callable[[int], None]
) -> Iterator[tuple[list[bytes], list[int], np.ndarray]]:
    """Yield keys, labels and images (N, C, H, W) of so many records that their vectors have about `_BLOCK` values."""
    keys: list[bytes] = []
    labels: list[int] = []
    images: list[np.ndarray] = []
    most = count = 0
    for key, image, label in images_of_one_size(database, "a whitening"):
        if not most:
            most = max(1, _BLOCK // _values_per_image(method, image.shape, database.source))
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            name = key.decode(errors="replace")
            raise DataError(f"record {name!r} of {database.source} has values that are not finite")
        keys.append(key)
        labels.append(label)
        images.append(image.copy())
        count += 1
        if len(images) == most:
            yield keys, labels, np.stack(images)
            keys, labels, images = [], [], []
        progress(count)
    if images:
        yield keys, labels, np.stack(images)


def _values_per_image(method: Method, shape: tuple[int, ...], source: str) -> int:
    """Return the number of values of an image's vectors; DataError for one smaller than a patch."""
    height, width = method.kernel(shape)
    if height > shape[1] or width > shape[2]:
        raise DataError(f"the images of {source} have shape {shape}: no patch of {height}x{width} pixels fits")
    positions = ((shape[1] - height) // method.stride + 1) * ((shape[2] - width) // method.stride + 1)
    return positions * shape[0] * height * width


# -- the solution ------------------------------------------------------------------------------------------------------


def _moments(method: Method, shape: tuple[int, ...], source: str) -> Moments:
    """Return an empty accumulator; DataError if its covariance would be too large, or has too few components."""
    height, width = method.kernel(shape)
    groups = shape[0] if method.per_channel else 1
    length = shape[0] // groups * height * width
    size, most = 8 * groups * length**2, limits.max_covariance()
    if not method.is_diagonal and size > most:
        raise DataError(
            f"the covariance of {images_of(method)} of shape {shape} in {source} has {groups} x {length} x {length} "
            f"values, {size} bytes, more than the {most} that the environment variable MINICAFFE_MAX_COVARIANCE "
            "allows: whiten patches or each channel by itself"
        )
    if method.components is not None and method.components > length:
        raise DataError(f"a vector of {source} has {length} components, got components {method.components}")
    return Moments(groups, length, method.is_diagonal)


def _solve(moments: Moments, method: Method, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues and matrix of a `Whitening`."""
    covariance = moments.covariance()
    if method.is_diagonal:
        if method.kind == "std":
            _check_deviations(covariance, moments.mean, method, source)
        return covariance, np.ones_like(covariance) if method.kind == "mean" else 1 / np.sqrt(covariance + method.eps)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[:, ::-1], 0), vectors[:, :, ::-1]
    kept = method.components or values.shape[1]
    _check_rank(values, kept, method, source)
    factors = 1 / np.sqrt(values[:, :kept] + method.eps)
    rows = vectors.transpose(0, 2, 1)[:, :kept]
    if method.kind == "zca":
        return values, np.matmul(vectors * factors[:, None, :], rows)
    largest = np.take_along_axis(rows, np.abs(rows).argmax(2)[:, :, None], 2)
    return values, rows * np.sign(largest) * factors[:, :, None]  # the sign of an eigenvector is arbitrary


def _check_deviations(variances: np.ndarray, mean: np.ndarray, method: Method, source: str) -> None:
    constant = int((variances <= (100 * _EPSILON * mean) ** 2).sum())
    if constant and not method.eps:
        raise DataError(
            f"{constant} of {variances.size} values are the same in all images of {source}, so their standard "
            "deviation is 0: give an eps above 0"
        )


def _check_rank(values: np.ndarray, kept: int, method: Method, source: str) -> None:
    """Raise DataError if the covariance has no inverse square root, and eps is 0.  values: (G, d), descending."""
    length = values.shape[1]
    rank = int((values > values[:, :1] * length * _EPSILON).sum(1).min())
    if rank < kept and not method.eps:
        raise DataError(
            f"the covariance of {source} has rank {rank} of {length}, so not all of its eigenvalues can be divided by: "
            f"give an eps above 0, or kind pca with at most {rank} components"
        )
