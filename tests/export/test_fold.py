"""Folding: each layer by itself, what stays and why, random nets, and nets of the zoo."""

import logging

import numpy as np
import pytest

from helpers.foldable import BN, CONV, PLAIN, RELU, SCALE, data, net_of, outputs, random_net
from helpers.nets import layer_text, net_from_text
from helpers.trained import randomize
from minicaffe import TEST, TRAIN, Net
from minicaffe.errors import ExportError, SnapshotError
from minicaffe.export import fold as fold_module
from minicaffe.export.fold import fold
from minicaffe.models import zoo

NUMBER = "scale_param { axis: 0 num_axes: 0 }"


def types(folded):
    return [layer.type for layer in folded.param.layer if layer.type != "Input"]


def check(net, expected):
    """Fold a net; the types of its layers are as expected, and so are its outputs."""
    before = {layer.name: [blob.data.copy() for blob in layer.blobs] for layer in net.layers}
    folded = fold(net)
    assert types(folded) == expected.split()
    assert folded.difference.exact <= 1e-12 and folded.difference.stored <= 1e-6
    assert folded.after == len(folded.param.layer) and folded.before >= folded.after
    for layer in net.layers:  # which is not changed
        for blob, values in zip(layer.blobs, before[layer.name]):
            np.testing.assert_array_equal(blob.data, values)
    old, new = outputs(net), outputs(folded.net)
    assert old.keys() == new.keys()
    for name in old:
        np.testing.assert_allclose(new[name], old[name], rtol=0, atol=2e-6 * np.abs(old[name]).max())
    return folded


# -- into the product before -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        "num_output: 4 kernel_size: 3",
        "num_output: 4 kernel_size: 3 bias_term: false pad: 1 stride: 2",
        "num_output: 6 kernel_size: 2 group: 2 dilation: 2",
        "num_output: 4 kernel_size: 3 group: 4 bias_term: false",
        "num_output: 8 kernel_size: 3 group: 4",
    ],
)
@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_convolutions(kind, fields):
    net = net_of(layer_text("conv", kind, "data", "conv", f"convolution_param {{ {fields} }}"), BN, SCALE)
    folded = check(net, kind)
    assert [(each.name, each.into) for each in folded.folded] == [("bn", "conv"), ("scale", "conv")]
    assert folded.param.layer[1].convolution_param.bias_term


@pytest.mark.parametrize("kind", ["ConvolutionDepthwise", "DepthwiseConvolution"])
def test_depthwise_types(kind):
    conv = layer_text(
        "conv", kind, "data", "conv", "convolution_param { num_output: 4 kernel_size: 3 bias_term: false }"
    )
    check(net_of(conv, BN, SCALE), kind)


@pytest.mark.parametrize("shape", [(2, 4, 7), (2, 4, 5, 5, 5)])
@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_other_numbers_of_axes(kind, shape):
    conv = layer_text("conv", kind, "data", "conv", "convolution_param { num_output: 6 kernel_size: 3 group: 2 }")
    check(net_of(conv, BN, SCALE, shape=shape), kind)


@pytest.mark.parametrize("transpose", ["true", "false"])
@pytest.mark.parametrize("bias", ["true", "false"])
def test_inner_product(transpose, bias):
    fields = f"inner_product_param {{ num_output: 3 transpose: {transpose} bias_term: {bias} }}"
    check(net_of(layer_text("conv", "InnerProduct", "data", "conv", fields), BN, SCALE), "InnerProduct")


@pytest.mark.parametrize(
    ("layer", "bias"),
    [
        (layer_text("a", "BatchNorm", "conv", "a"), True),
        (layer_text("a", "Scale", "conv", "a"), False),
        (layer_text("a", "Scale", "conv", "a", "scale_param { bias_term: true }"), True),
        (layer_text("a", "Scale", "conv", "a", NUMBER), False),
        (layer_text("a", "Bias", "conv", "a"), True),
        (layer_text("a", "Bias", "conv", "a", "bias_param { num_axes: 0 }"), True),
        (layer_text("a", "Power", "conv", "a", "power_param { scale: 0.3 }"), False),
        (layer_text("a", "Power", "conv", "a", "power_param { scale: -2 shift: 0.5 }"), True),
        (layer_text("a", "BN", "conv", "a", "bn_param { eps: 1e-3 }"), True),
        (layer_text("a", "BN", "conv", "a", "bn_param { bn_mode: INFERENCE }"), True),
        (layer_text("a", "BN", "conv", "a", "bn_param { frozen: true }"), True),
        (layer_text("a", "Dropout", "conv", "a", "dropout_param { scale_train: false }"), False),
    ],
)
def test_each_layer_alone(layer, bias):
    folded = check(net_of(PLAIN, layer), "Convolution")
    assert folded.param.layer[1].convolution_param.bias_term == bias
    assert [blob.shape for blob in folded.net.layers[1].blobs] == [(4, 4, 3, 3), (4,)][: 1 + bias]
    check(net_of(PLAIN, layer.replace('top: "a"', 'top: "conv"')), "Convolution")  # in place


