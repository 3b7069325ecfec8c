"""Gaussian filters over points with many features, by a permutohedral lattice: MultiStageMeanfield, DenseCRF."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.cuda import ops
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.errors import LayerError

_MOST_CELLS = 2**62  #: numbers of vertices are int64


class Lattice:
    """The filter y_p = sum_q k(p, q) x_q / sum_q k(p, q), with k near exp(-|f_p - f_q|^2 / 2), over P points.

    Space is divided into simplices.  A value goes to the d + 1 vertices of its point's simplex by barycentric weights
    (B x), is blurred by 1/2 1 1/2 along each of d + 1 directions, and read from the vertices: K = B' H_d ... H_0 B.  It
    is a linear map, the same for each channel; as the H do not commute where vertices are missing, its adjoint applies
    them in reverse order.

    features: (P, d).  dtype: of the values to filter.  LayerError for features that are too far apart.
    Source: Adams, Baek and Davis, Fast high-dimensional filtering using the permutohedral lattice, 2010.
    """

    def __init__(self, features: np.ndarray, dtype: np.typing.DTypeLike) -> None:
        self.points, dimensions = features.shape
        self.corners = dimensions + 1
        self._dtype = np.dtype(dtype)
        keys, weights = _simplices(np.asarray(features, np.float64))
        codes, shifts = _numbered(keys)
        known, inverse = np.unique(codes.reshape(-1), return_inverse=True)
        self.vertices = len(known)
        self._vertex = inverse.reshape(codes.shape).astype(np.int32)  # (P, d + 1)
        self._weights = weights.astype(self._dtype)  # (P, d + 1)
        self._neighbours = _found(known, shifts)  # (d + 1, 2, vertices)
        self._entries = np.argsort(inverse, kind="stable").astype(np.int32)  # of (P, d + 1), vertex by vertex
        counts = np.bincount(inverse.reshape(-1), minlength=self.vertices)
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)  # of the entries of each vertex
        self._norms = np.ones(self.points, self._dtype)
        self._norms = 1 / self.filter(self._norms[None])[0]
        self._device: list[DeviceBuffer] = []

    def filter(self, x: np.ndarray) -> np.ndarray:
        """Return the filtered values of x (channels, P)."""
        return self._norms * self._apply(x, range(self.corners))

    def adjoint(self, dy: np.ndarray) -> np.ndarray:
        """Return the gradient with respect to x (channels, P), from that of `filter(x)`."""
        return self._apply(self._norms * dy, reversed(range(self.corners)))

    def _apply(self, x, directions):
        if not x.size:
            return np.zeros_like(x)
        shares = x[:, self._entries // self.corners] * self._weights.reshape(-1)[self._entries]
        values = np.zeros((len(x), self.vertices + 1), self._dtype)  # the last one is 0, for missing neighbours
        values[:, :-1] = np.add.reduceat(shares, self._starts[:-1], axis=1)
        for direction in directions:
            before, behind = self._neighbours[direction]
            values[:, :-1] += 0.5 * (values[:, before] + values[:, behind])
        return sum(values[:, self._vertex[:, c]] * self._weights[:, c] for c in range(self.corners))

    # -- on the device ---------------------------------------------------------------------------------------------

    def filter_gpu(self, channels: int, x: int, y: int, factor: float = 1.0, add: bool = False) -> None:
        """Compute y = factor * filter(x), or add that to y; device pointers to (channels, P)."""
        self._apply_gpu(channels, x, y, range(self.corners), factor, add, scaled_before=False)

    def adjoint_gpu(self, channels: int, dy: int, dx: int, add: bool = False) -> None:
        """Compute dx = adjoint(dy), or add that to dx; device pointers to (channels, P)."""
        self._apply_gpu(channels, dy, dx, reversed(range(self.corners)), 1.0, add, scaled_before=True)

    def _apply_gpu(self, channels, x, y, directions, factor, add, scaled_before):
        n, size = channels * self.vertices, channels * self.vertices * self._dtype.itemsize
        if not channels * self.points:
            return
        weights, vertex, neighbours, entries, starts, norms = self._uploaded()
        before, behind = (norms, 0) if scaled_before else (0, norms)
        with ops.scratch(2 * size) as buffer:
            values, others = buffer.ptr, buffer.ptr + size
            sizes = self.points, self.vertices, self.corners
            kernel("permutohedral", "splat", self._dtype)(n, *sizes, x, before, starts, entries, weights, values)
            for direction in directions:
                kernel("permutohedral", "blur", self._dtype)(n, self.vertices, direction, neighbours, values, others)
                values, others = others, values
            arguments = (vertex, weights, behind, values, factor, add, y)
            kernel("permutohedral", "slice", self._dtype)(channels * self.points, *sizes, *arguments)

    def _uploaded(self) -> list[DeviceBuffer]:
        """Return the tables on the device; they are copied there once."""
        if not self._device:
            tables = (self._weights, self._vertex, self._neighbours, self._entries, self._starts, self._norms)
            self._device = [DeviceBuffer(table.nbytes) for table in tables]
            for buffer, table in zip(self._device, tables):
                buffer.from_host(table)
        return self._device


def pixel_features(
    size: tuple[int, int], xy_width: float, image: np.ndarray | None = None, width: float = 1.0
) -> np.ndarray:
    """Return for each pixel (column, row) / xy_width and, with an image (D, H, W), its values / width."""
    rows, columns = np.indices(size).reshape(2, -1)
    features = np.stack([columns, rows], 1) / xy_width
    if image is None:
        return features
    if not np.isfinite(image).all():
        raise LayerError("the image has values that are not finite")
    return np.concatenate([features, image.reshape(len(image), len(features)).T / np.float64(width)], 1)


def _simplices(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices of each point's simplex, (P, d + 1, d) whole numbers, and their weights (P, d + 1).

    Points are embedded into the hyperplane of d + 1 coordinates with sum 0.  Its vertices have coordinates that are
    equal modulo d + 1; the remainder numbers the vertices of a simplex.  The last coordinate follows from the others.
    """
    count, d = features.shape
    axis = np.arange(1, d + 1)
    scaled = features * (math.sqrt(2 / 3) * (d + 1) / np.sqrt(axis * (axis + 1)))  # blurs have unit variance
    place = np.zeros((count, d + 1))
    place[:, :-1] = np.cumsum(scaled[:, ::-1], axis=1)[:, ::-1]
    place[:, 1:] -= axis * scaled
    rounded = np.rint(place / (d + 1))
    excess = rounded.sum(1, keepdims=True)  # how far the nearest vertex of remainder 0 is off the hyperplane
    order = np.argsort(rounded * (d + 1) - place, axis=1, kind="stable")
    rank = np.empty((count, d + 1), np.int64)
    np.put_along_axis(rank, order, np.arange(d + 1)[None], axis=1)
    rank += excess.astype(np.int64)
    back = (rank < 0).astype(np.int64) - (rank > d)
    rank += back * (d + 1)
    nearest = (rounded.astype(np.int64) + back) * (d + 1)
    distances = np.empty((count, d + 1))
    np.put_along_axis(distances, d - rank, (place - nearest) / (d + 1), axis=1)
    weights = distances - np.roll(distances, 1, axis=1)
    weights[:, 0] += 1
    remainder = np.arange(d + 1)[:, None]
    keys = nearest[:, None, :-1] + remainder - (d + 1) * (rank[:, None, :-1] > d - remainder)
    return keys, weights


def _numbered(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return one number for each key (P, d + 1, d), and how it changes to the neighbours, (d + 1 directions, 2)."""
    d = keys.shape[2]
    low = keys.min((0, 1), initial=0) - (d + 1)
    spans = [int(span) for span in keys.max((0, 1), initial=0) - low + d + 2]
    if math.prod(spans) > _MOST_CELLS:
        raise LayerError(f"features lie too far apart for a lattice, over {' x '.join(map(str, spans))} cells")
    strides = np.array([math.prod(spans[i + 1 :]) for i in range(d)], np.int64)
    steps = np.append((d + 1) * strides, 0) - strides.sum()
    return (keys - low) @ strides, np.stack([steps, -steps], 1)


def _found(known: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Return the index of each number + shift among the sorted numbers `known`, their count where it is missing."""
    wanted = known + shifts[..., None]
    index = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[index] == wanted, index, len(known)).astype(np.int32)
