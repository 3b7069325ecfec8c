"""Fields of messages set by text: paths, values of each type, and what wrong ones are called."""

import re

import pytest

from minicaffe.errors import PrototxtError
from minicaffe.proto import caffe_pb2, format_text, parse_text
from minicaffe.proto.fields import Step, parse_setting, set_field, value_of

SOLVER = """base_lr: 0.1 test_iter: 10 test_iter: 20 stepvalue: 5 snapshot_prefix: "a"
net_param { name: "n"
  layer { name: "data" type: "Data" include { phase: TRAIN } data_param { batch_size: 100 } }
  layer { name: "data" type: "Data" include { phase: TEST } data_param { batch_size: 50 } }
  layer { name: "conv.1" type: "Convolution" param { lr_mult: 1 } param { lr_mult: 2 } } }"""


def changed(*settings: str) -> str:
    """The solver's text after settings, in one line."""
    solver = parse_text(SOLVER, caffe_pb2.SolverParameter())
    for setting in settings:
        set_field(solver, parse_setting(setting))
    return re.sub(r"(?<=\d)\.0\b", "", " ".join(format_text(solver).split()))


def test_a_path_is_taken_apart():
    setting = parse_setting(" net_param.layer[conv.1].param[0].lr_mult = 2=2 ".replace(" = ", "="))
    assert setting.path == (Step("net_param", ""), Step("layer", "conv.1"), Step("param", "0"), Step("lr_mult", ""))
    assert setting.value == "2=2" and setting.name == "net_param.layer[conv.1].param[0].lr_mult"


@pytest.mark.parametrize("text", ["", "base_lr", "=1", "a b=1", "a.=1", ".a=1", "a[=1", "--base_lr=1"])
def test_what_is_no_setting(text):
    with pytest.raises(PrototxtError, match="expected FIELD=VALUE, such as base_lr=0.01"):
        parse_setting(text)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("base_lr=0.01", "base_lr: 0.01"),
        ("base_lr=-1e-3", "base_lr: -0.001"),
        ("base_lr=inf", "base_lr: inf"),
        ("max_iter=7", "max_iter: 7"),
        ("debug_info=true", "debug_info: true"),
        ("debug_info=0", "debug_info: false"),
        ("solver_mode=CPU", "solver_mode: CPU"),
        ("snapshot_prefix=runs/a b", 'snapshot_prefix: "runs/a b"'),
        ("snapshot_prefix=", 'snapshot_prefix: ""'),
        (r'snapshot_prefix=C:\a"b', r'snapshot_prefix: "C:\\a\"b"'),
        ("snapshot_prefix='x, y'", 'snapshot_prefix: "x, y"'),
        ("snapshot_prefix=网络", 'snapshot_prefix: "网络"'),
        ("test_iter=50", "test_iter: 50 base_lr: 0.1"),
        ("stepvalue=100,200", "stepvalue: 100 stepvalue: 200"),
        ("stepvalue=[1, 2, 3]", "stepvalue: 1 stepvalue: 2 stepvalue: 3"),
        ("test_iter[1]=7", "test_iter: 10 test_iter: 7"),
        ("weights=a.caffemodel,b.caffemodel", 'weights: "a.caffemodel" weights: "b.caffemodel"'),
        ('weights="a,b"', 'weights: "a,b"'),
        ("train_state.level=3", "train_state { level: 3 }"),
        ('train_state=level: 3 stage: "x"', 'train_state { level: 3 stage: "x" }'),
        ("train_state={ level: 3 }", "train_state { level: 3 }"),
        ('test_state=stage: "x"', 'test_state { stage: "x" }'),
        ("net_param.layer[conv.1].param[1].lr_mult=0", "param { lr_mult: 1 } param { lr_mult: 0 }"),
        ("net_param.layer[1].data_param.batch_size=8", "include { phase: TEST } data_param { batch_size: 8 }"),
    ],
)  # fmt: skip
def test_values_of_each_type(setting, expected):
    assert expected in changed(setting)


def test_a_name_of_several_layers_is_all_of_them():
    assert changed("net_param.layer[data].data_param.batch_size=8").count("batch_size: 8") == 2


def test_an_empty_value_clears_a_repeated_field():
    assert "stepvalue" not in changed("stepvalue=")


def test_appending():
    solver = parse_text(SOLVER, caffe_pb2.SolverParameter())
    set_field(solver, parse_setting("stepvalue=9"), append=True)
    assert list(solver.stepvalue) == [5, 9]
    set_field(solver, parse_setting('test_state=stage: "x"'))
    set_field(solver, parse_setting("test_state=level: 2"), append=True)
    assert [state.level for state in solver.test_state] == [0, 2]


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("base_lrr=1", 'SolverParameter has no field "base_lrr" (did you mean "base_lr"?)'),
        ("net_param.layers2[0].x=1", 'NetParameter has no field "layers2" (did you mean "layers"?)'),
        ("base_lr=fast", "expected a number"),
        ("base_lr=", "expected a number"),
        ("max_iter=1.5", "expected a whole number"),
        ("test_iter=1,x", "expected a whole number"),
        ("debug_info=maybe", "expected true or false"),
        ("solver_mode=GPUS", 'SolverMode has no value "GPUS" (did you mean "GPU"?)'),
        ("max_iter=1 momentum: 3", "expected a value of max_iter and nothing else"),
        ("max_iter=1 max_iter: 3", "expected a whole number"),
        ("train_state={ lvl: 3 }", 'NetState has no field "lvl" (did you mean "level"?)'),
        ("base_lr.x=1", "base_lr of SolverParameter has no fields of its own: it is a number"),
        ("base_lr[0]=1", "base_lr of SolverParameter is not repeated: leave out [0]"),
        ("train_state[0].level=1", "train_state of SolverParameter is not repeated: leave out [0]"),
        ("test_iter[2]=1", "test_iter has 2 elements, and none is [2]"),
        ("net_param.layer.name=x", "layer has 3 elements: name one of them, as in layer[data]"),
        ("net_param.layer[conv1].name=x", 'layer has 3 elements, and none is [conv1] (did you mean "conv.1"?)'),
        ("net_param.layer[-1].name=x", "layer has 3 elements, and none is [-1]"),
    ],
)
def test_wrong_settings(setting, sentence):
    with pytest.raises(PrototxtError) as caught:
        changed(setting)
    assert caught.value.args[0] == sentence


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("base_lr=1", "0.1"),
        ("test_iter=1", "10, 20"),
        ("max_iter=1", "unset"),
        ("train_state.level=1", "unset"),
        ("net_param.layer[data].data_param.batch_size=1", "100, 50"),
        ("net_param.layer[conv.1].param=lr_mult: 3", "param { lr_mult: 1 } param { lr_mult: 2 }"),
    ],
)
def test_present_values(setting, value):
    solver = parse_text(SOLVER, caffe_pb2.SolverParameter())
    assert value_of(solver, parse_setting(setting)).replace(".0 }", " }") == value
