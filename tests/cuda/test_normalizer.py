"""Normalization of channels with what may follow it, against plain formulas in float64."""

import numpy as np
import pytest

from minicaffe.core.blob import Blob
from minicaffe.layers.shared import normalizer
from minicaffe.layers.shared.normalizer import Followers, Gradients, Joined, Moments, Normalizer

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("thread_order")]

EPS = 1e-5
SHAPES = [(3, 5, 4, 6), (2, 3, 7, 5), (7, 4), (1, 2, 1, 3), (5, 3, 8, 8, 4)]
LENGTH = 60  # of the parts of moments: not a multiple of a sample's places


@pytest.fixture(params=["whole", "parts"], autouse=True)
def launches(request, monkeypatch):
    """Channels by one block each, or in parts."""
    if request.param == "parts":
        monkeypatch.setattr(normalizer, "_MOST_WHOLE", 0)
        monkeypatch.setattr(normalizer, "_PART", 8)
    return request.param


class Case:
    """Values of one shape; a channel is along axis 1."""

    def __init__(self, shape, dtype, slope=None, factors=(1.0, 0.0), scale=True):
        self.shape, self.dtype, self.slope, self.factors = shape, np.dtype(dtype), slope, factors
        rng = np.random.default_rng(0)
        self.along = (1, -1, *[1] * (len(shape) - 2))
        self.x, self.other, self.dy, self.second = (rng.standard_normal(shape) for _ in range(4))
        self.x = self.x * 3 + 50
        self.s, self.b = rng.standard_normal((2, shape[1])) if scale else (np.ones(shape[1]), np.zeros(shape[1]))
        self.axes = tuple(axis for axis in range(len(shape)) if axis != 1)
        self.mean, self.variance = self.x.mean(self.axes), self.x.var(self.axes)
        self.blobs = {}
        for name in ("x", "other", "dy", "second", "s", "b"):
            self.blob(name, getattr(self, name))
        for name in ("y", "inner", "through", "beside", "dx"):
            self.blob(name, np.full(shape, 7))
        for name in ("db", "ds"):
            self.blob(name, np.ones(shape[1]))
        self.followers = Followers(
            self["s"] if scale else 0, self["b"] if scale else 0, slope is not None, slope or 0.0
        )
        self.device = Normalizer(shape[1], EPS, self.dtype, None)

    def blob(self, name, values):
        blob = self.blobs[name] = Blob(np.shape(values), self.dtype)
        blob.data = values

    def __getitem__(self, name):
        return self.blobs[name].mutable_gpu_data()

    def forward(self):
        """(normalized, inner, y) by the formula."""
        mean, variance, s, b = (each.reshape(self.along) for each in (self.mean, self.variance, self.s, self.b))
        normalized = (self.x - mean) / np.sqrt(variance + EPS)
        inner = s * normalized + b
        total = self.factors[0] * inner + self.factors[1] * self.other
        return normalized, inner, total if self.slope is None else np.where(total > 0, total, self.slope * total)

    def backward(self, of_batch=True, second=True):
        """(g, db, ds, inner's gradient after the Scale, dx) by the formula."""
        normalized, _, y = self.forward()
        g = self.dy + self.second if second else self.dy
        g = g if self.slope is None else np.where(y > 0, g, self.slope * g)
        own, deviation = g * self.factors[0], np.sqrt(self.variance + EPS).reshape(self.along)
        s, means = self.s.reshape(self.along), 0
        if of_batch:
            means = own.mean(self.axes, keepdims=True) + normalized * (own * normalized).mean(self.axes, keepdims=True)
        return g, own.sum(self.axes), (own * normalized).sum(self.axes), s * own, s * (own - means) / deviation

    def check(self, **expected):
        tolerance = 1e-9 if self.dtype == np.float64 else 3e-4
        for name, values in expected.items():
            got = self.blobs[name].read_data()
            scale = max(1, np.abs(values).max())
            np.testing.assert_allclose(got, values, rtol=tolerance, atol=tolerance * scale, err_msg=name)


def joined(case):
    if not case.factors[1]:
        return Joined()
    return Joined(*case.factors, case["other"], case["inner"])


