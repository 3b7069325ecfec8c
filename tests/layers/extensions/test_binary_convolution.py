"""BinaryConvolution, and what BinaryInnerProduct has in common with it."""

import numpy as np
import pytest

from minicaffe.testing import Case, LayerProperties, assert_close, build_layer

FILLERS = "weight_filler { type: 'gaussian' std: 1 } bias_filler { type: 'constant' value: 0.3 }"
CONVOLUTION = (
    f"type: 'BinaryConvolution' convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 group: 2 {FILLERS} }}"
)
PRODUCT = f"type: 'BinaryInnerProduct' inner_product_param {{ num_output: 4 {FILLERS} }}"
ALPHA = "{} {}_param {{ use_alpha: true }}".format
CASES = {
    "convolution": CONVOLUTION,
    "convolution, alpha": ALPHA(CONVOLUTION, "binary_convolution"),
    "product": PRODUCT,
    "product, alpha": ALPHA(PRODUCT, "binary_inner_product"),
}


class TestProperties(LayerProperties):
    cases = [Case(text, [(2, 4, 5, 3)], params=False) for name, text in CASES.items() if "convolution" in name]


def binary(w, alpha):
    result = np.empty_like(w)
    for o, row in enumerate(w):
        for index, value in np.ndenumerate(row):
            result[o][index] = (np.abs(row).mean() if alpha else 1) * (1 if value >= 0 else -1)
    return result


def passes(text, x, blobs):
    layer, bottom, top = build_layer(text, x)
    for blob, values in zip(layer.blobs, blobs, strict=True):
        blob.data[...] = values
        blob.diff[...] = 0.5
    layer.forward(bottom, top)
    top[0].diff[...] = np.cos(np.arange(top[0].count)).reshape(top[0].shape)
    layer.backward(top, [True], bottom)
    assert all(np.array_equal(blob.data, values) for blob, values in zip(layer.blobs, blobs))
    return [top[0].data, bottom[0].diff, *(blob.diff for blob in layer.blobs)]


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_ordinary_layer_with_binary_weights(name, engine):
    """Also in the backward pass, whose gradient of the weights is added to that of the learned ones."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 4, 5, 3))
    weights = rng.standard_normal((4, 2, 3, 3) if "convolution" in name else (4, 60))
    weights.flat[3] = 0
    bias = rng.standard_normal(4)
    ordinary = CASES[name].replace("type: 'Binary", "type: '")
    expected = passes(ordinary, x, [binary(weights, "alpha" in name), bias])
    for made, values in zip(passes(CASES[name], x, [weights, bias]), expected, strict=True):
        assert_close(made, values, rtol=1e-9)


def test_without_binarization_it_is_the_ordinary_layer(engine):
    rng = np.random.default_rng(0)
    x, blobs = rng.standard_normal((2, 4, 5, 3)), [rng.standard_normal((4, 2, 3, 3)), rng.standard_normal(4)]
    text = f"{CONVOLUTION} binary_convolution_param {{ use_binarization: false use_alpha: true }}"
    for made, expected in zip(passes(text, x, blobs), passes(CONVOLUTION.replace("Binary", ""), x, blobs)):
        assert np.array_equal(made, expected)
