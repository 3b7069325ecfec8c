"""The layer types of Caffe's forks as ONNX, beside numpy: beyond the cases of test_layers.py."""

import numpy as np
import pytest

from helpers.layer_cases import feeds, net_text
from minicaffe.testing import NUMPY, Case, continuation, normal

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime")
pytest.importorskip("onnxruntime", reason="needs the packages onnx and onnxruntime")
from helpers.onnx_runs import difference_of, export, longer, run_reference  # noqa: E402

TOLERANCE = 2e-6  #: relative to the largest value: sums have another order


def positions(rng, shape):
    """From -9 to 9 in halves, some in the pictures of these tests, many outside, some on their borders."""
    return rng.integers(-18, 19, shape) / 2


def with_unknown(rng, shape):
    """Numbers, a third of them nan."""
    return np.where(rng.random(shape) < 0.3, np.nan, rng.standard_normal(shape))


WARPED = [(2, 3, 5, 6), (2, 2, 5, 6)]
LSTM = "type: 'Lstm' lstm_param { num_output: 4 batch_size: 3 weight_filler { type: 'gaussian' } }"
PSPNET = "type: 'BN' bn_param { momentum: 0.9 eps: 0.01 }"
MORE = {
    "axes": Case("type: 'Axpy'", [(2, 3, 1, 1), (2, 3, 5), (2, 3, 5)]),
    "statistics": Case(PSPNET, [(2, 3, 4, 5)], num_top=3),
    "rows": Case(PSPNET, [(4, 3)], num_top=2),
    "frozen": Case("type: 'BN' bn_param { frozen: true }", [(2, 3, 4)]),
    "of the batch": Case("type: 'BN'", [(3, 4, 5)], num_top=3),
    "no statistics": Case("type: 'BN' bn_param { bn_mode: INFERENCE }", [(3, 4, 5, 6)], num_top=3),
    "shuffled rows": Case("type: 'ShuffleChannel' shuffle_channel_param { group: 3 }", [(2, 12, 3, 2, 2)]),
    "one channel": Case("type: 'Normalize' norm_param { channel_shared: false }", [(2, 1, 3, 3)]),
    "large": Case("type: 'Interp' interp_param { zoom_factor: 8 }", [(2, 3, 9, 7)]),
    "small": Case("type: 'Interp' interp_param { height: 1 width: 1 }", [(2, 3, 9, 7)]),
    "like another": Case("type: 'Interp' interp_param { use_blob_size: true }", [(2, 3, 9, 7), (1, 2, 5, 6)]),
    "unit rows": Case("type: 'InnerProduct' inner_product_param { num_output: 4 normalize: true "
                      "weight_filler { type: 'gaussian' std: 2 } }", [(2, 3, 4)]),
    "limited": Case("type: 'Scale' scale_param { filler { value: 5 } max_value: 2 }", [(2, 3, 4)]),
    "border added": Case("type: 'Padding' padding_param { pad_beg: 1 pad_end: 2 }", [(2, 3, 9, 7)]),
    "border removed": Case("type: 'Padding' padding_param { pad_beg: -1 pad_end: -2 }", [(2, 3, 9, 7)]),
    "border": Case("type: 'Warp'", WARPED, [normal, positions]),
    "positions": Case("type: 'Warp' warp_param { absolute: true }", WARPED, [normal, positions]),
    "zeros outside": Case("type: 'FlowWarp'", WARPED, [normal, positions]),
    "nan outside": Case("type: 'FlowWarp' flow_warp_param { fill_value: NOT_A_NUMBER }", WARPED, [normal, positions]),
    "one row": Case("type: 'FlowWarp'", [(2, 3, 1, 6), (2, 2, 1, 6)], [normal, positions]),
    "unknown": Case("type: 'Downsample' downsample_param { top_height: 3 top_width: 2 }", [(2, 3, 7, 5)], with_unknown),
    "one center": Case("type: 'Quant' quant_param { centers: 0.5 negative_slope: 0.1 }", [(2, 3)], normal),
    "neither": Case("type: 'MergeCrop' mergecrop_param { operation: ADD forward: false forward: false }",
                    [(2, 3, 4), (2, 3, 6)]),
    "second alone": Case("type: 'MergeCrop' mergecrop_param { forward: false }", [(2, 3, 4), (2, 1, 7)]),
    "x alone": Case("type: 'ChannelScale' channel_scale_param { do_forward: false }", [(2, 3, 4), (2, 1, 4)]),
    "steps and sequences on one axis": Case(LSTM, [(6, 5)], normal),
    "marked beginnings": Case(LSTM, [(6, 5), (6,)], [normal, continuation]),
}  # fmt: skip