def known(case):
    """The moments of parts of LENGTH values, as the kernel of a convolution may leave them."""
    rows = np.moveaxis(case.x, 1, 0).reshape(case.shape[1], -1)
    parts = [rows[:, i : i + LENGTH] for i in range(0, rows.shape[1], LENGTH)]
    values = [[part.mean(1), ((part - part.mean(1, keepdims=True)) ** 2).sum(1)] for part in parts]
    case.blob("moments", np.moveaxis(np.array(values), 2, 0))
    return Moments(case["moments"], len(parts), LENGTH)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "slope, factors, scale",
    [(None, (1.0, 0.0), False), (None, (1.0, 0.0), True), (0.0, (1.0, 0.0), True), (0.1, (-2.0, 0.5), True)],
    ids=["alone", "scale", "relu", "sum"],
)
def test_the_batch_statistics(shape, dtype, slope, factors, scale):
    case = Case(shape, dtype, slope, factors, scale)
    for name, size in (("means", shape[1]), ("variances", shape[1]), ("weight", 1)):
        case.blob(name, np.full(size, 2))
    running = [case["means"], case["variances"], case["weight"]]
    moments = known(case) if scale else None
    case.device.by_batch(shape, case["x"], case["y"], case.followers, joined(case), moments, running, 0.5)
    _, inner, y = case.forward()
    count = case.x.size // shape[1]
    case.check(y=y, means=1 + case.mean, variances=1 + case.variance * count / (count - 1), weight=[2])
    np.testing.assert_allclose(case.device.variance.read_data(), case.variance, rtol=1e-3)
    if factors[1]:
        case.check(inner=inner)

    gradients = dict(db=case["db"], ds=case["ds"], dx=case["dx"])
    if factors[1]:
        gradients |= dict(through=case["through"], beside=case["beside"], top=case["y"])
    case.blobs["x"].data[...] = 0  # the values are kept
    case.device.backward(Gradients(case["dy"], case["second"], **gradients), case.followers, factors)
    g, db, ds, _, dx = case.backward()
    case.check(db=1 + db, ds=1 + ds, dx=dx)
    if factors[1]:
        case.check(through=g, beside=factors[1] * g)


@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
@pytest.mark.parametrize("wanted", ["dx", "ds", "inner"])
def test_gradients_one_by_one(shape, wanted):
    """In place: dy is replaced by what a Scale in place leaves, or by the gradient of x."""
    case = Case(shape, np.float32, 0.0)
    case.device.by_batch(shape, case["x"], case["y"], case.followers)
    targets = {"dx": dict(dx=case["dy"]), "ds": dict(ds=case["ds"]), "inner": dict(inner=case["dy"], db=case["db"])}
    case.device.backward(Gradients(case["dy"], **targets[wanted]), case.followers)
    _, db, ds, inner, dx = case.backward(second=False)
    expected = {"dx": dict(dy=dx), "ds": dict(ds=1 + ds, dy=case.dy), "inner": dict(dy=inner, db=1 + db)}
    case.check(**expected[wanted])


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_stored_statistics(shape, kept):
    case = Case(shape, np.float32, 0.2 if kept else None, scale=kept)
    for name, values in (("means", case.mean * 4), ("variances", case.variance * 4), ("weight", [4])):
        case.blob(name, values)
    stored = [case["means"], case["variances"], case["weight"]]
    case.device.by_stored(shape, case["x"], case["y"], case.followers, stored=stored, kept=kept)
    _, _, y = case.forward()
    case.check(y=y)
    if kept:
        gradients = Gradients(case["dy"], case["second"], db=case["db"], ds=case["ds"], dx=case["dx"])
        case.device.backward(gradients, case.followers)
        _, db, ds, _, dx = case.backward(of_batch=False)
        case.check(db=1 + db, ds=1 + ds, dx=dx)
    else:
        case.device.backward(Gradients(case["dy"], dx=case["dx"]), shape=shape)
        case.check(dx=case.backward(of_batch=False, second=False)[4])


def test_what_was_kept_can_be_copied_and_normalized():
    case = Case(SHAPES[0], np.float32)
    case.device.by_batch(case.shape, case["x"], case["y"])
    other, target = Normalizer(case.shape[1], EPS, case.dtype, None), Blob()
    case.device.copy_to(other)
    other.normalized(target)
    np.testing.assert_allclose(target.read_data(), case.forward()[0], atol=1e-4)
    other.backward(Gradients(case["dy"], dx=case["dx"]))
    case.s[:] = 1
    case.check(dx=case.backward(second=False)[4])


def test_parts_have_whole_packs(launches):
    device = Normalizer(3, EPS, np.dtype(np.float32), None)
    for count in (1, 7, 8, 100, 5000, 10**6):
        parts, length = device._parts(count)
        assert length % 4 == 0 and (parts - 1) * length < count <= parts * length
