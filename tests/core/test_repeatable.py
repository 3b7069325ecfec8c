"""A layer that may be run again in TEST, to compute lost values, gives the same again and changes nothing else."""

import numpy as np
import pytest

from helpers.augmented import ALL, EIGVEC, augmentation
from helpers.layer_cases import all_cases
from minicaffe.core.recompute import repeatable
from minicaffe.proto import TEST
from minicaffe.testing import NUMPY, Case, build_layer, labels, normal, positive

MORE = {
    "dropout": Case("type: 'Dropout' dropout_param { sample_weights_test: true }", [(4, 9)]),
    "drawn": Case(
        augmentation(f"crop_width: 4 crop_height: 3 augment_during_test: true {ALL} {EIGVEC}"),
        [(2, 3, 5, 6)],
    ),
    "rows": Case(
        augmentation(f"crop_width: 4 crop_height: 3 augment_during_test: true {ALL}", "GenerateAugmentationParameters"),
        [(2, 3, 5, 6)],
    ),
    "accuracy": Case("type: 'SegAccuracy' seg_accuracy_param { reset: false }", [(2, 3, 4, 4), (2, 1, 4, 4)],
                     [normal, labels(3)]),
    "running mean": Case("type: 'GeneralContrastiveLoss' general_contrastive_loss_param { add_intra_mae: true }",
                         [(4, 6), (4,)], [positive, labels(6)]),
}  # fmt: skip


def twice(case):
    """What a layer gives and keeps in two passes over the same bottoms; None if it may not be run again."""
    with NUMPY.chosen():
        layer, bottom, top = build_layer(case.text, *case.arrays(), num_top=case.num_top, phase=TEST, dtype=np.float32)
        if not repeatable(layer):
            return None
        shown = []
        for _ in range(2):
            layer.forward(bottom, top)
            values = [blob.read_data().copy() for blob in (*top, *layer.blobs)]
            shown.append((values, layer.state()))
        return shown


def test_layers_that_may_be_run_again():
    found = 0
    for name, case in all_cases():
        shown = twice(case)
        if shown is not None:
            found += 1
            (first, before), (second, after) = shown
            assert before == after, name
            for a, b in zip(first, second):
                np.testing.assert_array_equal(a, b, err_msg=name)
    assert found > 300


@pytest.mark.parametrize("name", MORE)
def test_layers_that_change_from_pass_to_pass(name):
    assert twice(MORE[name]) is None
