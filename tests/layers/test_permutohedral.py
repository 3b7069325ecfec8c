"""The permutohedral lattice, against plain loops and against the Gaussian that it is near to."""

import itertools
import math

import numpy as np
import pytest

from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.errors import LayerError
from minicaffe.layers.shared.permutohedral import Lattice, pixel_features
from minicaffe.testing import assert_close


def points(seed, count, d):
    return np.random.default_rng(seed).standard_normal((count, d)) * 1.5


def simplex(feature):
    """The vertices of the simplex around a point, with their weights: by trying all orders of the coordinates."""
    d = len(feature)
    basis = np.zeros((d, d + 1))
    for i in range(d):
        basis[i, : i + 1], basis[i, i + 1] = 1, -(i + 1)
        basis[i] *= math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2))
    place = feature @ basis
    nearest = np.floor(place / (d + 1)) * (d + 1)
    for steps in itertools.product((0, d + 1), repeat=d + 1):  # the vertex of remainder 0
        zero = nearest + steps
        if abs(zero.sum()) > 1e-9:
            continue
        order = np.argsort(-(place - zero), kind="stable")
        away = (place - zero)[order]
        weights = [1 - (away[0] - away[-1]) / (d + 1), *((away[:-1] - away[1:])[::-1] / (d + 1))]
        if min(weights) >= -1e-12:
            break
    vertices = []
    for remainder in range(d + 1):
        vertex = zero + remainder
        vertex[order[d + 1 - remainder :]] -= d + 1
        vertices.append(tuple(int(v) for v in vertex))
    return list(zip(vertices, weights))


def filtered(x, features, reverse=False):
    """Splat, blur and slice with a dictionary of vertices; not normalised."""
    d, simplices = features.shape[1], [simplex(feature) for feature in features]
    values = {vertex: 0.0 for corners in simplices for vertex, _ in corners}
    for value, corners in zip(x, simplices):
        for vertex, weight in corners:
            values[vertex] += weight * value
    for direction in reversed(range(d + 1)) if reverse else range(d + 1):
        step = np.full(d + 1, -1)
        step[direction] = d
        values = {
            v: values[v] + (values.get(tuple(v + step), 0) + values.get(tuple(v - step), 0)) / 2 for v in values
        }  # fmt: skip
    return np.array([sum(weight * values[vertex] for vertex, weight in corners) for corners in simplices])


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_against_plain_loops(d):
    features, x = points(d, 40, d), np.random.default_rng(9).standard_normal((2, 40))
    lattice, norms = Lattice(features, np.float64), filtered(np.ones(40), features)
    for got, row in zip(lattice.filter(x), x):
        assert_close(got, filtered(row, features) / norms, rtol=1e-9, atol=1e-12)
    for got, row in zip(lattice.adjoint(x), x):
        assert_close(got, filtered(row / norms, features, reverse=True), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_adjoint_is_the_transpose(d):
    lattice = Lattice(points(d, 60, d), np.float64)
    matrix, transposed = lattice.filter(np.eye(60)).T, lattice.adjoint(np.eye(60)).T
    np.testing.assert_allclose(transposed, matrix.T, atol=1e-14)
    np.testing.assert_allclose(matrix.sum(1), 1)
    assert matrix.min() >= 0


@pytest.mark.parametrize(("d", "least"), [(1, 0.995), (2, 0.99), (5, 0.95)])
def test_it_is_near_a_gaussian(d, least):
    """Random values, smoothed by both, are correlated; an approximation, more so the more features there are."""
    features, x = points(d, 400, d), np.random.default_rng(1).standard_normal(400)
    gaussian = np.exp(-0.5 * ((features[:, None] - features) ** 2).sum(2))
    y, exact = Lattice(features, np.float64).filter(x[None])[0], gaussian @ x / gaussian.sum(1)
    assert np.corrcoef(y, exact)[0, 1] > least
    if d < 3:
        assert np.abs(y - exact).max() < 0.15 * np.abs(exact).max()


def test_a_constant_stays():
    rng = np.random.default_rng(0)
    features = pixel_features((9, 7), 20, rng.uniform(0, 255, (3, 9, 7)), 13)
    for dtype, error in ((np.float32, 1e-6), (np.float64, 1e-14)):
        y = Lattice(features, dtype).filter(np.full((2, 63), 3, dtype))
        assert y.dtype == dtype and np.abs(y - 3).max() < 10 * error


def test_features_of_pixels():
    image = np.arange(12.0).reshape(2, 2, 3)
    rows = pixel_features((2, 3), 2, image, 4)
    np.testing.assert_array_equal(rows[4], [0.5, 0.5, 1, 10 / 4])
    np.testing.assert_array_equal(pixel_features((2, 3), 2)[5], [1, 0.5])


def test_features_that_a_lattice_cannot_take_are_refused():
    with pytest.raises(LayerError, match="features lie too far apart for a lattice, over "):
        Lattice(np.array([[0.0, 0, 0], [1e7, 1e7, 1e7]]), np.float32)
    with pytest.raises(LayerError, match="the image has values that are not finite"):
        pixel_features((1, 1), 1, np.full((3, 1, 1), np.nan))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_device_gives_the_same(cuda_device, dtype, channels):
    lattice = Lattice(points(0, 70, 3), dtype)
    x = np.random.default_rng(1).standard_normal((channels, 70)).astype(dtype)
    y = np.ones_like(x)
    device = [DeviceBuffer(x.nbytes) for _ in range(2)]
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-14}
    device[0].from_host(x)
    device[1].from_host(y)
    lattice.filter_gpu(channels, device[0].ptr, device[1].ptr, 2.0, add=True)
    np.testing.assert_allclose(device[1].to_host(y), 1 + 2 * lattice.filter(x), **tolerance)
    lattice.adjoint_gpu(channels, device[0].ptr, device[1].ptr)
    np.testing.assert_allclose(device[1].to_host(y), lattice.adjoint(x), **tolerance)
