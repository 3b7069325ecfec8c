"""V0 files: layers { layer { type: "conv" } }."""

import logging

import pytest

from minicaffe.errors import PrototxtError
from minicaffe.proto import caffe_pb2, needs_net_upgrade, parse_text, upgrade_net, upgrade_v0


def net(text):
    return parse_text(text, caffe_pb2.NetParameter())


def upgraded(text):
    return upgrade_net(net(text))


def test_convolution_with_everything():
    result = upgraded("""
        input: "data" input_dim: [1, 3, 9, 9]
        layers {
          layer { name: "conv" type: "conv" num_output: 8 biasterm: false kernelsize: 3 pad: 1 stride: 2 group: 2
                  weight_filler { type: "gaussian" std: .01 } bias_filler { value: 1 }
                  blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0 }
          bottom: "data" top: "conv"
        }""")
    assert result.layer[1] == parse_text(
        """
        name: "conv" type: "Convolution" bottom: "data" top: "conv"
        param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        convolution_param { num_output: 8 bias_term: false kernel_size: 3 pad: 1 stride: 2 group: 2
          weight_filler { type: "gaussian" std: .01 } bias_filler { value: 1 } }""",
        caffe_pb2.LayerParameter(),
    )


@pytest.mark.parametrize(
    "v0, expected",
    [
        (
            'type: "innerproduct" num_output: 5 biasterm: true weight_filler { std: 2 } bias_filler {}',
            'type: "InnerProduct" '
            "inner_product_param { num_output: 5 bias_term: true weight_filler { std: 2 } bias_filler {} }",
        ),
        (
            'type: "pool" pool: AVE kernelsize: 3 stride: 2 pad: 1',
            'type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }',
        ),
        (
            'type: "lrn" local_size: 3 alpha: .1 beta: .5 k: 2',
            'type: "LRN" lrn_param { local_size: 3 alpha: .1 beta: .5 k: 2 }',
        ),
        ('type: "dropout" dropout_ratio: .3', 'type: "Dropout" dropout_param { dropout_ratio: .3 }'),
        ('type: "concat" concat_dim: 0', 'type: "Concat" concat_param { concat_dim: 0 }'),
        (
            'type: "data" source: "db" batchsize: 7 rand_skip: 3 scale: .5 meanfile: "m" cropsize: 4 mirror: true',
            'type: "Data" data_param { source: "db" batch_size: 7 rand_skip: 3 } '
            'transform_param { scale: .5 mean_file: "m" crop_size: 4 mirror: true }',
        ),
        (
            'type: "images" source: "list" batchsize: 7 shuffle_images: true new_height: 3 new_width: 4 rand_skip: 1',
            'type: "ImageData" image_data_param { source: "list" batch_size: 7 shuffle: true '
            "new_height: 3 new_width: 4 "
            "rand_skip: 1 }",
        ),
        (
            'type: "window_data" source: "w" batchsize: 2 det_fg_threshold: .6 '
            "det_bg_threshold: .4 det_fg_fraction: .3 "
            'det_context_pad: 5 det_crop_mode: "square"',
            'type: "WindowData" window_data_param { source: "w" batch_size: 2 fg_threshold: .6 bg_threshold: .4 '
            'fg_fraction: .3 context_pad: 5 crop_mode: "square" }',
        ),
        (
            'type: "hdf5_data" source: "l" batchsize: 2',
            'type: "HDF5Data" hdf5_data_param { source: "l" batch_size: 2 }',
        ),
        (
            'type: "hdf5_output" hdf5_output_param { file_name: "o" }',
            'type: "HDF5Output" hdf5_output_param { file_name: "o" }',
        ),
        ('type: "infogain_loss" source: "H"', 'type: "InfogainLoss" infogain_loss_param { source: "H" }'),
        ('type: "softmax_loss"', 'type: "SoftmaxWithLoss"'),
    ],
)
def test_each_type(v0, expected):
    result = upgraded(f'layers {{ layer {{ name: "l" {v0} }} top: "t" }}')
    assert result.layer[0] == parse_text(f'name: "l" top: "t" {expected}', caffe_pb2.LayerParameter())


