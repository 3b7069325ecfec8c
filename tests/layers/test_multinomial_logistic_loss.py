"""MultinomialLogisticLoss."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, labels, positive, run_layer

LOSS = "type: 'MultinomialLogisticLoss'"


class TestProperties(LayerProperties):
    cases = [Case(LOSS, [(4, 3), (4,)], [positive, labels(3)], gradient=[0])]


def test_values():
    _, _, top = run_layer(LOSS, [[0.5, 0.5], [0.2, 0.8], [0.0, 1.0]], [0.0, 1.0, 0.0])
    np.testing.assert_allclose(top[0].data, -(np.log(0.5) + np.log(0.8) + np.log(1e-20)) / 3)


def test_a_label_out_of_range_names_label_and_classes(engine):
    with pytest.raises(LayerError, match="label 2 is out of range: there are 2 classes, 0 to 1"):
        layer, _, top = run_layer(LOSS, np.ones((1, 2)), [2.0], dtype=np.float32)
        layer.loss(top)


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(LayerError, match=r"bottom 1 must hold one label for each of the 2 samples, got \(2, 2\)"):
        run_layer(LOSS, np.ones((2, 3)), np.zeros((2, 2)))
