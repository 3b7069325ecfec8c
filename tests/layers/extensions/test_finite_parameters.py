"""Parameters that are not finite, or that no formula can use, are refused by a message that names the layer."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import build_layer, run_layer

GRID = "stride: 4 image_size_x: 8 image_size_y: 8"
MARGIN = "margin_inner_product_param { num_output: 2"
PICTURES = [(1, 3, 8, 8), (1, 1, 2, 16)]
REFUSED = [
    ("type: 'CosinAddm' cosin_add_m_param { m: inf }", [(2, 3), (2,)], "m must be finite, got inf"),
    (
        f"type: 'MarginInnerProduct' {MARGIN} gamma: -1 }}",
        [(2, 3), (2,)],
        "gamma must be finite and at least 0, got -1",
    ),
    ("type: 'ImResize' imresize_param { factor: nan }", [(1, 1, 4, 4)], "factor, start_scale and scale_gap must be"),
    (
        "type: 'SegmentationEvaluate' segmentation_evaluate_param { num_classes: 2 threshold: nan }",
        [(1, 2, 4, 4)] * 2,
        "threshold must be finite, got nan",
    ),
    (
        f"type: 'DetectNetTransformation' detectnet_groundtruth_param {{ {GRID} scale_cvg: nan }}",
        PICTURES,
        "scale_cvg must be finite, got nan",
    ),
    (
        f"type: 'DetectNetTransformation' detectnet_groundtruth_param {{ {GRID} }} "
        "detectnet_augmentation_param { hue_rotation: -1 }",
        PICTURES,
        "hue_rotation must be at least 0, got -1",
    ),
]


@pytest.mark.parametrize(("text", "shapes", "words"), REFUSED)
def test_refused_by_name(text, shapes, words):
    with pytest.raises(LayerError, match=f"layer 'layer': {words}"):
        build_layer(text, *map(np.zeros, shapes), num_top=2 if "DetectNet" in text else 1)


def test_a_bias_without_a_power_is_refused_in_its_iteration():
    fields = "bias_base: -1 bias_gamma: -0.5 bias_power: 0.5 bias_min: -9"
    layer, bottom, top = run_layer(
        f"type: 'LabelSpecificAdd' label_specific_add_param {{ {fields} }}", np.ones((2, 3)), np.zeros(2)
    )
    layer.forward(bottom, top)
    layer.forward(bottom, top)
    with pytest.raises(LayerError, match="1 \\+ bias_gamma iteration is -0.5"):
        layer.forward(bottom, top)
