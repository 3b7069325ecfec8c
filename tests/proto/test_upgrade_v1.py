"""V1 files, inputs outside layers, BatchNorm's three params."""

import logging

import pytest

from minicaffe.errors import PrototxtError
from minicaffe.proto import caffe_pb2, needs_net_upgrade, parse_text, read_net, upgrade_net, upgrade_v1


def net(text):
    return parse_text(text, caffe_pb2.NetParameter())


def upgraded(text):
    return upgrade_net(net(text))


def layer(text):
    return parse_text(text, caffe_pb2.LayerParameter())


# ------------------------------------------------------------------------------------------------------------- layers


def test_a_layer_with_everything():
    result = upgraded("""
        layers { name: "c" type: CONVOLUTION bottom: "a" top: "b" include { phase: TRAIN } exclude { stage: "x" }
          param: "w" param: "" blob_share_mode: PERMISSIVE blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
          loss_weight: 3 blobs { data: 4 } convolution_param { num_output: 5 } }""").layer[0]
    assert result == layer("""
        name: "c" type: "Convolution" bottom: "a" top: "b" include { phase: TRAIN } exclude { stage: "x" }
        param { name: "w" share_mode: PERMISSIVE lr_mult: 1 decay_mult: 1 } param { name: "" lr_mult: 2 decay_mult: 0 }
        loss_weight: 3 blobs { data: 4 } convolution_param { num_output: 5 }""")


def test_every_v1_type_has_a_name():
    assert set(upgrade_v1.TYPES) == set(caffe_pb2.V1LayerParameter.LayerType.keys())


