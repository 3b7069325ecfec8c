"""The oneDNN variants compute what the numpy layers compute, with primitives or, without one, by the numpy code."""

import numpy as np
import pytest

from helpers.engines import needs_onednn
from helpers.nets import net_from_text
from minicaffe import set_random_seed
from minicaffe.gradient_check import layer_from_text
from minicaffe.testing import NUMPY, ONEDNN, Case, Run, assert_close, continuation, distinct, normal

pytestmark = needs_onednn


@pytest.fixture(autouse=True)
def chosen():
    with ONEDNN.chosen():
        yield


def conv(more, shape, kind="Convolution", **kwargs):
    fillers = 'weight_filler { type: "xavier" } bias_filler { value: 0.3 }'
    return Case(f'type: "{kind}" convolution_param {{ {more} {fillers} }}', [shape], **kwargs)


def pool(more, shape):
    return Case(f'type: "Pooling" pooling_param {{ {more} }}', [shape], distinct)


def inner(more, shape):
    return Case(f'type: "InnerProduct" inner_product_param {{ {more} weight_filler {{ type: "xavier" }} }}', [shape])


def normalize(more, shape):
    filler = 'scale_filler { type: "uniform" min: 0.5 max: 2 }'
    return Case(f'type: "Normalize" norm_param {{ {more} {filler} }}', [shape])


def fork_lstm(more, shape):
    """Lstm of Junhyuk Oh's fork and others, in which sequences begin at step 0."""
    return Case(f'type: "Lstm" lstm_param {{ {more} weight_filler {{ type: "xavier" }} }}', [shape])


def recurrent(kind, sequences, size, static=(), **kwargs):
    text = f'type: "{kind}" recurrent_param {{ num_output: {size} weight_filler {{ type: "xavier" }} }}'
    shapes = [(3, sequences, 5), (3, sequences), *static]
    return Case(text, shapes, [normal, continuation, normal][: len(shapes)], gradient=[0], **kwargs)


