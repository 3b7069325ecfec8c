"""Layers of forks on blobs without numbers: the loss of no sample is 0; what cannot be computed is refused by name."""

import numpy as np
import pytest

from helpers.engines import of_layer, on
from minicaffe.errors import LayerError
from minicaffe.testing import NUMPY, run_layer

MAP_LOSS = "detection_loss_param { cls_num: 2 field_w: 8 field_h: 8 downsample_rate: 4 }"
CELLS = "{ side: 2 num_class: 3 num_object: 2 }"
NO_SAMPLES = [
    ("type: 'TripletLoss'", [(0, 4)] * 3),
    ("type: 'LiftedStructSimilaritySoftmaxLoss'", [(0, 4), (0,)]),
    ("type: 'GeneralTripletLoss' general_triplet_loss_param { hardest_only: true }", [(0, 4), (0,)]),
    (
        "type: 'GeneralContrastiveLoss' general_contrastive_loss_param { max_negative_only: true add_intra_mae: true }",
        [(0, 4), (0,)],
    ),
    (f"type: 'DetectionLoss' detection_loss_param {CELLS}", [(0, 52), (0, 28)]),
    ("type: 'YoloSeg'", [(0, 2, 3, 4), (0, 2, 3, 4), (0, 2)]),
    ("type: 'L1Loss' l1_loss_param { l2_per_location: true }", [(0, 3, 2, 2)] * 2),
]
ON_HOST = [
    ("type: 'MalisLoss'", [(0, 2, 4, 4), (0, 2, 4, 4), (0, 1, 4, 4)]),
    (f"type: 'MapDetectionLoss' {MAP_LOSS}", [(2, 6, 0, 4), (2, 6, 0, 4)]),
    (f"type: 'EvalDetection' eval_detection_param {CELLS}", [(0, 52), (0, 28)]),
    ("type: 'SegmentationEvaluate' segmentation_evaluate_param { num_classes: 3 }", [(0, 3, 8, 9)] * 2),
]
BOXES = "type: 'RegionLoss' region_loss_param { num_class: 1 num: 1 biases: 1 biases: 1 }"
SIZES = "crop_width: 2 crop_height: 2"
LPQ = "p: 2 q: 1 l2_prescale_by_channels: true"
REFUSED = [
    ("type: 'Accum'", [(), (2, 3, 4, 4)], "bottom 0 must be"),
    ("type: 'Correlation' correlation_param { kernel_size: 1 max_displacement: 0 }", [(2, 0, 4, 4)] * 2, "channels"),
    ("type: 'DenseBlock' denseblock_param { numTransition: 1 growthRate: 2 }", [(2, 0, 4, 4)], "with channels"),
    ("type: 'L1Loss' l1_loss_param { l2_per_location: true l2_prescale_by_channels: true }", [()], "bottom 0 must be"),
    (f"type: 'LpqLoss' lpq_loss_param {{ {LPQ} }}", [(2, 0, 3)], "bottom 0 must be"),
    ("type: 'MarginInnerProduct' margin_inner_product_param { num_output: 3 }", [(2, 0), (2,)], "no inputs"),
    ("type: 'MultiStageMeanfield' multi_stage_meanfield_param { num_iterations: 2 }", [()] * 3, "bottoms must be"),
    ("type: 'GeneralTripletLoss'", [(2, 0), (2,)], "at least one centre"),
    (BOXES, [(2, 6, 0, 4), (2, 1, 3, 5)], "bottom 0 must be"),
    (
        f"type: 'FlowAugmentation' augmentation_param {{ {SIZES} }}",
        [(1, 2, 0, 4), (1, 42), (1, 42)],
        "bottom 0 must be",
    ),
]


def run(text, shapes):
    layer, bottom, top = run_layer(f"name: 'empty' {text}", *map(np.zeros, shapes), dtype=np.float32)
    top[0].diff[...] = 1
    layer.backward(top, [layer.allow_force_backward(i) for i in range(len(bottom))], bottom)
    return top[0].read_data()


@pytest.mark.parametrize(("text", "shapes"), [of_layer(*each) for each in NO_SAMPLES])
def test_the_loss_of_no_sample_is_0(text, shapes, engine):
    assert run(text, shapes) == 0


@on(NUMPY)
@pytest.mark.parametrize(("text", "shapes"), ON_HOST)
def test_nothing_is_counted_where_nothing_is_given(text, shapes, engine):
    assert not run(text, shapes).any()


@on(NUMPY)
@pytest.mark.parametrize(("text", "shapes", "words"), REFUSED)
def test_refused_by_name(text, shapes, words, engine):
    with pytest.raises(LayerError, match=f"layer 'empty': .*{words}"):
        run(text, shapes)


@on(NUMPY)
def test_other_sizes_of_no_sample(engine):
    text = "type: 'SegmentationEvaluate' segmentation_evaluate_param { num_classes: 3 }"
    assert (run(text, [(0, 3, 4, 5), (0, 3, 8, 9)]) == -1).all()


@on(NUMPY)
def test_boxes_without_a_row_for_their_number(engine):
    text = "type: 'DetectNetTransformation' detectnet_groundtruth_param { stride: 4 image_size_x: 8 image_size_y: 8 }"
    with pytest.raises(LayerError, match="with at least one row"):
        run_layer(text, np.zeros((1, 3, 8, 8)), np.zeros((1, 1, 0, 16)), num_top=2)


@on(NUMPY)
def test_pictures_with_three_axes(engine):
    text = f"augmentation_param {{ {SIZES} }} coeff_schedule_param {{ half_life: 1 }}"
    with pytest.raises(LayerError, match="bottom 1 must be pictures"):
        run_layer(f"type: 'GenerateAugmentationParameters' {text}", *map(np.zeros, [(2, 42), (2, 3, 4), (2, 3, 2, 2)]))


@on(NUMPY)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e9])
def test_coefficients_that_are_not_finite_are_refused(bad, engine):
    text = f"name: 'empty' type: 'FlowAugmentation' augmentation_param {{ {SIZES} }}"
    flow, row = np.zeros((1, 2, 4, 4)), np.zeros((1, 42))
    with pytest.raises(LayerError, match="layer 'empty': bottom 2 has coefficients"):
        run_layer(text, flow, row, row + bad)


@on(NUMPY)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type: 'SeLuDropout' selu_dropout_param { dropout_ratio: 0.2 }", "dropout_param"),
        ("type: 'EltwiseAffine'", "scale_param"),
    ],
)
def test_the_messages_of_the_base_type_are_not_written(text, message, engine):
    layer, *_ = run_layer(text, np.ones((2, 3)))
    assert not layer.layer_param.HasField(message)


@on(NUMPY)
def test_the_scale_by_channels_follows_the_shape(engine):
    text = "type: 'L1Loss' l1_loss_param { l2_per_location: true l2_prescale_by_channels: true epsilon: 0 power: 1 }"
    layer, bottom, top = run_layer(text, np.ones((1, 2, 3)))
    bottom[0].reshape(1, 4, 3)
    bottom[0].data = 1
    layer.forward(bottom, top)
    assert top[0].data == 3
