"""Fillers: distributions and errors."""

import numpy as np
import pytest

from minicaffe.core.blob import Blob
from minicaffe.core.fillers import FILLERS, fill
from minicaffe.errors import LayerError
from minicaffe.proto import caffe_pb2, parse_text


def filled(text, shape=(50, 40, 5, 5)):
    blob = Blob(shape)
    fill(blob, parse_text(text, caffe_pb2.FillerParameter()), np.random.default_rng(0))
    return blob.data


def test_constant():
    assert (filled("value: 2.5") == 2.5).all()


def test_uniform():
    x = filled("type: 'uniform' min: -1 max: 3")
    assert -1 <= x.min() < -0.99 and 2.99 < x.max() <= 3 and abs(x.mean() - 1) < 0.02


def test_gaussian():
    x = filled("type: 'gaussian' mean: 2 std: 0.5")
    assert abs(x.mean() - 2) < 0.01 and abs(x.std() - 0.5) < 0.01


def test_sparse_gaussian_keeps_a_fraction():
    x = filled("type: 'gaussian' std: 1 sparse: 5")
    assert abs((x != 0).mean() - 5 / 50) < 0.01


def test_gaussian_unitball():
    x = filled("type: 'gaussian_unitball'", (20, 30))
    np.testing.assert_allclose(np.square(x).sum(1), 1, rtol=1e-5)
    assert abs(x.mean()) < 0.02 and x.min() < -0.2 and x.max() > 0.2


def test_positive_unitball():
    x = filled("type: 'positive_unitball'")
    np.testing.assert_allclose(x.reshape(50, -1).sum(1), 1, rtol=1e-5)
    assert (x >= 0).all()


@pytest.mark.parametrize("norm, n", [("FAN_IN", 1000), ("FAN_OUT", 1250), ("AVERAGE", 1125)])
def test_xavier_and_msra(norm, n):
    """n is count / shape[0] (FAN_IN), count / shape[1] (FAN_OUT), or their mean."""
    x = filled(f"type: 'xavier' variance_norm: {norm}")
    assert abs(x).max() == pytest.approx(np.sqrt(3 / n), rel=1e-3)
    assert filled(f"type: 'msra' variance_norm: {norm}").std() == pytest.approx(np.sqrt(2 / n), rel=0.02)


def test_taylor():
    """As msra, for an activation of slope alpha beta below 0."""
    assert filled("type: 'taylor'").std() == pytest.approx(np.sqrt(2 / 1000 / 2), rel=0.02)
    x = filled("type: 'taylor' alpha: 0.5 beta: 3 variance_norm: FAN_OUT")
    assert x.std() == pytest.approx(np.sqrt(2 / 1250 / 3.25), rel=0.02) and abs(x.mean()) < 1e-3


def test_bilinear_interpolates():
    expected = np.outer([0.25, 0.75, 0.75, 0.25], [0.25, 0.75, 0.75, 0.25])
    np.testing.assert_allclose(filled("type: 'bilinear'", (2, 1, 4, 4))[1, 0], expected)
    with pytest.raises(LayerError, match="square 4-D"):
        filled("type: 'bilinear'", (2, 1, 4, 3))


def test_diagonal_scales_channels():
    """FlowNet 2.0's: a convolution by it gives each channel's mean over the kernel, times its value."""
    weight = filled("type: 'diagonal' diag_val: 3 diag_val: -2", (4, 3, 1, 2))
    expected = np.zeros((4, 3, 1, 2))
    expected[0, 0], expected[1, 1], expected[2, 2] = 1.5, -1, 0.5
    np.testing.assert_array_equal(weight, expected)
    np.testing.assert_array_equal(filled("type: 'diagonal' diag_val: [3, 4]", (1, 2)), [[3, 0]])
    with pytest.raises(LayerError, match=r"needs a weight \(N, C, ...\), got \(3,\)"):
        filled("type: 'diagonal'", (3,))


def test_unknown_fillers_tell_the_nearest():
    with pytest.raises(LayerError, match='unknown filler "gausian" .did you mean "gaussian"'):
        filled("type: 'gausian'")


def test_all_of_the_originals_are_there():
    of_master = {"constant", "uniform", "gaussian", "positive_unitball", "xavier", "msra", "bilinear"}
    assert set(FILLERS) == of_master | {"diagonal", "taylor", "gaussian_unitball"}


@pytest.mark.parametrize(
    "text",
    [
        "type: 'uniform' min: 1 max: 0", "type: 'uniform' max: inf", "type: 'uniform' min: nan",
        "type: 'gaussian' std: -1", "type: 'gaussian' std: nan", "type: 'gaussian' mean: inf",
    ],
)  # fmt: skip
def test_distributions_that_do_not_exist_are_refused(text):
    with pytest.raises(LayerError, match="needs (a )?finite"):
        filled(text)


@pytest.mark.parametrize("kind", sorted(set(FILLERS) - {"bilinear", "diagonal"}))
def test_blobs_without_numbers_and_scalars(kind):
    assert filled(f"type: '{kind}' sparse: 1", (0, 3)).shape == (0, 3)
    assert filled(f"type: '{kind}' sparse: 1", ()).shape == ()
