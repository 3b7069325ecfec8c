"""The base of losses: normalization, labels, loss weights."""

import numpy as np
import pytest

from helpers.engines import of_layer
from minicaffe.core.blob import Blob
from minicaffe.cuda.memory import copy_to_device, copy_to_host
from minicaffe.errors import LayerError
from minicaffe.layers.shared.loss import DeviceTerms
from minicaffe.testing import run_layer

LOSSES = ["SoftmaxWithLoss", "HingeLoss", "SigmoidCrossEntropyLoss", "EuclideanLoss", "MultinomialLogisticLoss"]


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.layers(name)) for name in LOSSES])
def test_the_first_top_counts_once_unless_told_otherwise(name, engine):
    values = np.full((2, 3), 0.25), np.zeros((2, 3) if name[:3] in ("Sig", "Euc") else 2)
    plain, _, top = run_layer(f"type: '{name}'", *values, dtype=np.float32)
    assert plain.loss(top) == pytest.approx(float(top[0].data)) and plain.loss(top) > 0
    weighted, _, top = run_layer(f"type: '{name}' loss_weight: 3", *values, dtype=np.float32)
    assert weighted.loss(top) == pytest.approx(3 * float(top[0].data))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.layers(name)) for name in LOSSES])
def test_gradients_scale_with_the_loss_weight(name, engine):
    values = np.full((2, 3), 0.25), np.zeros((2, 3) if name[:3] in ("Sig", "Euc") else 2)
    diffs = []
    for weight in (1, 2.5):
        layer, bottom, top = run_layer(f"type: '{name}' loss_weight: {weight}", *values, dtype=np.float32)
        layer.backward(top, [True, False], bottom)
        diffs.append(bottom[0].diff.copy())
    np.testing.assert_allclose(diffs[1], 2.5 * diffs[0], rtol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("n", [1, 300, 8192, 8193, 20000])
@pytest.mark.parametrize("fixed", [0, 7.5])
def test_device_terms_are_summed_and_divided(n, fixed, cuda_device):
    terms, counted = np.random.default_rng(0).random((2, n), np.float32)
    counted = np.floor(2 * counted)
    device_terms, out = DeviceTerms(np.dtype(np.float32)), Blob(())
    for pointer, values in zip(device_terms.pointers(n), (terms, counted)):
        copy_to_device(pointer, values)
    device_terms.finish(n, fixed, out.mutable_gpu_data())
    np.testing.assert_allclose(out.data, terms.sum(dtype=float) / (fixed or max(counted.sum(), 1)), rtol=1e-5)
    divisor = copy_to_host(np.empty(1, np.float32), device_terms.divisor)
    assert divisor[0] == (fixed or max(counted.sum(), 1))


DIVERGED = [
    ("type: 'SoftmaxWithLoss'", [np.zeros(2)]),
    ("type: 'HingeLoss'", [np.zeros(2)]),
    ("type: 'HingeLoss' hinge_loss_param { norm: L2 }", [np.zeros(2)]),
    ("type: 'MultinomialLogisticLoss'", [np.zeros(2)]),
    ("type: 'InfogainLoss'", [np.zeros(2), np.eye(3)]),
    ("type: 'SigmoidCrossEntropyLoss'", [np.zeros((2, 3))]),
    ("type: 'EuclideanLoss'", [np.zeros((2, 3))]),
    ("type: 'SmoothL1Loss'", [np.zeros((2, 3))]),
    ("type: 'SmoothL1LossOHEM'", [np.zeros((2, 3))]),
    ("type: 'SoftmaxWithLossOHEM'", [np.zeros(2)]),
    ("type: 'ContrastiveLoss'", [np.zeros((2, 3)), np.zeros(2)]),
    ("type: 'ContrastiveLoss' contrastive_loss_param { legacy_version: true }", [np.zeros((2, 3)), np.zeros(2)]),
    ("type: 'CenterLoss' center_loss_param { num_output: 3 }", [np.zeros(2)]),
]


@pytest.mark.parametrize(("text", "others"), [of_layer(*each) for each in DIVERGED])
def test_a_diverged_net_shows_it_in_every_loss(text, others, engine):
    """nan scores give a nan loss and nan gradients, also where losses compare numbers."""
    layer, bottom, top = run_layer(text, np.full((2, 3), np.nan), *others, dtype=np.float32)
    layer.backward(top, [True] + [False] * len(others), bottom)
    assert np.isnan(top[0].data)
    assert np.isnan(bottom[0].diff[:, 0]).all()


def test_batches_must_agree():
    with pytest.raises(
        LayerError, match=r"^SigmoidCrossEntropyLoss layer 'layer': bottoms 0 and 1 must agree in axis 0"
    ):
        run_layer("type: 'SigmoidCrossEntropyLoss'", np.zeros((2, 3)), np.zeros((3, 2)))
