"""All faults of a text at once, and reading without the fields that change no result."""

import logging

import pytest

from minicaffe import skip_unknown_fields
from minicaffe.errors import PrototxtError
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.proto.skipping import skipping, skips_hints
from minicaffe.proto.unknown import faults_of, without

MANY = """name: "net"  # a { in a comment
layer {
  name: "c" type: "Convolution" multinode { bw_layer_in: 8 text: "}" list: [1, 2] inner < a: -1.5e3 > }
  convolution_param { num_output: cls6x, kernal_size: 3; fusion_type: 1 pad: 1 unknwn: [2, 2] engine: FAST }
  convolution_param { bias: 'a' "b" }
  name: "again"
}
unknown: [{ a: 1 }, { b: 2 }]
force_backward: maybe
layers { type: LRN_RISTRETTO bottom: "x" }
input_dim: [1, 2.5]
"""
FOUND = [
    (3, 33, "field", 'LayerParameter has no field "multinode", it belongs to Intel\'s Caffe'),
    (4, 35, "value", "ConvolutionParameter.num_output has the placeholder"),
    (4, 42, "field", 'ConvolutionParameter has no field "kernal_size" (did you mean "kernel_size"?)'),
    (4, 58, "field", 'ConvolutionParameter has no field "fusion_type", it belongs to Intel\'s Caffe'),
    (4, 80, "field", 'ConvolutionParameter has no field "unknwn"'),
    (4, 103, "value", 'Engine has no value "FAST"'),
    (5, 21, "value", 'LayerParameter field "convolution_param" is given more than once'),
    (5, 23, "field", 'ConvolutionParameter has no field "bias"'),
    (6, 9, "value", 'LayerParameter field "name" is given more than once'),
    (8, 1, "field", 'NetParameter has no field "unknown"'),
    (9, 17, "value", 'expected "true" or "false"'),
    (10, 16, "value", 'LayerType has no value "LRN_RISTRETTO", it belongs to Ristretto'),
    (11, 16, "value", "couldn't parse integer: 2.5"),
]
HINTS = """layer { name: "a" type: "ReLU" bottom: "x" top: "y"
  multinode { bw: 8 } }
layer { name: "b" type: "Concat" multinode { bw: 8 }, concat_param { axis: 2 } }
layers { name: "c" multinode { } }
"""


def faults(text):
    return faults_of(text, caffe_pb2.NetParameter())


def net(text):
    return parse_text(text, caffe_pb2.NetParameter(), "net.prototxt")


def test_all_faults_are_found_with_their_places():
    found = sorted(faults(MANY), key=lambda fault: (fault.line, fault.column))
    assert [(fault.line, fault.column, fault.kind) for fault in found] == [each[:3] for each in FOUND]
    assert all(sentence in fault.sentence for fault, (*_, sentence) in zip(found, FOUND))
    assert [fault.name for fault in found if fault.hint] == ["LayerParameter.multinode"]


def test_the_rest_can_be_read():
    rest = without(MANY, faults(MANY))
    assert len(rest) == len(MANY) and rest.count("\n") == MANY.count("\n")
    message = net(rest)
    assert message.layer[0].name == "c" and list(message.layer[0].convolution_param.pad) == [1]
    assert message.layers[0].bottom == ["x"] and not message.input_dim


def test_the_error_is_the_first_and_counts_the_others():
    with pytest.raises(PrototxtError) as error:
        net(MANY)
    sentence = 'LayerParameter has no field "multinode", it belongs to Intel\'s Caffe'
    more = "12 more of its fields cannot be read: `minicaffe check net.prototxt` lists all"
    assert str(error.value) == f"net.prototxt:3:33: {sentence}; {more}"


@pytest.mark.parametrize(
    "text",
    [
        'name: "a',
        "layer { name: $ }",
        "layer { relu_param ",
        "layer } ",
        "name: [",
        "x { ] }",
        "x: {{{{",
        "x: ?",
        "1.5",
    ],
)
def test_faults_end_at_the_first_error_of_the_syntax(text):
    head = "layer { nam: 1 }\n"
    assert [fault.line for fault in faults(head + text)][:1] == [1]
    with pytest.raises(PrototxtError, match=r"prototxt:[23]:"):
        net(without(head + text, faults(head + text)[:1]) + "\n")


@pytest.mark.parametrize("depth", [10, 100_000])
def test_deep_brackets_are_passed_over(depth):
    (fault,) = faults("a " + "{ b " * depth + "{}" + "}" * depth)
    assert fault.name == "NetParameter.a"


def test_a_text_without_faults_has_none():
    text = (
        "name: 'a' \"b\"; input_dim: [1, 2] layer < relu_param: { negative_slope: -1e-3 }, loss_weight: [] > input: ''"
    )
    assert not faults(text) and net(text).name == "ab"


def test_a_hint_is_an_error_that_names_the_flag():
    with pytest.raises(PrototxtError, match="2:3: .*Intel.*; it changes no result: --skip-unknown-fields reads on"):
        net(HINTS)


def test_hints_are_left_out_with_one_warning(caplog):
    with skipping(), caplog.at_level(logging.WARNING, "minicaffe"):
        message = net(HINTS)
    assert message.layer[1].concat_param.axis == 2 and message.layer[0].top == ["y"]
    (record,) = caplog.records
    names = "LayerParameter.multinode (2 times), V1LayerParameter.multinode"
    assert record.getMessage() == f"net.prototxt: left out {names}, which change no result"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("layer { convolution_param { fusion_type: 1 } }", "ConvolutionParameter has no field"),
        ("layer { pooling_param { pool: AVG } }", "did you mean"),
        ("layer { name: 'a' name: 'b' }", "given more than once"),
        ("layer {", "[Ee]xpected"),
    ],
)
def test_anything_else_is_refused_all_the_same(text, sentence):
    with skipping(), pytest.raises(PrototxtError, match=sentence) as error:
        net(HINTS + text)
    assert "quantization" not in str(error.value)


def test_the_choice_is_restored():
    assert not skips_hints()
    skip_unknown_fields()
    try:
        assert skips_hints() and len(net(HINTS).layer) == 2
        with skipping(False), pytest.raises(PrototxtError):
            net(HINTS)
        assert skips_hints()
    finally:
        skip_unknown_fields(False)


def test_fields_inside_a_field_that_is_left_out():
    text = 'layer { name: "a" relu_param { } relu_param { hole: 1 } hole: 2 }'
    found = faults(text)
    assert [fault.name for fault in found] == [
        "LayerParameter.relu_param", "ReLUParameter.hole", "LayerParameter.hole"]  # fmt: skip
    rest = without(text, found)
    assert len(rest) == len(text) and rest.split() == ["layer", "{", "name:", '"a"', "relu_param", "{", "}", "}"]
