"""Blobs without numbers: an empty batch gives an empty top; where nothing can be computed, an error names the layer."""

import numpy as np
import pytest

from helpers.engines import of_layer, on
from minicaffe.errors import LayerError
from minicaffe.testing import NUMPY, ONEDNN, run_layer

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
    ("type: 'ROIAlign' roi_align_param { pooled_h: 2 pooled_w: 2 }", [(1, 3, 4, 4), (0, 5)]),
    ("type: 'ROIAlign' roi_pooling_param { pooled_h: 2 pooled_w: 2 }", [(1, 3, 4, 4), (0, 5)]),
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
    layer, bottom, top = run_layer(f"name: 'empty' {text}", *map(np.zeros, shapes), dtype=np.float32)
    layer.backward(top, [layer.allow_force_backward(i) for i in range(len(bottom))], bottom)
    return layer, bottom, top


@pytest.mark.parametrize(("text", "shapes"), [of_layer(*each) for each in WORKS])
def test_nothing_in_nothing_out(text, shapes, engine):
    layer, bottom, top = run(text, shapes)
    assert top[0].read_data().size == 0
    assert all(not np.any(blob.read_diff()) for blob in (*layer.blobs, *bottom))


@on(NUMPY, ONEDNN)
@pytest.mark.parametrize(("text", "shapes", "words"), [of_layer(*each) for each in REFUSED])
def test_refused_by_name(text, shapes, words, engine):
    with pytest.raises(LayerError, match=f"layer 'empty': .*{words}"):
        run(text, shapes)
