"""Fields that forks repeat: the first value is in the field, as in master, the others are beside it."""

import pytest

from minicaffe.errors import PrototxtError
from minicaffe.proto import caffe_pb2, format_text, parse_text
from minicaffe.proto.further import FURTHER, all_values

SIZES = "resize_param { height: 1 } # first\n resize_param { height: 2 }, resize_param { height: 3 }"


def transform(text):
    return parse_text(text, caffe_pb2.TransformationParameter())


@pytest.mark.parametrize(
    "text",
    [
        SIZES,
        "resize_param: [{ height: 1 }, { height: 2 }, { height: 3 }]",
        "resize_param { height: 1 } more_resize_param: [{ height: 2 }, { height: 3 }]",
    ],
)
def test_the_first_value_stays_single(text):
    param = transform(text)
    assert param.resize_param.height == 1 and [each.height for each in param.more_resize_param] == [2, 3]
    assert [each.height for each in all_values(param, "resize_param")] == [1, 2, 3]
    assert all_values(param, "noise_param") == []


def test_all_are_printed_under_one_name():
    net = parse_text(f"layer {{ transform_param {{ {SIZES} }} }}", caffe_pb2.NetParameter())
    text = format_text(net)
    assert text.count("resize_param {") == 3 and "more" not in text
    assert parse_text(text, caffe_pb2.NetParameter()) == net


def test_numbers():
    for text in ("device_id: [4, 5, 6]", "device_id: 4 device_id: 5 device_id: 6"):
        solver = parse_text(text, caffe_pb2.SolverParameter())
        assert all_values(solver, "device_id") == [4, 5, 6] and solver.device_id == 4
        assert format_text(solver) == "device_id: 4\ndevice_id: 5\ndevice_id: 6\n"
    assert all_values(parse_text("device_id: [4]", caffe_pb2.SolverParameter()), "device_id") == [4]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("device_id: 1 device_id: x", "line 1, column 25: couldn't parse integer: x"),
        ("device_id: [1, 2] device_id: 3\nbase_lr: x", "line 2, column 10: couldn't parse float: x"),
        ("device_id: [1, 2] bse_lr: 3", "line 1, column 19: SolverParameter has no field"),
    ],
)
def test_errors_have_the_place_in_the_text(text, place):
    with pytest.raises(PrototxtError) as error:
        parse_text(text, caffe_pb2.SolverParameter())
    assert place in str(error.value)


def test_the_table_has_fields_of_one_type():
    for name, more in FURTHER.items():
        message, field = name.split(".")
        fields = getattr(caffe_pb2, message).DESCRIPTOR.fields_by_name
        assert (fields[field].type, fields[field].message_type) == (fields[more].type, fields[more].message_type)
