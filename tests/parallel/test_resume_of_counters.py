"""What layers count or average goes on at ranks that join a training, as at those that were there."""

import numpy as np
import pytest

from minicaffe.testing import NUMPY, build_layer

SCORES = [[0.3, -0.2, 0.1, 0.8], [0.5, 0.4, -0.6, 0.2]]
LABELS = [1.0, 3.0]
#: layers, with the number of tops and their bottoms
LAYERS = {
    "passes": ("type: 'GradientScaler' gradient_scaler_param { max_iter: 9 }", 1, [SCORES]),
    "schedule": ("type: 'MarginInnerProduct' margin_inner_product_param { num_output: 4 iteration: 2 "
                 "weight_filler { type: 'xavier' } }", 1, [SCORES, LABELS]),
    "iteration": ("type: 'LabelSpecificAdd' label_specific_add_param { bias_base: -0.5 bias_gamma: 0.3 bias_min: -1 }",
                  2, [SCORES, LABELS]),
    "scale": ("type: 'AdaCosAddmScale' adacos_add_m_scale_param { num_classes: 4 }", 1, [SCORES, LABELS]),
    "mean": ("type: 'GeneralContrastiveLoss' general_contrastive_loss_param { add_intra_mae: true }", 2,
             [SCORES, LABELS]),
}  # fmt: skip


def without_stream(state):
    return {key: value for key, value in state.items() if key != "rng"}


@pytest.mark.parametrize("name", LAYERS)
def test_a_rank_that_joins_has_the_counters_of_the_others(name):
    text, tops, bottoms = LAYERS[name]
    with NUMPY.chosen():
        layer, bottom, top = build_layer(text, *map(np.array, bottoms), num_top=tops)
        for _ in range(4):
            layer.forward(bottom, top)
        joined, *_ = build_layer(text, *map(np.array, bottoms), num_top=tops)
        assert without_stream(joined.state()) != without_stream(layer.state())
        joined.load_common_state(layer.state())
        assert without_stream(joined.state()) == without_stream(layer.state())
