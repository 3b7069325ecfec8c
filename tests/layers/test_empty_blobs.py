"""Blobs without numbers: an empty batch gives an empty top, or an error that names the layer."""

import numpy as np
import pytest

from minicaffe import gradient_check
from minicaffe.errors import LayerError

WORKS = [
    ("type: 'Convolution' convolution_param { num_output: 4 kernel_size: 3 }", [(0, 3, 5, 5)]),
    ("type: 'Convolution' convolution_param { num_output: 3 group: 3 kernel_size: 3 }", [(0, 3, 5, 5)]),
    ("type: 'Deconvolution' convolution_param { num_output: 4 kernel_size: 3 }", [(0, 3, 5, 5)]),
    ("type: 'Im2col' convolution_param { kernel_size: 3 }", [(0, 3, 5, 5)]),
    ("type: 'InnerProduct' inner_product_param { num_output: 3 }", [(0, 4)]),
    ("type: 'LRN'", [(0, 3, 2, 2)]),
    ("type: 'LRN' lrn_param { norm_region: WITHIN_CHANNEL }", [(1, 3, 0, 2)]),
    ("type: 'BatchNorm' batch_norm_param { use_global_stats: true }", [(0, 3, 2, 2)]),
    ("type: 'MVN'", [(0, 3, 2, 2)]),
    ("type: 'Pooling' pooling_param { kernel_size: 2 }", [(0, 3, 4, 4)]),
    ("type: 'Pooling' pooling_param { pool: AVE global_pooling: true }", [(1, 0, 4, 4)]),
    ("type: 'Pooling' pooling_param { pool: STOCHASTIC kernel_size: 2 }", [(0, 3, 4, 4)]),
    ("type: 'SPP' spp_param { pyramid_height: 2 }", [(0, 3, 4, 4)]),
    ("type: 'RNN' recurrent_param { num_output: 3 }", [(0, 2, 4), (0, 2)]),
    ("type: 'LSTM' recurrent_param { num_output: 3 }", [(2, 0, 4), (2, 0)]),
    ("type: 'Normalize'", [(0, 3, 2, 2)]),
    ("type: 'Upsample'", [(0, 3, 2, 2)] * 2),
    ("type: 'Interp' interp_param { zoom_factor: 2 }", [(0, 3, 2, 2)]),
    ("type: 'ROIPooling' roi_pooling_param { pooled_h: 2 pooled_w: 2 }", [(1, 3, 4, 4), (0, 5)]),
    (
        "type: 'PSROIPooling' psroi_pooling_param { output_dim: 1 group_size: 2 spatial_scale: 1 }",
        [(1, 4, 4, 4), (0, 5)],
    ),
]
REFUSED = [
    ("type: 'InnerProduct' inner_product_param { num_output: 3 }", [(2, 0)], "has no inputs from axis 1 on"),
    ("type: 'BatchNorm'", [(0, 3, 2, 2)], "there is nothing to take statistics of"),
    ("type: 'BatchNorm'", [(2, 0, 2, 2)], "there is nothing to take statistics of"),
    ("type: 'MVN'", [(2, 3, 0, 2)], "there is nothing to take the mean of"),
    ("type: 'Pooling' pooling_param { global_pooling: true }", [(1, 3, 0, 4)], "there is nothing to pool"),
    ("type: 'BN' bn_param { }", [(0, 3, 2, 2)], "there is nothing to take statistics of"),
]


def run(text, shapes):
    layer = gradient_check.layer_from_text(f"name: 'empty' {text}", 0, np.float32)
    bottom, top = (
        gradient_check.blobs_of([np.zeros(s) for s in shapes], np.float32),
        gradient_check.blobs_of([0], np.float32),
    )
    layer.initialize(bottom, top)
    layer.forward(bottom, top)
    layer.backward(top, [layer.allow_force_backward(i) for i in range(len(bottom))], bottom)
    return layer, bottom, top


@pytest.mark.parametrize(("text", "shapes"), WORKS)
def test_nothing_in_nothing_out(text, shapes, device):
    layer, bottom, top = run(text, shapes)
    assert top[0].read_data().size == 0
    assert all(not np.any(blob.read_diff()) for blob in (*layer.blobs, *bottom))


@pytest.mark.parametrize(("text", "shapes", "words"), REFUSED)
def test_refused_by_name(text, shapes, words, device):
    with pytest.raises(LayerError, match=f"layer 'empty': .*{words}"):
        run(text, shapes)
