"""Variants for tensor cores against the types' own numpy code, each layer by itself.

Bottoms and diffs of tops are numbers of bfloat16; results are float32's, rounded where they are written.
"""

import numpy as np
import pytest

from minicaffe import TEST, TRAIN
from minicaffe.core.blob import Blob
from minicaffe.core.registry import create_layer
from minicaffe.cuda.channels_last import LAST
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.testing import computing_with

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda_device")]

#: type and parameters, shapes of the bottoms, tops
EXACT = {
    "ReLU": ('type: "ReLU"', [(2, 10, 5, 4)], 1),
    "leaky ReLU": ('type: "ReLU" relu_param { negative_slope: 0.3 }', [(2, 16, 5, 4)], 1),
    "sum": ('type: "Eltwise"', [(2, 70, 3, 4)] * 2, 1),
    "weighted sum": ('type: "Eltwise" eltwise_param { coeff: 0.5 coeff: -2 }', [(2, 3, 3, 4)] * 2, 1),
    "Split": ('type: "Split"', [(3, 10, 4, 4)], 2),
    "one copy": ('type: "Split"', [(3, 10, 4, 4)], 1),
    "MAX": ('type: "Pooling" pooling_param { kernel_size: 3 stride: 2 }', [(2, 16, 9, 8)], 1),
    "MAX, padded": ('type: "Pooling" pooling_param { kernel_size: 3 stride: 2 pad: 1 }', [(2, 10, 7, 8)], 1),
    "MAX, stride over kernel": ('type: "Pooling" pooling_param { kernel_size: 1 stride: 3 }', [(2, 70, 6, 7)], 1),
    "MAX, one window": ('type: "Pooling" pooling_param { global_pooling: true }', [(2, 70, 6, 7)], 1),
    "Concat": ('type: "Concat"', [(2, 16, 3, 4), (2, 8, 3, 4), (2, 10, 3, 4)], 1),
    "no windows overlap": ('type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }', [(1, 3, 6, 6)], 1),
}
CLOSE = {
    "sum of three": ('type: "Eltwise"', [(2, 10, 3, 4)] * 3, 1),
    "three copies": ('type: "Split"', [(3, 10, 4, 4)], 3),
    "AVE": ('type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }', [(2, 10, 7, 8)], 1),
    "AVE, one window": ('type: "Pooling" pooling_param { pool: AVE global_pooling: true }', [(2, 70, 6, 7)], 1),
    "Scale": ('type: "Scale" scale_param { bias_term: true filler { type: "uniform" min: -1 } }', [(2, 70, 5, 4)], 1),
    "Scale without a term": ('type: "Scale" scale_param { filler { type: "uniform" min: -1 } }', [(4, 3, 5, 4)], 1),
    "BatchNorm": ('type: "BatchNorm"', [(4, 10, 6, 5)], 1),
    "BatchNorm of many rows": ('type: "BatchNorm"', [(3, 70, 19, 20)], 1),
    "BatchNorm of pictures of one place": ('type: "BatchNorm"', [(32, 16)], 1),
    "global BatchNorm": ('type: "BatchNorm" batch_norm_param { use_global_stats: true }', [(4, 16, 6, 5)], 1),
    "3x3": ('type: "Convolution" convolution_param { num_output: 10 kernel_size: 3 pad: 1 }', [(2, 16, 6, 5)], 1),
    "1x1": ('type: "Convolution" convolution_param { num_output: 70 kernel_size: 1 bias_term: false }',
            [(2, 3, 6, 5)], 1),
    "two bottoms": ('type: "Convolution" convolution_param { num_output: 8 kernel_size: 2 }', [(2, 8, 4, 5)] * 2, 2),
    "5x5, stride 2": ('type: "Convolution" convolution_param { num_output: 8 kernel_size: 5 stride: 2 }',
                      [(2, 3, 9, 9)], 1),
    "Deconvolution": ('type: "Deconvolution" convolution_param { num_output: 10 kernel_size: 4 stride: 2 pad: 1 }',
                      [(2, 16, 4, 5)], 1),
}  # fmt: skip
MATHS = pytest.mark.parametrize("math", ["tf32", "bf16"])
EPS = {"tf32": 2.0**-10, "bf16": 2.0**-8}