NATIVE = [
    conv("num_output: 32 kernel_size: 5 pad: 2", (2, 3, 9, 9)),
    conv("num_output: 20 kernel_size: 3 stride: 2 pad: 1", (2, 16, 9, 8)),
    conv("num_output: 20 kernel_size: 3 stride: 3 dilation: 2", (2, 20, 11, 12)),
    conv("num_output: 8 kernel_h: 3 kernel_w: 1 group: 2 bias_term: false", (2, 6, 7, 7)),
    conv("num_output: 16 kernel_size: 3 pad: 1 group: 16", (2, 16, 7, 7)),
    conv("num_output: 16 kernel_size: 3 pad: 1", (2, 8, 7, 7), "ConvolutionDepthwise"),
    conv("num_output: 4 kernel_size: 3", (2, 3, 9)),
    conv("num_output: 4 kernel_size: 2", (2, 3, 4, 5, 6)),
    conv("num_output: 5 kernel_size: 4 stride: 2 pad: 1", (2, 3, 6, 6), "Deconvolution"),
    conv("num_output: 6 kernel_size: 3 group: 3", (2, 9, 5, 5), "Deconvolution"),
    inner("num_output: 7", (3, 16, 3, 2)),
    inner("num_output: 7 axis: 2", (2, 3, 5)),
    pool("kernel_size: 3 stride: 2", (2, 16, 8, 7)),
    pool("kernel_size: 3 stride: 2 pad: 1", (2, 5, 8, 8)),
    pool("kernel_size: 3 stride: 2 pool: AVE", (2, 16, 8, 8)),
    pool("kernel_size: 3 stride: 1 pad: 1 pool: AVE", (2, 16, 6, 6)),
    pool("global_pooling: true pool: AVE", (2, 20, 5, 6)),
    Case('type: "LRN" lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL alpha: 0.5 }', [(2, 16, 6, 6)]),
    Case('type: "LRN" lrn_param { local_size: 5 alpha: 0.5 k: 2 }', [(2, 16, 6, 6)]),
    Case('type: "LRN" lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 }', [(2, 16, 6, 6)]),
    Case('type: "LRN" lrn_param { local_size: 7 alpha: 0.5 }', [(2, 5, 4, 4)]),
    Case('type: "BatchNorm"', [(4, 16, 3, 3)], params=False),
    Case('type: "BatchNorm"', [(6, 5)], params=False),
    Case('type: "BatchNorm" batch_norm_param { use_global_stats: true }', [(4, 5, 3, 3)], params=False),
    Case('type: "Scale" scale_param { bias_term: true }', [(3, 16, 4, 4)]),
    Case('type: "Scale"', [(3, 5, 4, 4)]),
    Case('type: "Scale" scale_param { axis: 0 bias_term: true bias_filler { value: 2 } }', [(3, 5, 4, 4), (3, 5)]),
    Case('type: "Scale"', [(3, 16, 4, 4), (16,)]),
    Case('type: "Scale" scale_param { axis: 0 }', [(3, 5, 4), (3, 5, 4)]),
    Case('type: "Scale" scale_param { axis: 0 }', [(3, 5), (3, 5)]),
    Case('type: "Bias" bias_param { filler { type: "gaussian" } }', [(3, 5, 4, 3)]),
    Case('type: "Bias" bias_param { filler { type: "gaussian" } }', [(3, 5)]),
    Case('type: "Bias" bias_param { axis: 0 }', [(3, 16, 4, 3), (3, 16)]),
    Case('type: "Axpy"', [(3, 5), (3, 5, 4, 3), (3, 5, 4, 3)]),
    Case('type: "Axpy"', [(2, 16, 1, 1), (2, 16, 3, 3), (2, 16, 3, 3)]),
    normalize("across_spatial: false channel_shared: false", (3, 5, 4, 3)),
    normalize("across_spatial: false channel_shared: false", (2, 16, 3, 3)),
    Case('type: "ReLU"', [(3, 5, 4, 4)]),
    Case('type: "ReLU" relu_param { negative_slope: 0.2 }', [(3, 16, 4)]),
    Case('type: "Sigmoid"', [(3, 16)]),
    Case('type: "TanH"', [(3, 5, 2, 2)]),
    Case('type: "Power" power_param { scale: 3 shift: 0.5 }', [(3, 5, 2, 2)]),
    Case('type: "PReLU"', [(3, 16, 3, 3)]),
    Case('type: "PReLU" prelu_param { channel_shared: true }', [(3, 5, 3)]),
    Case('type: "PReLU"', [(3, 5)]),
    Case('type: "ReLU6"', [(3, 5, 2, 2)], distinct),
    Case('type: "ELU" elu_param { alpha: 0.7 }', [(3, 5, 2, 2)]),
    Case('type: "AbsVal"', [(3, 16, 2, 2)]),
    Case('type: "BNLL"', [(3, 5, 2, 2)]),
    Case('type: "Swish" swish_param { beta: 1.5 }', [(3, 16, 2)]),
    Case('type: "Softmax"', [(3, 16, 2, 2)]),
    Case('type: "Softmax" softmax_param { axis: 2 }', [(3, 4, 5)]),
    Case('type: "Concat"', [(2, 16, 3, 3), (2, 32, 3, 3), (2, 5, 3, 3)]),
    Case('type: "Concat" concat_param { axis: 0 }', [(2, 16, 3, 3), (1, 16, 3, 3)]),
    Case('type: "Eltwise" eltwise_param { coeff: 1 coeff: -2 coeff: 0.5 }', [(2, 5, 3, 3)] * 3),
    Case('type: "Eltwise" eltwise_param { operation: PROD }', [(2, 5, 3)] * 2),
    Case('type: "Eltwise" eltwise_param { operation: MAX }', [(2, 5, 3)] * 2, lambda rng, s: rng.integers(0, 3, s)),
    Case('type: "Split"', [(2, 5, 3, 3)], num_top=3),
    Case('type: "Slice"', [(2, 6, 3, 3)], num_top=3),
    Case('type: "Slice" slice_param { axis: 0 slice_point: 1 slice_point: 3 }', [(5, 2, 3)], num_top=3),
    Case('type: "Slice" slice_param { slice_point: 5 }', [(2, 9)], num_top=2),
    Case('type: "Crop" crop_param { offset: 1 offset: 2 }', [(2, 5, 6, 7), (1, 1, 3, 4)], gradient=[0]),
    Case('type: "Crop" crop_param { axis: 0 offset: 1 }', [(3, 4), (2, 2)], gradient=[0]),
    Case('type: "Permute" permute_param { order: 0 order: 2 order: 3 order: 1 }', [(2, 5, 3, 4)]),
    Case('type: "Permute" permute_param { order: 2 order: 1 }', [(2, 5, 3)]),
    Case('type: "Dropout" dropout_param { dropout_ratio: 0.3 }', [(2, 5, 3, 3)]),
    recurrent("LSTM", 9, 182),
    recurrent("LSTM", 8, 190, [(8, 3)]),
    recurrent("RNN", 8, 370),
    fork_lstm("num_output: 182 clipping_threshold: 0.1", (3, 9, 5)),
    fork_lstm("num_output: 182 batch_size: 9", (27, 5)),
]  # fmt: skip