def test_every_v1_field_has_a_home():
    others = {"layer", *upgrade_v1.PARAM_FIELDS, *upgrade_v1.HINTS, *upgrade_v1.RENAMED}
    fields = set(caffe_pb2.V1LayerParameter.DESCRIPTOR.fields_by_name) - others
    assert fields <= set(caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize(
    "v1, v2",
    [
        ("SOFTMAX_LOSS", "SoftmaxWithLoss"),
        ("EUCLIDEAN_LOSS", "EuclideanLoss"),
        ("IMAGE_DATA", "ImageData"),
        ("IM2COL", "Im2col"),
        ("TANH", "TanH"),
        ("RELU", "ReLU"),
        ("BNLL", "BNLL"),
        ("ABSVAL", "AbsVal"),
        ("NONE", ""),
    ],
)
def test_type_names(v1, v2):
    assert upgraded(f"layers {{ type: {v1} }}").layer[0].type == v2


def test_both_kinds_of_layers_are_an_error():
    with pytest.raises(PrototxtError, match="net 'n': expected either layer or layers, got both: layer 'a' and"):
        upgraded('name: "n" layer { name: "a" } layers { name: "b" }')


def test_parameters_keep_their_values():
    result = upgraded("layers { type: POOLING pooling_param { pool: AVE } } layers { type: LRN lrn_param { k: 2 } }")
    assert [each.type for each in result.layer] == ["Pooling", "LRN"]
    assert result.layer[0].pooling_param.pool == caffe_pb2.PoolingParameter.AVE


# ---------------------------------------------------------------------------------------------- transformation fields


@pytest.mark.parametrize(
    "kind, param", [("DATA", "data_param"), ("IMAGE_DATA", "image_data_param"), ("WINDOW_DATA", "window_data_param")]
)
def test_transformation_moves(kind, param):
    result = upgraded(
        f'layers {{ type: {kind} {param} {{ source: "s" scale: .5 mean_file: "m" crop_size: 3 mirror: true }} }}'
    ).layer[0]
    assert result.transform_param == parse_text(
        'scale: .5 mean_file: "m" crop_size: 3 mirror: true', caffe_pb2.TransformationParameter()
    )
    assert [field.name for field, _ in getattr(result, param).ListFields()] == ["source"]


def test_transformation_of_a_v2_layer_is_ignored_with_a_warning(caplog):
    text = (
        'layer { type: "Data" data_param { scale: .5 mirror: true source: "db" } }'
        'layer { type: "WindowData" window_data_param { scale: .5 } }'
    )
    assert upgraded(text) == net(text)
    assert [record.getMessage() for record in caplog.records] == [
        "net: data_param.mirror, data_param.scale have no effect outside transform_param"
    ]


# ------------------------------------------------------------------------------------------------------------ inputs


def test_input_dim():
    result = upgraded(
        'name: "n" input: "a" input: "b" input_dim: [1, 2, 3, 4] input_dim: [5, 6, 7, 8] '
        'layer { name: "first" bottom: "a" }'
    )
    assert result.layer[0] == layer(
        'name: "input" type: "Input" top: "a" top: "b" '
        "input_param { shape { dim: [1, 2, 3, 4] } shape { dim: [5, 6, 7, 8] } }"
    )
    assert [each.name for each in result.layer] == ["input", "first"]
    assert not (result.input or result.input_dim)


def test_input_shape_wins():
    result = upgraded('input: "a" input_shape { dim: [2, 3] } input_dim: [1, 1, 1, 1]')
    assert [list(shape.dim) for shape in result.layer[0].input_param.shape] == [[2, 3]]


def test_input_in_v1_files():
    result = upgraded('input: "data" input_dim: [1, 3, 4, 4] layers { name: "r" type: RELU bottom: "data" top: "r" }')
    assert [each.type for each in result.layer] == ["Input", "ReLU"]


def test_input_without_shape_vanishes():
    result = upgraded('input: "a" layer { name: "first" }')
    assert [each.name for each in result.layer] == ["first"]
    assert not result.input


@pytest.mark.parametrize(
    "text, message",
    [
        (
            'input: "a" input: "b" input_shape { dim: 1 }',
            "net 'n': expected one input_shape for each of 2 inputs, got 1",
        ),
        ('input: "a" input_dim: [1, 2, 3]', "net 'n': expected four input_dim for each of 1 inputs, got 3"),
    ],
)
def test_input_counts(text, message):
    with pytest.raises(PrototxtError, match=message):
        upgraded('name: "n" ' + text)


# --------------------------------------------------------------------------------------------------------- BatchNorm


def test_three_params_are_frozen():
    result = upgraded(
        'layer { type: "BatchNorm" param { name: "m" lr_mult: 1 share_mode: PERMISSIVE } '
        "param { decay_mult: 2 } param {} }"
    ).layer[0]
    assert list(result.param) == list(
        layer(
            'param { name: "m" lr_mult: 0 decay_mult: 0 share_mode: PERMISSIVE } param { lr_mult: 0 decay_mult: 0 } '
            "param { lr_mult: 0 decay_mult: 0 }"
        ).param
    )


@pytest.mark.parametrize("count", [1, 2, 4])
def test_other_counts_are_left_to_the_layer(count):
    text = 'layer { type: "BatchNorm" ' + "param { lr_mult: 1 } " * count + "}"
    assert upgraded(text) == net(text)


def test_frozen_params_need_nothing():
    assert not needs_net_upgrade(net('layer { type: "BatchNorm" ' + "param { lr_mult: 0 decay_mult: 0 }" * 3 + "}"))
    assert needs_net_upgrade(net('layer { type: "BatchNorm" ' + "param { lr_mult: 0 }" * 3 + "}"))


# ---------------------------------------------------------------------------------------------------------- log lines


def test_one_line_says_what_was_old(tmp_path, caplog):
    path = tmp_path / "old.prototxt"
    path.write_text('input: "d" input_dim: [1, 1, 2, 2] layers { type: RELU bottom: "d" top: "d" }')
    with caplog.at_level(logging.INFO, "minicaffe"):
        read_net(path)
    assert [record.getMessage() for record in caplog.records] == [f"{path}: upgraded V1 layers, input fields"]


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "old.prototxt"
    path.write_text('input: "d" input_dim: 1')
    with pytest.raises(PrototxtError, match=f"^{path}: net '': expected four input_dim"):
        read_net(path)


def test_upgrading_twice_changes_nothing():
    once = upgraded('input: "d" input_dim: [1, 1, 2, 2] layers { name: "b" type: RELU bottom: "d" top: "d" }')
    again = caffe_pb2.NetParameter()
    again.CopyFrom(once)
    assert upgrade_net(again) == once


def test_fields_of_forks_become_those_of_master():
    text = """layers { type: ELTWISE_ACCURACY eltwise_accuracy_param { ignore_label: 255 } }
              layers { type: SOFTMAX_LOSS softmaxloss_param { ignore_label: 9 } strict_dim: false }"""
    accuracy, loss = upgrade_net(parse_text(text, caffe_pb2.NetParameter())).layer
    assert accuracy.type == "Accuracy" and accuracy.accuracy_param.ignore_label == 255
    assert loss.type == "SoftmaxWithLoss" and loss.loss_param.ignore_label == 9
