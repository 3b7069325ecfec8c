"""AutoCrop: the offset comes from the layers on the paths to both bottoms; nets of HED and RCF are recognised."""

import numpy as np
import pytest

import minicaffe
from minicaffe.core.passes import filter_net
from minicaffe.errors import LayerError, NetError
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.proto.upgrade import upgrade_net
from minicaffe.testing import Case, LayerProperties, run_layer, top_of

DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 1, 40, 44] } } }'


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'AutoCrop' crop_param { offset: 1 offset: 2 }", [(2, 3, 4, 6), (2, 1, 3, 4)]),
        Case("type: 'AutoCrop' crop_param { offset: 0 }", [(1, 2, 4, 5), (1, 2, 4, 5)]),
    ]


def layer(kind, bottom, top, text=""):
    bottoms = " ".join(f'bottom: "{name}"' for name in bottom.split())
    return f'layer {{ name: "{top}" type: "{kind}" {bottoms} top: "{top}" {text} }}'


def window(kind, bottom, top, text):
    field = "pooling_param" if kind == "Pooling" else "convolution_param"
    return layer(kind, bottom, top, f"{field} {{ {text} }}")


def net(*layers):
    return parse_text("\n".join(layers), caffe_pb2.NetParameter())


def offsets(*layers):
    return [list(each.crop_param.offset) for each in filter_net(net(*layers)).layer if each.type == "AutoCrop"]


def hed():
    """The five stages of HED: convolutions of 3 x 3 that pad by 1, the first by 35, and maps upsampled to the image."""
    layers, blob = [DATA], "data"
    for stage in range(5):
        for part in range(2 if stage < 2 else 3):
            top = f"conv{stage}_{part}"
            pad = 35 if (stage, part) == (0, 0) else 1
            layers += [window("Convolution", blob, top, f"num_output: 1 kernel_size: 3 pad: {pad}"),
                       layer("ReLU", top, top)]  # fmt: skip
            blob = top
        step = 2**stage
        layers.append(window("Convolution", blob, f"score{stage}", "num_output: 1 kernel_size: 1"))
        if stage:
            text = f"num_output: 1 kernel_size: {2 * step} stride: {step}"
            layers.append(window("Deconvolution", f"score{stage}", f"up{stage}", text))
        layers.append(layer("AutoCrop", f"{'up' if stage else 'score'}{stage} data", f"crop{stage}"))
        if stage < 4:
            layers.append(window("Pooling", blob, f"pool{stage}", "kernel_size: 2 stride: 2"))
            blob = f"pool{stage}"
    return layers


def test_the_offsets_of_hed():
    """Those that ports of HED write by hand."""
    assert offsets(*hed()) == [[34, 34], [35, 35], [36, 36], [38, 38], [42, 42]]


def test_a_net_cuts_where_positions_coincide():
    made = minicaffe.Net(net(*hed()), minicaffe.TEST)
    assert made.blobs["crop4"].shape == made.blobs["crop0"].shape == (1, 1, 40, 44)
    made.forward()
    np.testing.assert_array_equal(made.blobs["crop3"].data, made.blobs["up3"].data[:, :, 38:78, 38:82])


def test_directions_of_different_lengths_a_dilation_and_a_given_offset():
    assert offsets(
        DATA,
        window("Convolution", "data", "conv", "num_output: 1 kernel_h: 3 kernel_w: 5 pad_h: 4 pad_w: 5"),
        window("Pooling", "conv", "pool", "kernel_size: 3 stride: 1 pad: 2"),
        window("Convolution", "pool", "wide", "num_output: 1 kernel_size: 3 dilation: 2 pad: 3"),
        layer("AutoCrop", "wide data", "crop"),
        layer("AutoCrop", "wide crop", "other"),
        layer("AutoCrop", "wide data", "given", "crop_param { offset: 1 }"),
    ) == [[5, 5], [5, 5], [1]]


@pytest.mark.parametrize(("layers", "words"), [
    ([window("Pooling", "data", "x", "kernel_size: 2 stride: 2")], "a step in the first is 2 and 2 in the second"),
    ([window("Convolution", "data", "x", "num_output: 1 kernel_size: 3")], "the offset, -1 and -1, must be a whole"),
    ([window("Pooling", "data", "x", "kernel_size: 2 pad: 1")], "the offset, 0.5 and 0.5, must be a whole number"),
    ([layer("Flatten", "data", "x")], "no value that both come from was found"),
    ([window("Pooling", "data", "x", "global_pooling: true")], "no value that both come from was found"),
])  # fmt: skip
def test_bottoms_that_cannot_be_aligned(layers, words):
    with pytest.raises(NetError, match=f"layer 'crop' cannot align its bottoms 'x' and 'data': {words}"):
        offsets(DATA, *layers, layer("AutoCrop", "x data", "crop"))


def test_errors_of_the_layer():
    with pytest.raises(LayerError, match="crop_param needs an offset for a layer outside of a net"):
        run_layer("type: 'AutoCrop'", np.zeros((1, 1, 3, 3)), np.zeros((1, 1, 2, 2)))
    with pytest.raises(LayerError, match=r"bottoms must be \(N, C, H, W\), got \(3, 3\) and \(2, 2\)"):
        top_of("type: 'AutoCrop' crop_param { offset: 0 }", np.zeros((3, 3)), np.zeros((2, 2)))


@pytest.mark.parametrize(("fields", "is_hed"), [("", True), ("normalize: true", False)])
def test_losses_and_crops_of_nets_for_edges(fields, is_hed):
    upgraded = upgrade_net(net(
        f'layer {{ name: "data" type: "ImageLabelmapData" top: "data" top: "label" image_data_param {{ {fields} }} }}',
        layer("Crop", "x data", "a"), layer("Crop", "x data", "b", "crop_param { offset: 1 }"),
        layer("SigmoidCrossEntropyLoss", "a label", "c"),
        layer("SigmoidCrossEntropyLoss", "a label", "d", "loss_param { class_balanced: false }"),
    ))  # fmt: skip
    assert [each.type for each in upgraded.layer[1:3]] == ["AutoCrop" if is_hed else "Crop", "Crop"]
    assert [each.loss_param.class_balanced for each in upgraded.layer[3:]] == [is_hed, False]
    plain = net(layer("Crop", "x data", "a"), layer("SigmoidCrossEntropyLoss", "a label", "c"))
    assert upgrade_net(net(layer("Crop", "x data", "a"), layer("SigmoidCrossEntropyLoss", "a label", "c"))) == plain