def test_batch_norm_with_five_blobs():
    folded = check(net_of(PLAIN, layer_text("bn", "BatchNorm", "conv", "bn", "batch_norm_param { scale_bias: true }")),
                   "Convolution")  # fmt: skip
    assert [each.name for each in folded.folded] == ["bn", "bn_scale"]


def test_a_chain_of_many():
    layers = [layer_text(f"s{i}", "Scale", f"s{i - 1}" if i else "conv", f"s{i}", NUMBER if i % 2 else "")
              for i in range(5)]  # fmt: skip
    check(net_of(CONV, BN, *layers), "Convolution")


def test_the_top_has_the_name_of_the_last_layers_top():
    net = net_of(CONV, layer_text("bn", "BatchNorm", "conv", "bn"), layer_text("scale", "Scale", "bn", "out"),
                 layer_text("relu", "ReLU", "out", "out"))  # fmt: skip
    folded = check(net, "Convolution ReLU")
    assert list(folded.param.layer[1].top) == ["out"] and list(folded.net.blobs) == ["data", "out"]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_param_of_a_new_bias(count):
    specs = 'param { lr_mult: 0.5 decay_mult: 2 name: "w" }' + "param { lr_mult: 3 }" * (count - 1)
    folded = check(net_of((PLAIN if count < 2 else CONV).replace("} }", f"}} {specs if count else ''} }}"), BN),
                   "Convolution")  # fmt: skip
    found = [(spec.lr_mult, spec.decay_mult, spec.name) for spec in folded.param.layer[1].param]
    assert found == {0: [], 1: [(0.5, 2, "w"), (0.5, 2, "")], 2: [(0.5, 2, "w"), (3, 1, "")]}[count]


# -- into the product behind -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize("fields", ["", NUMBER])
def test_a_factor_in_front_of_a_padded_convolution(kind, fields):
    product = layer_text(
        "conv", kind, "s", "conv", "convolution_param { num_output: 6 kernel_size: 3 pad: 1 group: 2 }"
    )
    check(net_of(layer_text("s", "Scale", "data", "s", fields), product), kind)


@pytest.mark.parametrize("group", [1, 2])
def test_a_term_in_front_of_a_convolution_without_padding(group):
    fields = f"convolution_param {{ num_output: 6 kernel_size: 3 group: {group} bias_term: false }}"
    net = net_of(layer_text("bn", "BatchNorm", "data", "bn"), layer_text("conv", "Convolution", "bn", "conv", fields))
    check(net, "Convolution")


@pytest.mark.parametrize("transpose", ["true", "false"])
def test_in_front_of_an_inner_product(transpose):
    fields = f"inner_product_param {{ num_output: 3 transpose: {transpose} bias_term: false }}"
    scale = layer_text("scale", "Scale", "relu", "relu")
    net = net_of(layer_text("relu", "ReLU", "data", "relu"), layer_text("bn", "BatchNorm", "relu", "relu"), scale,
                 layer_text("ip", "InnerProduct", "relu", "ip", fields))  # fmt: skip
    folded = check(net, "ReLU InnerProduct")
    assert [(each.type, each.name) for each in folded.folded] == [("BatchNorm", "bn"), ("Scale", "scale")]


# -- what stays --------------------------------------------------------------------------------------------------------


SHARED = CONV.replace("} }", '} param { name: "w" } }')


