"""CoSData: tops that a script fills."""

import numpy as np
import pytest

from helpers.nets import net_from_text
from minicaffe.errors import LayerError
from minicaffe.testing import build_layer

TEXT = """type: "CoSData" source_class: "com.yahoo.ml.caffe.DataFrameSource" cos_data_param {
    source: "hdfs:///nothing" batch_size: 5
    top { name: "data" type: ENCODED_IMAGE channels: 3 height: 9 width: 8 out_height: 7 out_width: 6
          transform_param { crop_size: 6 } }
    top { name: "label" type: INT channels: 1 height: 1 width: 1 sample_num_axes: 0 }
    top { name: "words" type: INT_ARRAY channels: 4 sample_num_axes: 1 transpose: true }
    top { name: "more" type: FLOAT_ARRAY channels: 2 height: 3 sample_num_axes: 2 } }"""


def test_shapes():
    _, _, top = build_layer(TEXT, num_top=4)
    assert [blob.shape for blob in top] == [(5, 3, 7, 6), (5,), (4, 5), (5, 2, 3)]


def test_a_script_fills_the_tops(engine):
    net = net_from_text(f'layer {{ name: "d" top: "x" top: "l" top: "w" top: "m" {TEXT} }}', 0)
    net.blobs["l"].data = np.arange(5)
    net.forward()
    assert net.blobs["l"].data.tolist() == [0, 1, 2, 3, 4] and not net.blobs["x"].data.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("sample_num_axes: 2", "sample_num_axes: 4"), "sample_num_axes of top 3 must be at most 3, got 4"),
        (("sample_num_axes: 1", "sample_num_axes: 2"), "of top 2 must be 1 with transpose, got 2"),
        (("channels: 2", ""), r"the sizes of top 3 must be given and positive, got \[5, 0, 3\]"),
        ((TEXT[TEXT.index('top { name: "more"') :], "}"), "needs one `top` for each top, got 3 for 4"),
    ],
)
def test_errors(change, message):
    text = TEXT.replace(*change)
    with pytest.raises(LayerError, match=message):
        build_layer(text, num_top=4)
