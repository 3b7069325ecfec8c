"""The engine that a prototxt chooses, by a layer's own field or by that of its parameters."""

import numpy as np
import pytest

from minicaffe import onednn
from minicaffe.core.registry import choose_engine
from minicaffe.errors import LayerError
from minicaffe.proto import caffe_pb2, parse_text


def choose(text):
    return choose_engine(parse_text('name: "c" type: "Convolution" ' + text, caffe_pb2.LayerParameter()), np.float32)


@pytest.mark.parametrize(
    "text, expected",
    [
        ('engine: "CAFFE"', "CAFFE"),
        ('engine: "caffe"', "CAFFE"),
        ("convolution_param { engine: CAFFE }", "CAFFE"),
        ('engine: "CAFFE" convolution_param { engine: ONEDNN }', "CAFFE"),
        ('engine: "DEFAULT" convolution_param { engine: CAFFE }', "CAFFE"),
        ('engine: "ONEDNN"', "ONEDNN"),
        ('engine: "MKLDNN:DLA"', "ONEDNN"),
        ("convolution_param { engine: MKLDNN }", "ONEDNN"),
    ],
)
def test_engine(text, expected):
    if expected == "ONEDNN" and not onednn.available():
        expected = "CAFFE"
    assert choose(text) == expected


def test_unknown_engine():
    with pytest.raises(
        LayerError, match="Convolution layer 'c': engine must be CAFFE, COUNTING, CUDNN, ONEDNN or TENSOR, got \"TPU\""
    ):
        choose('engine: "TPU"')