@pytest.mark.parametrize(
    ("layers", "left", "reason"),
    [
        ([CONV, BN.replace(" }", "batch_norm_param { use_global_stats: false } }")], "Convolution BatchNorm",
         "BatchNorm 'bn': it normalizes by the statistics of the batch (use_global_stats: false)"),
        ([CONV, RELU, BN], "Convolution ReLU BatchNorm",
         "BatchNorm 'bn': it follows ReLU 'relu', which has no weights to take it up"),
        ([CONV, layer_text("bn", "BatchNorm", "conv", "bn"), layer_text("sum", "Eltwise", "conv bn", "sum")],
         "Convolution BatchNorm Eltwise",
         "BatchNorm 'bn': its bottom 'conv', the top of Convolution 'conv', is read by Eltwise 'sum' as well"),
        ([CONV, BN, layer_text("scale", "Scale", "conv", "scale"), layer_text("sum", "Eltwise", "conv scale", "sum")],
         "Convolution Scale Eltwise",
         "Scale 'scale': its bottom 'conv', the top of Convolution 'conv', is read by Eltwise 'sum' as well"),
        ([CONV, layer_text("s", "Scale", "conv", "s", "scale_param { num_axes: 3 }")], "Convolution Scale",
         "Scale 's': its parameters of shape (4, 6, 5) are not one number for each channel"),
        ([CONV, layer_text("s", "Bias", "conv", "s", "bias_param { axis: 2 }")], "Convolution Bias",
         "Bias 's': its parameters of shape (6,) are not one number for each channel"),
        ([CONV, layer_text("s", "Scale", "conv data", "s", "scale_param { axis: 0 }")], "Convolution Scale",
         "Scale 's': its factor is a second bottom"),
        ([SHARED, BN, SHARED.replace('"conv"', '"b"')], "Convolution BatchNorm Convolution",
         "BatchNorm 'bn': Convolution 'conv' shares its parameter 'w' with another layer"),
        ([layer_text("bn", "BatchNorm", "data", "bn"), CONV.replace('bottom: "data"', 'bottom: "bn"')],
         "BatchNorm Convolution", "BatchNorm 'bn': it follows Input 'data', which has no weights to take it up; "
         "Convolution 'conv' behind it cannot take it up: the padding is 0, not its term"),
        ([layer_text("bn", "BatchNorm", "data", "bn"),
          layer_text("up", "Deconvolution", "bn", "up", "convolution_param { num_output: 4 kernel_size: 3 }")],
         "BatchNorm Deconvolution", "BatchNorm 'bn': it follows Input 'data', which has no weights to take it up; "
         "Deconvolution 'up' behind it cannot take it up: all inputs do not reach the border"),
        ([layer_text("ip", "InnerProduct", "data", "ip", "inner_product_param { num_output: 4 axis: 2 }"),
          layer_text("s", "Scale", "ip", "s", "scale_param { axis: 2 }")], "InnerProduct Scale",
         "Scale 's': its parameters of shape (4,) are not one number for each channel"),
        ([layer_text("ip", "InnerProduct", "data", "ip", "inner_product_param { num_output: 4 axis: 2 }"),
          layer_text("bn", "BatchNorm", "ip", "bn")], "InnerProduct BatchNorm",
         "BatchNorm 'bn': InnerProduct 'ip' has axis 2, not 1"),
        ([layer_text("c", "Convolution", "data data", "a b", "convolution_param { num_output: 4 kernel_size: 3 }"),
          layer_text("bn", "BatchNorm", "a", "bn")], "Convolution BatchNorm",
         "BatchNorm 'bn': Convolution 'c' has several bottoms"),
        ([layer_text("ip", "InnerProduct", "data", "ip", "inner_product_param { num_output: 4 normalize: true }"),
          layer_text("bn", "BatchNorm", "ip", "bn")], "InnerProduct BatchNorm",
         "BatchNorm 'bn': InnerProduct 'ip' scales its weights to length 1"),
        ([CONV, layer_text("s", "Scale", "conv", "s", "scale_param { max_value: 2 }")], "Convolution Scale",
         "Scale 's': each pass limits its factor"),
        ([CONV, layer_text("bn", "BN", "conv", "bn")], "Convolution BN",
         "BN 'bn': it normalizes by the statistics of the batch"),
        ([CONV, layer_text("bn", "BN", "conv", "bn m v", "bn_param { eps: 1e-3 }")], "Convolution BN",
         "BN 'bn': it has tops for mean and variance"),
    ],
)  # fmt: skip
def test_stays(layers, left, reason):
    folded = check(net_of(*layers), left)
    assert [f"{title}: {why}" for title, why in folded.kept.items()] == [reason]


def test_a_scale_of_a_blob_with_one_axis():
    flat = layer_text("flat", "Reshape", "conv", "flat", "reshape_param { shape { dim: -1 } }")
    net = net_of(CONV, flat, layer_text("s", "Scale", "flat", "s", "scale_param { axis: 0 }"))
    assert check(net, "Convolution Reshape Scale").kept == {
        "Scale 's'": "its parameters of shape (240,) are not one number for each channel"
    }


def test_a_power_of_another_power_is_no_subject():
    net = net_of(CONV, layer_text("p", "Power", "conv", "p", "power_param { power: 2 }"))
    assert check(net, "Convolution Power").kept == {}


