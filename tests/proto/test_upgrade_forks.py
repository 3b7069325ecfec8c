"""NVIDIA's BatchNorm, raw blobs and precision hints."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest

import minicaffe.data
import minicaffe.layers
import minicaffe.solvers
from minicaffe.errors import PrototxtError
from minicaffe.proto import caffe_pb2, format_text, parse_text, upgrade_net
from minicaffe.proto.upgrade_forks import APPLIED_SOLVER_FIELDS, FIRST_FORK_NUMBER, UNUSED_FIELDS
from minicaffe.testing import top_of


def net(text):
    return parse_text(text, caffe_pb2.NetParameter())


def upgraded(text):
    return upgrade_net(net(text))


FROZEN = "param { lr_mult: 0 decay_mult: 0 }" * 3


# ------------------------------------------------------------------------------------------------- BatchNorm + Scale


def test_scale_bias_becomes_a_scale_layer():
    result = upgraded(
        'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" '
        "batch_norm_param { scale_bias: true moving_average_fraction: .9 eps: 1e-4 } }"
        'layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }'
    )
    assert result == net(
        'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" '
        "batch_norm_param { moving_average_fraction: .9 eps: 1e-4 } }"
        'layer { name: "bn_scale" type: "Scale" bottom: "y" top: "y" '
        "scale_param { bias_term: true of_batch_norm: true } }"
        'layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }'
    )


def test_fillers_alone_say_it_too():
    scale = upgraded(
        'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "x" include { phase: TEST } '
        "batch_norm_param { scale_filler { value: 2 } bias_filler { value: 3 } } }"
    ).layer[1]
    assert scale == parse_text(
        'name: "bn_scale" type: "Scale" bottom: "x" top: "x" include { phase: TEST } '
        "scale_param { filler { value: 2 } bias_term: true bias_filler { value: 3 } of_batch_norm: true }",
        caffe_pb2.LayerParameter(),
    )


def test_plain_batch_norm_is_left_alone():
    text = 'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" batch_norm_param { eps: 1e-6 } }'
    assert upgraded(text) == net(text)


@pytest.mark.parametrize(
    "params, statistics, learned",
    [
        ("", "", ""),
        ("param { lr_mult: 1 }" * 3, FROZEN, ""),
        (
            "param { lr_mult: 0 }" * 3 + "param { lr_mult: 3 } param { lr_mult: 4 }",
            FROZEN,
            "param { lr_mult: 3 } param { lr_mult: 4 }",
        ),
        (
            "param { lr_mult: 3 } param { lr_mult: 4 } param { lr_mult: 0 } param { lr_mult: 0 }",
            "",
            "param { lr_mult: 3 } param { lr_mult: 4 }",
        ),
    ],
)
def test_params_go_where_their_blobs_go(params, statistics, learned):
    text = f'layer {{ type: "BatchNorm" batch_norm_param {{ scale_bias: true }} {params} }}'
    batch_norm, scale = upgraded(text).layer
    assert batch_norm.param == parse_text(statistics, caffe_pb2.LayerParameter()).param
    assert scale.param == parse_text(learned, caffe_pb2.LayerParameter()).param


def test_small_eps_is_what_cudnn_makes_of_it():
    assert upgraded('layer { type: "BatchNorm" batch_norm_param { scale_bias: true eps: 1e-9 } }').layer[
        0
    ].batch_norm_param.eps == pytest.approx(1e-5)


def test_the_new_name_is_free():
    result = upgraded(
        'layer { name: "bn" type: "BatchNorm" batch_norm_param { scale_bias: true } }'
        'layer { name: "bn_scale" type: "Scale" }'
    )
    assert [each.name for each in result.layer] == ["bn", "bn_scale_", "bn_scale"]


def test_train_and_test_layers_of_one_name_get_scales_of_one_name():
    one = 'layer {{ name: "bn" type: "BatchNorm" include {{ phase: {} }} batch_norm_param {{ scale_bias: true }} }}'
    names = [each.name for each in upgraded(one.format("TRAIN") + one.format("TEST")).layer]
    assert names == ["bn", "bn_scale", "bn", "bn_scale"]


def weights(blobs):
    """Return a weight file's net of one BatchNorm with these blobs, of NVIDIA's shape 1xCx1x1 except the factor."""
    message = caffe_pb2.NetParameter()
    layer = message.layer.add(name="bn", type="BatchNorm", bottom=["x"], top=["y"])
    for values in blobs:
        layer.blobs.add(data=values, num=1, channels=len(values), height=1, width=1)
    return message


def test_five_blobs_are_divided():
    result = upgrade_net(weights([[-1, 2], [3, 4], [1], [5, -6], [-7, 8]]))
    assert [each.name for each in result.layer] == ["bn", "bn_scale"]
    values = [[list(blob.data) for blob in each.blobs] for each in result.layer]
    assert values == [[[-1, 2], [3, 4], [1]], [[5, -6], [-7, 8]]]
    assert [[list(blob.shape.dim) for blob in each.blobs] for each in result.layer] == [[[2], [2], [1]], [[2], [2]]]
    assert not result.layer[0].blobs[0].HasField("num")


def test_older_order_shows_in_a_negative_variance():
    result = upgrade_net(weights([[5, -6], [-7, 8], [1], [-1, 2], [3, 4]]))
    values = [[list(blob.data) for blob in each.blobs] for each in result.layer]
    assert values == [[[-1, 2], [3, 4], [1]], [[5, -6], [-7, 8]]]


def test_three_blobs_only_lose_their_axes():
    result = upgrade_net(weights([[1, 2], [3, 4], [1]]))
    assert [each.name for each in result.layer] == ["bn"]
    assert [list(blob.shape.dim) for blob in result.layer[0].blobs] == [[2], [2], [1]]
    again = caffe_pb2.NetParameter()
    again.CopyFrom(result)
    assert upgrade_net(again) == result


def test_four_axes_in_the_newer_field():
    message = caffe_pb2.NetParameter()
    message.layer.add(type="BatchNorm").blobs.add(data=[1, 2, 3]).shape.dim.extend([1, 3, 1, 1])
    message.layer.add(type="Convolution").blobs.add(data=[1, 2, 3]).shape.dim.extend([1, 3, 1, 1])
    assert [list(each.blobs[0].shape.dim) for each in upgrade_net(message).layer] == [[3], [1, 3, 1, 1]]


# ----------------------------------------------------------------------------------------------------------- raw blobs


@pytest.mark.parametrize("kind, dtype", [("FLOAT", "<f4"), ("FLOAT16", "<f2"), ("DOUBLE", "<f8")])
def test_raw_blobs(kind, dtype):
    values = np.array([0.5, -2, 3], dtype)
    message = caffe_pb2.NetParameter()
    message.layer.add(name="c").blobs.add(
        raw_data=values.tobytes(),
        raw_data_type=caffe_pb2.Type.Value(kind),
        raw_diff=(2 * values).tobytes(),
        raw_diff_type=caffe_pb2.Type.Value(kind),
    )
    blob = upgrade_net(message).layer[0].blobs[0]
    prefix = "double_" if kind == "DOUBLE" else ""
    assert list(getattr(blob, prefix + "data")) == [0.5, -2, 3]
    assert list(getattr(blob, prefix + "diff")) == [1, -4, 6]
    assert {field.name for field, _ in blob.ListFields()} == {prefix + "data", prefix + "diff"}


def test_raw_bytes_that_are_no_whole_number():
    message = caffe_pb2.NetParameter()
    message.layer.add(name="c").blobs.add(raw_data=b"123", raw_data_type=caffe_pb2.FLOAT)
    with pytest.raises(PrototxtError, match="layer 'c': 3 bytes of raw_data are no whole number of FLOAT"):
        upgrade_net(message)
    message.layer[0].blobs[0].raw_data_type = caffe_pb2.INT
    with pytest.raises(PrototxtError, match="expected raw_data of type FLOAT, FLOAT16 or DOUBLE, got INT"):
        upgrade_net(message)


# --------------------------------------------------------------------------------------------------------------- hints


def test_hints_are_accepted_with_one_line(caplog):
    text = 'default_backward_type: FLOAT16 layer { name: "c" backward_math: FLOAT }'
    with caplog.at_level(logging.INFO, "minicaffe"):
        assert upgraded(text) == net(text)
    assert [record.getMessage() for record in caplog.records] == [
        "net: default_backward_type, backward_math only tune the original fork and have no effect here"
    ]


def test_what_would_change_results_is_a_warning(caplog):
    text = (
        'bn_stats_batch_size: 2 layer { type: "BatchNorm" batch_norm_param { stats_batch_size: 2 } }'
        'layer { type: "Dropout" dropout_param { scale_train: false sample_weights_test: true } }'
        'layer { type: "SoftmaxWithLoss" loss_param { weight_by_label_freqs: true class_weighting: [1, 2] } }'
    )
    with caplog.at_level(logging.WARNING, "minicaffe"):
        assert upgraded(text) == net(text)
    assert [record.getMessage() for record in caplog.records] == [
        "net: bn_stats_batch_size, batch_norm_param.stats_batch_size are a fork's and not applied"
    ]


def test_no_code_reads_the_fields_that_are_called_not_applied():
    of_forks = {each.name for each in caffe_pb2.SolverParameter.DESCRIPTOR.fields if each.number >= FIRST_FORK_NUMBER}
    modules = (minicaffe.layers, minicaffe.solvers, minicaffe.data)
    code = "".join(path.read_text() for module in modules for path in Path(module.__file__).parent.rglob("*.py"))
    assert "scale_train" in code  # the search finds a field that is implemented
    for name in {field for _, field in UNUSED_FIELDS} | of_forks.difference(APPLIED_SOLVER_FIELDS):
        assert not re.search(rf"\b{name}\b", code), name


# ------------------------------------------------------------------------------------------- Eltwise of one bottom


def test_a_sum_of_one_term_becomes_a_power():
    """As in FlowNet 2.0's nets."""
    text = 'layer { name: "s" type: "Eltwise" bottom: "x" top: "y" eltwise_param { operation: SUM coeff: 0.5 } }'
    assert upgraded(text) == net('layer { name: "s" type: "Power" bottom: "x" top: "y" power_param { scale: 0.5 } }')
    plain = 'layer { name: "s" type: "Eltwise" bottom: "x" bottom: "z" top: "y" eltwise_param { coeff: [1, 2] } }'
    assert upgraded(plain) == net(plain)
    product = 'layer { name: "s" type: "Eltwise" bottom: "x" top: "y" eltwise_param { operation: PROD } }'
    assert upgraded(product) == net(product)


