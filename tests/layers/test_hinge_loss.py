"""HingeLoss."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, labels, normal, run_layer


def hinge(text=""):
    return f"type: 'HingeLoss' hinge_loss_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(hinge(), [(4, 3), (4,)], [normal, labels(3)], gradient=[0]),
        Case(hinge("norm: L2"), [(4, 3, 1, 1), (4, 1, 1, 1)], [normal, labels(3)], gradient=[0]),
    ]


@pytest.mark.parametrize(("norm", "p"), [("L1", 1), ("L2", 2)])
def test_values_against_a_loop(norm, p):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((5, 4)), rng.integers(0, 4, 5).astype(float)
    total = sum(max(0, 1 - (1 if k == t[n] else -1) * x[n, k]) ** p for n, k in np.ndindex(5, 4))
    _, _, top = run_layer(hinge(f"norm: {norm}"), x, t)
    np.testing.assert_allclose(top[0].data, total / 5)


def test_a_label_out_of_range_names_label_and_classes(engine):
    with pytest.raises(LayerError, match="label 4 is out of range: there are 3 classes"):
        layer, _, top = run_layer(hinge(), np.zeros((2, 3)), [1.0, 4.0], dtype=np.float32)
        layer.loss(top)


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(LayerError, match=r"bottom 1 must hold one label for each of the 2 samples, got \(2, 3\)"):
        run_layer(hinge(), np.zeros((2, 3)), np.zeros((2, 3)))


def test_a_scalar_is_refused():
    with pytest.raises(LayerError, match=r"bottom 0 must be \(N, \.\.\.\), got a scalar"):
        run_layer(hinge(), np.zeros(()), np.zeros(()))