def test_several_become_one_scale_where_they_stay():
    pool = layer_text("pool", "Pooling", "data", "pool", "pooling_param { kernel_size: 2 }")
    net = net_of(pool, layer_text("bn", "BatchNorm", "pool", "bn"), layer_text("scale", "Scale", "bn", "bn", NUMBER),
                 layer_text("bias", "Bias", "bn", "out"), layer_text("relu", "ReLU", "out", "relu"))  # fmt: skip
    folded = check(net, "Pooling Scale ReLU")
    assert folded.kept == {"Scale 'scale'": "it follows Pooling 'pool', which has no weights to take it up"}
    assert [each[1:] for each in folded.folded] == [("bn", "Scale", "scale"), ("bias", "Scale", "scale")]
    scale = folded.param.layer[2]
    assert (scale.scale_param.axis, scale.scale_param.num_axes, scale.scale_param.bias_term) == (1, 1, True)
    assert (list(scale.bottom), list(scale.top)) == (["pool"], ["out"])


def test_one_number_becomes_a_scale_of_one_number():
    relu = layer_text("relu", "ReLU", "data", "relu")
    net = net_of(relu, layer_text("a", "Power", "relu", "a", "power_param { scale: 2 }"),
                 layer_text("b", "Scale", "a", "b", NUMBER))  # fmt: skip
    folded = check(net, "ReLU Scale")
    assert [blob.shape for blob in folded.net.layers[2].blobs] == [()]


def test_statistics_that_are_all_zero_are_folded_with_a_warning(caplog):
    net = net_of(CONV, BN)
    for blob in net.layers[2].blobs:
        blob.data[...] = 0
    with caplog.at_level(logging.WARNING, "minicaffe"):
        check(net, "Convolution")
    assert "BatchNorm 'bn': its factor is 0, as all its statistics: it computes x / sqrt(eps)" in caplog.text


def test_numbers_that_are_not_finite():
    net = net_of(CONV, BN)
    net.layers[2].blobs[1].data[...] = -1
    with pytest.raises(ExportError, match="'conv' is not finite on a random batch"):
        with np.errstate(invalid="ignore"):
            fold(net)


# -- layers that compute nothing ---------------------------------------------------------------------------------------


def test_dropout_is_dropped_and_outputs_keep_their_names():
    drop = layer_text("drop", "Dropout", "conv", "drop")
    assert check(net_of(CONV, drop), "Convolution").dropped == ["Dropout 'drop'"]
    check(net_of(CONV, drop, layer_text("bn", "BatchNorm", "drop", "drop")), "Convolution")
    check(net_of(CONV, RELU, drop), "Convolution ReLU")
    check(net_of(CONV, drop, layer_text("relu", "ReLU", "drop", "drop")), "Convolution ReLU")
    check(net_of(CONV, drop, layer_text("relu", "ReLU", "conv", "relu")), "Convolution Dropout ReLU")
    folded = check(net_of(layer_text("drop", "Dropout", "data", "drop"), CONV), "Dropout Convolution")
    assert folded.kept == {"Dropout 'drop'": "its top 'drop' is an output"}


def test_dropout_that_samples_stays():
    drop = layer_text("drop", "Dropout", "conv", "conv", "dropout_param { sample_weights_test: true }")
    net = net_of(layer_text("relu", "ReLU", "data", "data"), layer_text("no", "Dropout", "data", "data"), CONV, drop)
    folded = fold(net)  # compared with the same mask
    assert types(folded) == ["ReLU", "Convolution", "Dropout"] and folded.kept == {} and folded.difference.stored == 0


def test_splits_of_the_prototxt():
    split = layer_text("split", "Split", "conv", "a b")
    net = net_of(CONV, split, layer_text("bn", "BatchNorm", "a", "bn"), layer_text("sum", "Eltwise", "bn b", "sum"))
    check(net, "Convolution BatchNorm Eltwise")
    net = net_of(CONV, split, layer_text("bn", "BatchNorm", "a", "bn"))
    assert check(net, "Convolution Split BatchNorm").kept["Split 'split'"] == "its top 'b' is an output"


def test_silence():
    silence = layer_text("silence", "Silence", "unused", "")
    unused = layer_text(
        "unused", "Convolution", "relu2", "unused", "convolution_param { num_output: 2 kernel_size: 1 }"
    )
    relu2 = layer_text("relu2", "ReLU", "data", "relu2")
    folded = check(net_of(relu2, unused, silence, CONV, BN), "Convolution")
    assert folded.dropped == ["ReLU 'relu2'", "Convolution 'unused'", "Silence 'silence'"]
    folded = check(net_of(CONV, layer_text("silence", "Silence", "data", "")), "Convolution")
    net = net_from_text(data() + layer_text("l", "Input", "", "label", "input_param { shape { dim: 2 } }") + CONV
                        + layer_text("silence", "Silence", "label", ""), TEST)  # fmt: skip
    assert fold(net).kept == {"Silence 'silence'": "without it 'label' would be an output"}