@pytest.mark.parametrize(("text", "dilation"), [
    ("hole: 2", [2]), ("hole_h: 3", [3, 1]), ("hole_h: 3 hole_w: 4", [3, 4]), ("dilation: 5", [5]), ("", []),
])  # fmt: skip
def test_holes_are_a_dilation(text, dilation):
    for kind in ("layer { type: 'Convolution'", "layers { type: CONVOLUTION"):
        net = upgrade_net(parse_text(f"{kind} convolution_param {{ {text} }} }}", caffe_pb2.NetParameter()))
        param = net.layer[0].convolution_param
        assert list(param.dilation) == dilation and not param.HasField("hole") and not param.HasField("hole_h")


def test_a_hole_and_a_dilation():
    net = parse_text("layer { name: 'c' convolution_param { hole: 2 dilation: 2 } }", caffe_pb2.NetParameter())
    with pytest.raises(PrototxtError, match="layer 'c': expected either dilation or hole, got both"):
        upgrade_net(net)


def test_fields_with_another_name():
    text = 'layer {{ type: "Data" data_param {{ {} }} }} layer {{ type: "ImageSegData" image_data_param {{ {} }} }}'
    assert upgraded(text.format("random_order: true", "has_label: false")) == net(
        text.format("shuffle: true", "label_type: NONE")
    )
    assert upgraded(text.format("random_order: false", "has_label: true")) == net(text.format("shuffle: false", ""))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("BN bn_param { bn_mode: INFERENCE }", '"BN" bn_param { bn_mode: INFERENCE }'),
        ("INTERP interp_param { zoom_factor: 8 }", '"Interp" interp_param { zoom_factor: 8 }'),
        ("PADDING padding_param { pad_beg: -7 }", '"Padding" padding_param { pad_beg: -7 }'),
        ("SOFTMAX_LOSS softmaxloss_param { ignore_label: 9 }", '"SoftmaxWithLoss" loss_param { ignore_label: 9 }'),
    ],
)
def test_layers_of_the_old_format_that_only_forks_have(old, new):
    assert upgraded(f"layers {{ type: {old} }}") == net(f"layer {{ type: {new} }}")


def test_padding_of_the_old_format_crops():
    rows = np.arange(2 * 3 * 20 * 21.0).reshape(2, 3, 20, 21)
    text = "layers { type: PADDING padding_param { pad_beg: -3 pad_end: -8 } }"
    (layer,) = upgraded(text).layer
    assert np.array_equal(top_of(format_text(layer), rows), rows[:, :, 3:-8, 3:-8])
