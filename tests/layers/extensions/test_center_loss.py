"""CenterLoss."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, labels, normal, run_layer

LOSS = "type: 'CenterLoss' center_loss_param { num_output: 4 center_filler { type: 'gaussian' } }"


class TestProperties(LayerProperties):
    cases = [
        Case(text, [(6, 3), (6,)], [normal, labels(4)], gradient=[0], params=False)
        for text in (LOSS, LOSS.replace("num_output", "distance_type: 'L1' num_output"))
    ]


def test_values_and_the_step_of_the_centres(engine):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((5, 3)), np.array([1.0, 3.0, 1.0, 1.0, 0.0])
    layer, bottom, top = run_layer(LOSS, x, t, dtype=np.float32)
    centres = layer.blobs[0].data.copy()
    np.testing.assert_allclose(
        top[0].data, sum(((x[i] - centres[int(t[i])]) ** 2).sum() for i in range(5)) / 10, rtol=1e-5
    )
    layer.backward(top, [True, False], bottom)
    for k in range(4):
        own = [centres[k] - x[i] for i in range(5) if t[i] == k]
        np.testing.assert_allclose(layer.blobs[0].diff[k], np.sum(own, axis=0) / (1 + len(own)), rtol=1e-4, atol=1e-6)


def test_a_label_out_of_range_names_label_and_classes(engine):
    with pytest.raises(
        LayerError, match="^CenterLoss layer 'layer': label 4 is out of range: there are 4 classes, 0 to 3"
    ):
        layer, _, top = run_layer(LOSS, np.zeros((1, 3)), [4.0], dtype=np.float32)
        layer.loss(top)


def test_the_number_of_classes_must_be_given():
    with pytest.raises(LayerError, match="num_output, the number of classes, must be given"):
        run_layer("type: 'CenterLoss'", np.zeros((1, 3)), [0.0])


def test_l1_takes_signs(engine):
    x, t = np.array([[1.0, -2.0], [3.0, 0.5]]), [1.0, 1.0]
    text = "type: 'CenterLoss' center_loss_param { num_output: 2 distance_type: 'L1' center_filler { value: 1 } }"
    layer, bottom, top = run_layer(text + " loss_weight: 2", x, t, dtype=np.float32)
    layer.backward(top, [True, False], bottom)
    np.testing.assert_allclose(top[0].data, (3 + 2 + 0.5) / 2)
    np.testing.assert_allclose(bottom[0].diff, [[0, -1], [1, -1]])
    np.testing.assert_allclose(layer.blobs[0].diff, [[0, 0], [-1 / 3, 2 / 3]], rtol=1e-6)


def test_another_distance_is_refused():
    with pytest.raises(LayerError, match='distance_type must be "L1" or "L2", got "L3"'):
        run_layer(LOSS.replace("num_output", "distance_type: 'L3' num_output"), np.zeros((1, 3)), [0.0])