def test_padding_folds_into_what_reads_it():
    result = upgraded("""
        input: "data" input_dim: [1, 3, 9, 9]
        layers { layer { name: "pad1" type: "padding" pad: 2 } bottom: "data" top: "pad1" }
        layers { layer { name: "conv1" type: "conv" kernelsize: 5 } bottom: "pad1" top: "conv1" }
        layers { layer { name: "pad2" type: "padding" pad: 1 } bottom: "conv1" top: "pad2" }
        layers { layer { name: "pool2" type: "pool" kernelsize: 3 } bottom: "pad2" top: "pool2" }""")
    assert [layer.name for layer in result.layer] == ["input", "conv1", "pool2"]
    assert list(result.layer[1].bottom) == ["data"]
    assert list(result.layer[1].convolution_param.pad) == [2]
    assert list(result.layer[2].bottom) == ["conv1"]
    assert result.layer[2].pooling_param.pad == 1


@pytest.mark.parametrize(
    "text, message",
    [
        (
            'layers { layer { name: "p" type: "padding" } bottom: "d" top: "p" }'
            'layers { layer { name: "r" type: "relu" } bottom: "p" top: "r" }',
            "layer 'r': a padding layer can feed only conv and pool, got relu",
        ),
        (
            'layers { layer { name: "p" type: "padding" } bottom: "d" top: "p" }'
            'layers { layer { name: "c" type: "conv" } bottom: "p" bottom: "d" top: "c" }',
            "layer 'c': folding the padding layer 'p' into it takes one bottom",
        ),
        (
            'layers { layer { name: "c" type: "conv" } bottom: "nowhere" top: "c" }',
            "layer 'c': bottom 'nowhere' is produced by no earlier layer",
        ),
        (
            'layers { layer { name: "c" type: "convolve" } bottom: "d" top: "c" }',
            'layer \'c\' has the unknown V0 type "convolve" .did you mean "conv"?',
        ),
    ],
)
def test_what_cannot_be_upgraded(text, message):
    with pytest.raises(PrototxtError, match=message):
        upgraded('input: "d" input_dim: [1, 1, 1, 1]' + text)


def test_field_of_another_type_is_dropped_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING, "minicaffe"):
        result = upgraded('layers { layer { name: "r" type: "relu" kernelsize: 3 } top: "t" }')
    assert result.layer[0] == caffe_pb2.LayerParameter(name="r", type="ReLU", top=["t"])
    assert "layer 'r': a relu layer has no kernelsize; ignored" in caplog.text


def test_weights_come_along():
    result = upgraded(
        'layers { layer { name: "c" type: "conv" blobs { num: 1 channels: 1 height: 1 width: 2 '
        'data: [1, 2] } } bottom: "d" top: "c" } input: "d"'
    )
    assert list(result.layer[0].blobs[0].data) == [1, 2]


def test_every_v0_type_and_field_has_a_home():
    assert set(upgrade_v0.TYPES.values()) <= set(caffe_pb2.V1LayerParameter.LayerType.keys())
    named = {"name", "type", "blobs", "blobs_lr", "weight_decay"}
    resized = {"new_num", "new_channels"}  # of a Reshape layer, which V0 never had
    assert set(caffe_pb2.V0LayerParameter.DESCRIPTOR.fields_by_name) == named | resized | set(upgrade_v0.FIELDS)


def test_new_files_need_nothing():
    assert not needs_net_upgrade(net('layer { name: "x" type: "ReLU" }'))
    assert needs_net_upgrade(net('layers { layer { type: "relu" } }'))


def test_fields_that_the_original_does_not_upgrade_are_ignored():
    result = upgraded(
        'layers { layer { name: "r" type: "relu" new_num: 3 new_channels: 2 } bottom: "x" top: "y" } input: "x"'
    )
    assert [layer.type for layer in result.layer] == ["ReLU"]