IN_NUMPY = [
    conv("num_output: 4 kernel_size: 3 axis: 2", (2, 2, 3, 5, 5)),
    inner("num_output: 7 transpose: true", (3, 6)),
    pool("kernel_size: 3 stride: 2 pad: 1 pool: AVE", (2, 3, 8, 8)),
    Case('type: "Pooling" pooling_param { kernel_size: 2 }', [(2, 3, 4, 4)], distinct, num_top=2, gradient=[]),
    Case('type: "Scale" scale_param { axis: 0 }', [(3, 5)]),
    Case('type: "Scale" scale_param { axis: 2 }', [(3, 5, 4, 3), (4, 3)]),
    Case('type: "Bias" bias_param { axis: 0 }', [(3, 5, 4)]),
    Case('type: "Eltwise" eltwise_param { operation: PROD }', [(2, 5)] * 3),
    Case('type: "Eltwise" eltwise_param { operation: PROD stable_prod_grad: false }', [(2, 5)] * 2),
    Case('type: "Eltwise" eltwise_param { operation: MAX }', [(2, 5)] * 3, distinct),
    Case('type: "Power" power_param { power: 2 }', [(2, 5)]),
    Case('type: "Normalize"', [(2, 5, 3, 3)]),
    normalize("across_spatial: true channel_shared: false", (2, 5, 3, 3)),
    normalize("across_spatial: false", (2, 5, 3, 3)),
    Case('type: "Softmax"', [(0, 5)], gradient=[]),
    recurrent("LSTM", 7, 182),
    recurrent("LSTM", 8, 20),
    fork_lstm("num_output: 182 batch_size: 7", (21, 5)),
]


def compare(case, in_place=False):
    """Compare two rounds, the second of which reuses the buffers of the first; return the layer."""
    run = Run(case, in_place=in_place)
    if run.layer.type == "BatchNorm":  # sums of variances, and their weight, must be positive
        for blob in run.layer.blobs:
            blob.data = np.abs(blob.data) + 0.5
    with NUMPY.chosen():
        plain = Run(case, in_place=in_place)
        for blob, same in zip(plain.layer.blobs, run.layer.blobs, strict=True):
            blob.data = same.read_data()
    for _ in range(2):
        for got, values in zip(run.bottom, case.arrays(), strict=True):
            got.data = values
        got = run.forward() + run.backward()
        with NUMPY.chosen():
            for blob, values in zip(plain.bottom, case.arrays(), strict=True):
                blob.data = values
            expected = plain.forward() + plain.backward()
        for a, b in zip(got, expected, strict=True):
            assert_close(a, b, str(case))
    return run.layer


@pytest.mark.parametrize("case", NATIVE, ids=str)
def test_native(case):
    layer = compare(case)
    assert layer.engine == "ONEDNN" and layer.native


def works_in_place(case):
    """Whether the layer may work in place, and its oneDNN code supports it."""
    layer = layer_from_text(case.text)
    return layer.in_place and layer.type not in ("LRN", "Power")


@pytest.mark.parametrize("case", list(filter(works_in_place, NATIVE)), ids=str)
def test_native_in_place(case):
    assert compare(case, in_place=True).native


@pytest.mark.parametrize("case", IN_NUMPY, ids=str)
def test_numpy_where_onednn_cannot(case):
    layer = compare(case)
    assert layer.engine == "ONEDNN" and not layer.native


def test_a_batch_that_grows_and_shrinks():
    case = NATIVE[1]
    run = Run(case)
    first = run.forward()[0]
    x = case.arrays()[0].astype(np.float32)
    for copies in (3, 1, 2, 1):
        run.bottom[0].reshape(copies * len(x), *x.shape[1:])
        run.bottom[0].data = np.concatenate([x] * copies)
        assert_close(run.forward()[0], np.concatenate([first] * copies))


def test_weights_may_change_between_passes():
    run = Run(NATIVE[0])
    first = run.forward()[0]
    run.layer.blobs[0].data *= 2
    run.layer.blobs[1].data *= 2
    assert_close(run.forward()[0], 2 * first)