@pytest.fixture(autouse=True)
def on_numpy():
    with NUMPY.chosen():
        yield


def compare(exported, inputs):
    """Compare at the shapes of the inputs, and twice as many where axis 0 is free."""
    assert difference_of(exported, inputs) < TOLERANCE
    assert difference_of(exported, longer(exported, inputs)) < TOLERANCE


@pytest.mark.parametrize("more", MORE.values(), ids=MORE)
def test_more_cases(more):
    exported = export(net_text(more))
    assert not exported.fixed
    compare(exported, feeds(*more.arrays()))


def test_the_weights_of_a_product_may_be_an_input():
    case = Case("type: 'InnerProduct' inner_product_param { bias_filler { value: 2 } }", [(2, 6), (4, 3, 2)])
    assert difference_of(export(net_text(case)), feeds(*case.arrays())) < TOLERANCE


@pytest.mark.parametrize("text", ["", "copy_remaining: true"])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 2, 3)])
def test_lengths_of_sequences(text, shape):
    """From 0 to all steps."""
    exported = export(net_text(Case(f"type: 'ReverseTime' reverse_time_param {{ {text} }}", [shape, (5,)])))
    compare(exported, feeds(np.random.default_rng(0).standard_normal(shape), np.arange(5)))


def random_regions(count, samples, size, seed):
    """Regions (count, 5) of pictures of a size, some beyond their edges, some turned around, with halves."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-0.3 * size, 1.3 * size, (count, 4))
    return np.column_stack([rng.integers(0, samples, count), np.round(2 * corners) / 2])


@pytest.mark.parametrize("shape", [(40, 5), (40, 5, 1, 1)])
@pytest.mark.parametrize(
    "text",
    [
        "type: 'ROIPooling' roi_pooling_param { pooled_h: 3 pooled_w: 4 spatial_scale: 0.25 }",
        "type: 'ROIPooling' roi_pooling_param { pooled_h: 3 pooled_w: 4 spatial_scale: 0.25 pad_ratio: 0.5 }",
        "type: 'ROIAlign' roi_align_param { pooled_h: 3 pooled_w: 4 spatial_scale: 0.25 sampling_ratio: 2 }",
        "type: 'ROIAlign' roi_align_param { pooled_h: 2 pooled_w: 1 spatial_scale: 0.25 roi_end_mode: 1 }",
        "type: 'PSROIPooling' psroi_pooling_param { output_dim: 2 group_size: 3 spatial_scale: 0.25 }",
    ],
)
def test_random_regions(text, shape):
    exported = export(net_text(Case(text, [(3, 18, 11, 13), shape])))
    assert set(exported.free) == {("x0", 0), ("x1", 0)}
    for seed in range(3):
        x = 10 + np.random.default_rng(seed).standard_normal((3, 18, 11, 13))
        inputs = feeds(x, random_regions(40, 3, 50, seed).reshape(shape))
        compare(exported, inputs)
        if text.startswith("type: 'PSROI"):  # there is no reference of MaxRoiPool
            assert difference_of(exported, inputs, run_reference) < TOLERANCE


POOLED = """layer {{ name: "pool" type: "Pooling" bottom: "x" top: "pooled" top: "mask"
                     pooling_param {{ pool: MAX kernel_size: {kernel} stride: 2 }} }}
layer {{ name: "up" type: "Upsample" bottom: "pooled" bottom: "mask" top: "y" upsample_param {{ {upsample} }} }}"""


@pytest.mark.parametrize(
    ("kernel", "shape", "upsample"),
    [(2, (2, 3, 8, 6), "scale: 2"), (2, (2, 3, 7, 6), "scale: 2 pad_out_h: 1"),
     (3, (2, 3, 9, 9), "upsample_h: 9 upsample_w: 9")],
)  # fmt: skip
def test_values_go_back_to_where_pooling_found_them(kernel, shape, upsample):
    dims = " ".join(f"dim: {n}" for n in shape)
    data = f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}\n'
    exported = export(data + POOLED.format(kernel=kernel, upsample=upsample))
    compare(exported, {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)})