def stored(array, math="bf16"):
    """Rounded to bfloat16, ties to even; as it is in TF32."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return (bits + 0x7FFF + (bits >> 16 & 1) & np.uint32(0xFFFF0000)).view(np.float32) if math == "bf16" else array


def passes(case, gpu, math, phase, in_place=False):
    """A layer's tops, diffs of bottoms and parameters, and parameters, after a forward and a backward pass."""
    text, shapes, tops = case
    rng = np.random.default_rng(5)
    with computing_with(None if gpu else "CAFFE", gpu, math):
        layer = create_layer(parse_text(f'name: "l" {text}', caffe_pb2.LayerParameter()), phase)
        bottom, top = [Blob(shape) for shape in shapes], [Blob(()) for _ in range(tops)]
        if in_place:
            top = bottom
        layer.initialize(bottom, top)
        for blob in layer.blobs:
            blob.data = stored(rng.uniform(0.5, 1.5, blob.shape) if "Norm" in text else rng.standard_normal(blob.shape))
        for blob in bottom:
            blob.data = stored(rng.standard_normal(blob.shape))
        layer.bf16_bottom = layer.bf16_top = True
        layer.forward(bottom, top)
        data = [blob.read_data().copy() for blob in top]
        for blob in top:
            blob.diff = stored(rng.standard_normal(blob.shape))
        layer.backward(top, [True] * len(bottom), bottom)
        diffs = [blob.read_diff().copy() for blob in bottom]
        params = [(blob.read_diff().copy(), blob.read_data().copy()) for blob in layer.blobs]
        if gpu:
            assert layer.engine == "TENSOR" and layer.ran
            assert all(LAST in memory.copies for blob in bottom for memory in [blob.diff_memory])
        return data, diffs, [each for pair in params for each in pair]


@MATHS
@pytest.mark.parametrize("name", EXACT)
def test_exact(name, math):
    for in_place in {False, "ReLU" in name}:
        want, got = (passes(EXACT[name], gpu, math, TRAIN, in_place) for gpu in (False, True))
        for w, g in zip(want[0] + want[1], got[0] + got[1], strict=True):
            np.testing.assert_array_equal(g, stored(w, math))


@MATHS
@pytest.mark.parametrize("name", CLOSE)
def test_close(name, math):
    for in_place in {False, name == "BatchNorm"}:
        want, got = (passes(CLOSE[name], gpu, math, TRAIN, in_place) for gpu in (False, True))
        for w, g in zip(sum(want, []), sum(got, []), strict=True):
            np.testing.assert_allclose(g, w, rtol=2 * EPS[math], atol=3 * EPS[math] * abs(w).max())


def test_statistics_far_from_zero():
    case = 'type: "BatchNorm"', [(2, 10, 30, 30)], 1
    layers = []
    for gpu in (False, True):
        with computing_with(None if gpu else "CAFFE", gpu, "tf32"):
            layer = create_layer(parse_text(f'name: "l" {case[0]}', caffe_pb2.LayerParameter()), TRAIN)
            bottom, top = [Blob(case[1][0])], [Blob(())]
            layer.initialize(bottom, top)
            bottom[0].data = 1000 + np.random.default_rng(0).standard_normal(case[1][0])
            layer.bf16_bottom = True
            layer.forward(bottom, top)
            layers.append((layer, top[0].read_data().copy()))
    (want, y), (got, z) = layers
    for w, g in zip(want.blobs, got.blobs, strict=True):
        np.testing.assert_allclose(g.read_data(), w.read_data(), rtol=1e-4)
    np.testing.assert_allclose(z, y, atol=2e-3)


@pytest.mark.parametrize("text, shape", [
    ('type: "Pooling" pooling_param { kernel_size: 16 }', (1, 3, 16, 16)),
    ('type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 }', (1, 3, 4, 4)),
    ('type: "Eltwise" eltwise_param { operation: MAX }', (1, 3, 4, 4)),
    ('type: "Scale" scale_param { axis: 0 num_axes: -1 }', (1, 3, 4, 4)),
    ('type: "Convolution" convolution_param { num_output: 6 group: 3 kernel_size: 2 }', (1, 3, 4, 4)),
    ('type: "Convolution" convolution_param { num_output: 6 axis: 2 kernel_size: 2 }', (1, 3, 4, 4)),
    ('type: "Concat"', (1, 3, 4, 4)),
    ('type: "ReLU"', (5,)),
])  # fmt: skip
def test_own_kernels_where_there_are_no_others(text, shape):
    results = []
    for gpu in (False, True):
        with computing_with(None if gpu else "CAFFE", gpu, "tf32" if gpu else "float32"):
            layer = create_layer(parse_text(f'name: "l" {text}', caffe_pb2.LayerParameter()), TEST)
            bottom, top = [Blob(shape) for _ in range(1 + ("MAX" in text or "Concat" in text))], [Blob(())]
            layer.initialize(bottom, top)
            rng = np.random.default_rng(0)
            for blob in (*layer.blobs, *bottom):
                blob.data = stored(rng.random(blob.shape))
            layer.forward(bottom, top)
            assert not gpu or (layer.bf16_blobs == "" and layer.ran is False)
            results.append(top[0].read_data())
    np.testing.assert_allclose(results[1], results[0], rtol=1e-3)