@pytest.mark.parametrize("middle", ["type: 'Scale'", "type: 'BatchNorm' batch_norm_param { eps: 0 }"])
def test_channels_that_pad_a_layout_stay_zero(middle, monkeypatch):
    """The next convolution reads the padding as well."""

    conv = "convolution_param { num_output: 5 kernel_size: 1 weight_filler { value: 0.25 } }"
    text = f"""force_backward: true
    layer {{ name: 'in' type: 'Input' top: 'x' input_param {{ shape {{ dim: 4 dim: 1 dim: 5 dim: 6 }} }} }}
    layer {{ name: 'a' type: 'Convolution' bottom: 'x' top: 'a' {conv} }}
    layer {{ name: 'm' {middle} bottom: 'a' top: 'm' }}
    layer {{ name: 'b' type: 'Convolution' bottom: 'm' top: 'b' {conv} }}"""
    results = []
    for engine in (NUMPY, ONEDNN):
        with engine.chosen():
            net = net_from_text(text, 0)
        net.blobs["x"].data[...] = np.random.default_rng(0).standard_normal((4, 1, 5, 6))
        net.forward()
        net.blobs["b"].diff[...] = np.random.default_rng(1).standard_normal((4, 5, 5, 6))
        net.backward()
        results.append([net.blobs["b"].data.copy(), net.params["a"][0].diff.copy(), net.params["b"][0].diff.copy()])
    for expected, got in zip(*results):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


MIDDLE = {
    "type: 'Slice' slice_param { slice_point: 16 }": 2,
    "type: 'Slice' slice_param { slice_point: 5 }": 2,
    "type: 'Slice' slice_param { axis: 2 slice_point: 3 }": 2,
    "type: 'Eltwise' bottom: 'same' eltwise_param { operation: PROD }": 1,
    "type: 'Eltwise' bottom: 'same' eltwise_param { operation: MAX }": 1,
    "type: 'Axpy' bottom: 'a' bottom: 'same'": 1,
    "type: 'Dropout'": 1,
    "type: 'Normalize' norm_param { across_spatial: false channel_shared: false }": 1,
    "type: 'Scale' bottom: 'factors' scale_param { axis: 0 }": 1,
    "type: 'Bias' bias_param { filler { type: 'gaussian' } }": 1,
    "type: 'Crop' bottom: 'small' crop_param { offset: 1 }": 1,
    "type: 'Crop' bottom: 'small' crop_param { axis: 1 offset: 1 }": 1,
    "type: 'Permute' permute_param { order: 0 order: 2 order: 1 order: 3 }": 1,
}


@pytest.mark.parametrize("channels", [32, 20])
@pytest.mark.parametrize(("middle", "tops"), MIDDLE.items())
def test_between_convolutions(middle, tops, channels):
    """In the layouts that the convolutions choose, with blocks that are full and that are not."""
    conv, first = "convolution_param { num_output: %d kernel_size: %d }", "factors" if "Axpy" in middle else "a"
    text = f"""force_backward: true
    layer {{ name: 'in' type: 'Input' top: 'x' input_param {{ shape {{ dim: 2 dim: 16 dim: 8 dim: 9 }} }} }}
    layer {{ name: 'a' type: 'Convolution' bottom: 'x' top: 'a' {conv % (channels, 3)} }}
    layer {{ name: 'c' type: 'Convolution' bottom: 'x' top: 'same' {conv % (channels, 3)} }}
    layer {{ name: 's' type: 'Convolution' bottom: 'x' top: 'small' {conv % (channels // 2, 5)} }}
    layer {{ name: 'p' type: 'Pooling' bottom: 'a' top: 'p' pooling_param {{ pool: AVE global_pooling: true }} }}
    layer {{ name: 'f' type: 'Reshape' bottom: 'p' top: 'factors' reshape_param {{ shape {{ dim: [0, 0] }} }} }}
    layer {{ name: 'm' bottom: '{first}' {middle} {" ".join(f"top: 'm{i}'" for i in range(tops))} }}"""
    text += "".join(
        f"""layer {{ name: 'b{i}' type: 'Convolution' bottom: 'm{i}' top: 'b{i}' {conv % (16, 1)} }}"""
        for i in range(tops)
    )
    results = []
    for engine in (NUMPY, ONEDNN):
        set_random_seed(1)
        with engine.chosen():
            net = net_from_text(text, 0)
        rng = np.random.default_rng(0)
        for blobs in net.params.values():
            for blob in blobs:
                blob.data[...] = 0.2 * rng.standard_normal(blob.shape)
        net.blobs["x"].data[...] = rng.standard_normal((2, 16, 8, 9))
        net.forward()
        for i in range(tops):
            net.blobs[f"b{i}"].diff[...] = rng.standard_normal(net.blobs[f"b{i}"].shape)
        net.backward()
        names = [*(f"m{i}" for i in range(tops)), *(f"b{i}" for i in range(tops))]
        results.append([net.blobs[name].data.copy() for name in names])
        results[-1] += [net.params["a"][0].diff.copy(), net.blobs["x"].diff.copy()]
    for expected, got in zip(*results, strict=True):
        assert_close(got, expected, middle, rtol=1e-3, atol=1e-4)
