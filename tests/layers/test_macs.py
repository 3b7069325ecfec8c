"""Multiply-accumulates: with ones in bottoms and weights, and no padding, the sum of the tops counts the products."""

import pytest

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import create_layer, facts_of, layer_type_list
from minicaffe.proto import TEST, caffe_pb2, parse_text

ONES = "bias_term: false weight_filler { value: 1 }"
PRODUCTS = {
    "BinaryConvolution",
    "BinaryInnerProduct",
    "Convolution",
    "Convolution3D",
    "ConvolutionDepthwise",
    "Deconvolution",
    "Deconvolution3D",
    "DenseBlock",
    "DepthwiseConvolution",
    "InnerDistance",
    "InnerProduct",
    "LSTM",
    "LargeMarginInnerProduct",
    "Lstm",
    "MarginInnerProduct",
    "MultiStageMeanfield",
    "NdConvolution",
    "RNN",
}
OWN_TYPES = [name for name in layer_type_list() if facts_of(name).__module__.startswith("minicaffe.layers.")]


def built(text, shapes, num_top=1):
    """The initialized layer with bottoms of ones, its bottoms and its tops."""
    layer = create_layer(parse_text(f"name: 'l' {text}", caffe_pb2.LayerParameter()), TEST)
    bottom, top = [Blob(shape) for shape in shapes], [Blob() for _ in range(num_top)]
    for blob in bottom:
        blob.data = 1
    layer.initialize(bottom, top)
    return layer, bottom, top


def macs(layer, bottom, top):
    return layer.macs([blob.shape for blob in bottom], [blob.shape for blob in top])


def conv(type_name, fields):
    return f"type: '{type_name}' convolution_param {{ {fields} {ONES} }}"


@pytest.mark.parametrize(
    "text, shapes",
    [
        (conv("Convolution", "num_output: 4 kernel_size: 3 stride: 2 group: 2"), [(2, 6, 8, 7)]),
        (conv("Convolution", "num_output: 4 kernel_h: 3 kernel_w: 2 dilation: 2"), [(2, 3, 8, 7)] * 2),
        (conv("Convolution", "num_output: 4 kernel_size: 2"), [(2, 3, 4, 4, 4)]),
        (conv("Convolution", "num_output: 5 axis: 2"), [(2, 3, 4)]),
        (conv("Convolution", "num_output: 6 kernel_size: 3 group: 6"), [(2, 6, 5, 5)]),
        (conv("ConvolutionDepthwise", "num_output: 6 kernel_size: 3"), [(2, 3, 5, 5)]),
        (conv("Deconvolution", "num_output: 4 kernel_size: 3 stride: 2 group: 2"), [(2, 6, 4, 5)]),
        (conv("Deconvolution", "num_output: 4 kernel_size: 4 stride: 2"), [(2, 3, 4, 5)] * 2),
        (f"type: 'InnerProduct' inner_product_param {{ num_output: 5 {ONES} }}", [(3, 4, 2)]),
        (f"type: 'InnerProduct' inner_product_param {{ num_output: 5 axis: 2 transpose: true {ONES} }}", [(3, 4, 2)]),
        (conv("BinaryConvolution", "num_output: 4 kernel_size: 3 group: 2"), [(2, 6, 8, 7)]),
        (f"type: 'BinaryInnerProduct' inner_product_param {{ num_output: 5 {ONES} }}", [(3, 4, 2)]),
    ],
)  # fmt: skip
def test_the_sum_of_ones(text, shapes):
    layer, bottom, top = built(text, shapes, len(shapes))
    layer.forward(bottom, top)
    assert macs(layer, bottom, top) == sum(int(blob.data.sum()) for blob in top) > 0


def test_padding_counts_and_the_bias_does_not():
    text = "type: 'Convolution' convolution_param { num_output: 2 kernel_size: 3 pad: 1 }"
    assert macs(*built(text, [(1, 1, 1, 1)])) == 2 * 9


@pytest.mark.parametrize("static", [0, 3])
def test_a_recurrent_layer_multiplies_as_its_steps_do(static):
    steps, sequences, inputs, size = 5, 2, 4, 6
    shapes = [(steps, sequences, inputs), (steps, sequences)] + [(sequences, static)] * bool(static)
    once = sequences * size * static
    for name, gates, output in (("LSTM", 4, 0), ("RNN", 1, size * size)):
        layer, bottom, top = built(f"type: '{name}' recurrent_param {{ num_output: {size} }}", shapes)
        each = gates * size * (inputs + size) + output
        assert macs(layer, bottom, top) == steps * sequences * each + gates * once


def test_the_lstm_of_a_fork_multiplies_as_the_other():
    layer, bottom, top = built("type: 'Lstm' lstm_param { num_output: 6 }", [(5, 2, 4)])
    assert macs(layer, bottom, top) == 5 * 2 * 4 * 6 * (4 + 6)


def test_a_dense_block_multiplies_as_its_convolutions_do():
    text = "type: 'DenseBlock' denseblock_param { numTransition: 2 growthRate: 3 %s }"
    assert macs(*built(text % "", [(2, 4, 5, 6)])) == 2 * 5 * 6 * 3 * 9 * (4 + 7)
    with_bottlenecks = 12 * (4 + 7) + 2 * 3 * 9 * 12
    assert macs(*built(text % "use_BC: true", [(2, 4, 5, 6)])) == 2 * 5 * 6 * with_bottlenecks


@pytest.mark.parametrize(
    "text, shapes",
    [
        ("type: 'MarginInnerProduct' margin_inner_product_param { num_output: 5 }", [(3, 4, 2), (3,)]),
        ("type: 'LargeMarginInnerProduct' largemargin_inner_product_param { num_output: 5 }", [(3, 4, 2), (3,)]),
        ("type: 'InnerDistance' inner_distance_param { num_output: 5 }", [(3, 4, 2)]),
    ],
)
def test_what_compares_samples_with_classes_multiplies_as_an_inner_product(text, shapes):
    assert macs(*built(text, shapes)) == 3 * 5 * 4 * 2


@pytest.mark.parametrize("type_name", OWN_TYPES)
def test_which_types_multiply(type_name):
    assert (facts_of(type_name).macs is not Layer.macs) == (type_name in PRODUCTS)


def test_elementwise_work_and_look_ups_are_not_counted():
    for text, shapes in (
        ("type: 'BatchNorm'", [(2, 3, 4, 4)]),
        ("type: 'Scale' scale_param { bias_term: true }", [(2, 3, 4, 4)]),
        ("type: 'Embed' embed_param { input_dim: 7 num_output: 5 }", [(4,)]),
        ("type: 'Pooling' pooling_param { kernel_size: 2 }", [(2, 3, 4, 4)]),
    ):
        assert macs(*built(text, shapes)) == 0