# -- whole nets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_random_nets(seed):
    net = random_net(seed)
    folded = fold(net)
    assert folded.difference.exact <= 1e-12 and folded.difference.stored <= 1e-6
    old, new = outputs(net), outputs(folded.net)
    assert old.keys() == new.keys()
    for name in old:
        np.testing.assert_allclose(new[name], old[name], rtol=0, atol=5e-6 * np.abs(old[name]).max())


@pytest.mark.parametrize(
    ("make", "before", "after"), [(zoo.resnet50, 229, 123), (zoo.mobilenet, 112, 58)], ids=["resnet50", "mobilenet"]
)
def test_nets_of_the_zoo(make, before, after):
    net = Net(make(batch=1, size=64, training=False), phase=TEST)
    randomize(net)
    folded = fold(net)
    assert (folded.before, folded.after, folded.kept) == (before, after, {})
    assert not {"BatchNorm", "Scale"} & set(types(folded))


def test_a_net_with_labels_and_a_loss():
    param = zoo.cifar_resnet(depth=20, batch=4, training=True)
    net = Net(param, phase=TEST)
    randomize(net)
    folded = fold(net)
    assert folded.kept == {} and set(folded.net.outputs) == set(net.outputs)


def test_train_is_refused():
    with pytest.raises(ExportError, match="is in TRAIN"):
        fold(net_from_text(data() + CONV, TRAIN))


def test_a_difference_is_an_error():
    with pytest.raises(ExportError, match=r"'conv' of the folded net differs by .* the limit is 1e-18"):
        fold(net_of(CONV, BN), limit=1e-18)
    with pytest.raises(ExportError, match=r"net, its weights in float32, differs by .* the limit is 1e-09"):
        fold(net_of(CONV, BN), limit=1e-10)


def test_data_layers_give_their_batch_and_files_are_not_written(tmp_path):
    noise = """layer { name: "noise" type: "DummyData" top: "x" top: "label" dummy_data_param {
        shape { dim: 3 dim: 4 dim: 6 dim: 5 } shape { dim: 3 }
        data_filler { type: "gaussian" std: 1 } data_filler { type: "uniform" min: 0 max: 3.99 } } }"""
    ip = layer_text("ip", "InnerProduct", "conv", "ip", "inner_product_param { num_output: 4 }")
    loss = layer_text("loss", "SoftmaxWithLoss", "ip label", "loss")
    out = layer_text("out", "HDF5Output", "ip label", "", f'hdf5_output_param {{ file_name: "{tmp_path}/out.h5" }}')
    accuracy = layer_text("accuracy", "Accuracy", "ip label", "accuracy")
    layers = CONV.replace('"data"', '"x"'), BN, SCALE, RELU, ip, loss, out, accuracy
    net = net_from_text(noise + "".join(layers), TEST)
    randomize(net)
    folded = fold(net)
    assert types(folded) == "DummyData Convolution ReLU InnerProduct SoftmaxWithLoss HDF5Output Accuracy".split()
    assert not (tmp_path / "out.h5").exists() or not (tmp_path / "out.h5").stat().st_size


@pytest.mark.parametrize("name", ["with_affine_behind", "with_affine_before"])
def test_a_wrong_fold_is_found_behind_a_softmax(monkeypatch, name):
    right = getattr(fold_module, name)
    monkeypatch.setattr(fold_module, name, lambda *args: [1.001 * blob for blob in right(*args)])
    ip = layer_text("ip", "InnerProduct", "conv", "ip", "inner_product_param { num_output: 4 }")
    net = net_of(CONV, *([BN] if name.endswith("behind") else [RELU, BN]), ip, layer_text("prob", "Softmax", "ip", "p"))
    net.layers[-2].blobs[0].data *= 1e6  # so that the Softmax is 0 or 1
    with pytest.raises(ExportError, match="'ip' of the folded net differs by"):
        fold(net)


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", ["out.prototxt", "out.caffemodel"])
def test_no_file_is_written_if_one_cannot_be(tmp_path, taken):
    folded = fold(net_of(CONV, BN))
    (tmp_path / taken).mkdir()
    with pytest.raises(SnapshotError, match=f"cannot write '.*{taken}'"):
        folded.save(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")
    assert [path.name for path in tmp_path.iterdir()] == [taken]
