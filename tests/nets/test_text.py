"""Nets in the form of public ones for text and sequences: gradients of all layers, and training."""

import numpy as np
import pytest

import minicaffe
from minicaffe import TEST, TRAIN, Net, get_solver
from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L
from minicaffe.net_spec import params as P
from minicaffe.proto import caffe_pb2
from minicaffe.testing import CUDA, NUMPY

XAVIER = dict(weight_filler=dict(type="xavier"))
MSRA = dict(weight_filler=dict(type="msra"))
N, CLASSES = 4, 5
#: of a block of DenseNet
FILLERS = dict(
    Filter_Filler=dict(type="msra"), BN_Scaler_Filler=dict(type="constant", value=1),
    BN_Bias_Filler=dict(type="constant", value=0),
)  # fmt: skip


def scores_of(x):
    return L.InnerProduct(x, num_output=CLASSES, axis=2, **XAVIER)


def normalised(n, name, x):
    n[f"{name}_bn"] = L.BatchNorm(x)
    n[f"{name}_scale"] = L.Scale(n[f"{name}_bn"], bias_term=True, in_place=True)
    n[f"{name}_relu"] = L.ReLU(n[f"{name}_scale"], in_place=True)
    return n[f"{name}_relu"]


def captcha(n):
    """warpctc-caffe's lstm_ctc.prototxt: columns of a picture, two LSTMs, CtcLoss, LabelsequenceAccuracy."""
    n.data, n.label = L.Input(shape=[dict(dim=[N, 1, 4, 9]), dict(dim=[N, 3])], ntop=2)
    n.indicator = L.ContinuationIndicator(time_step=9, batch_size=N)
    n.permuted = L.Permute(n.data, order=[3, 0, 1, 2])
    n.lstm1 = L.LSTM(n.permuted, n.indicator, num_output=8, **XAVIER)
    n.lstm2 = L.LSTM(n.lstm1, n.indicator, num_output=8, **XAVIER)
    n.fc1 = scores_of(n.lstm2)
    n.loss = L.CtcLoss(n.fc1, n.label, blank_label=CLASSES - 1, alphabet_size=CLASSES, time_step=9)
    n.permuted_fc = L.Permute(n.fc1, order=[1, 0, 2])
    n.accuracy = L.LabelsequenceAccuracy(n.permuted_fc, n.label, blank_label=CLASSES - 1, include=dict(phase=TEST))


def crnn(n):
    """jolibrain's crnn.prototxt: convolutions, whose output also says how many sequences there are, and two LSTMs."""
    n.data, n.label = L.Input(shape=[dict(dim=[N, 1, 4, 9]), dict(dim=[N, 3])], ntop=2)
    n.conv1 = L.Convolution(n.data, num_output=6, kernel_size=3, pad=1, **MSRA)
    x = normalised(n, "conv1", n.conv1)
    n.pool1 = L.Pooling(x, pool=P.Pooling.MAX, kernel_h=4, kernel_w=1)
    n.reshape = L.Reshape(n.pool1, shape=dict(dim=[N, 6, 9]))
    n.permuted = L.Permute(n.reshape, order=[2, 0, 1])
    n.indicator = L.ContinuationIndicator(n.permuted, time_step=9, axis=1)
    n.lstm1 = L.LSTM(n.permuted, n.indicator, num_output=8, **XAVIER)
    n.lstm2 = L.LSTM(n.lstm1, n.indicator, num_output=8, **XAVIER)
    n.fc1 = scores_of(n.lstm2)
    n.loss = L.CtcLoss(n.fc1, n.label, alphabet_size=CLASSES, time_step=9)


def densenet_blstm(n):
    """caffe_ocr's densenet-sum-blstm-full-res-blstm_train-val.prototxt: blocks, an Lstm in both directions, CTC."""
    n.data, n.label = L.Input(shape=[dict(dim=[N, 1, 4, 9]), dict(dim=[N, 3])], ntop=2)
    n.conv1 = L.Convolution(n.data, num_output=3, kernel_size=3, pad=1, **MSRA)
    n.block1 = L.DenseBlock(n.conv1, numTransition=2, initChannel=9, growthRate=2, **FILLERS)
    n.conv2 = L.Convolution(normalised(n, "block1", n.block1), num_output=4, kernel_size=1, bias_term=False, **MSRA)
    n.pool1 = L.Pooling(n.conv2, pool=P.Pooling.AVE, kernel_h=2, kernel_w=1, stride_h=2, stride_w=1)
    n.block2 = L.DenseBlock(n.pool1, numTransition=2, growthRate=2, use_BC=True, **FILLERS)
    n.pool2 = L.Pooling(normalised(n, "block2", n.block2), pool=P.Pooling.AVE, kernel_h=2, kernel_w=1)
    n.transposed = L.Transpose(n.pool2, dim=[3, 2, 0, 1])
    n.blstm_input = L.Reshape(n.transposed, shape=dict(dim=[-1]), axis=1, num_axes=2)
    gaussian = dict(num_output=8, weight_filler=dict(type="gaussian", std=0.3))
    n.lstm1 = L.Lstm(n.blstm_input, **gaussian)
    n.turned = L.Reverse(n.blstm_input, axis=0)
    n.lstm2 = L.Lstm(n.turned, **gaussian)
    n.returned = L.Reverse(n.lstm2, axis=0)
    n.both = L.Eltwise(n.lstm1, n.returned, n.blstm_input, operation=P.Eltwise.SUM)
    n.fc1x = scores_of(n.both)
    n.loss = L.WarpCTCLoss(n.fc1x, n.label, loss_weight=1)
    n.acc = L.CTCGreedyDecoder(n.fc1x, n.label, include=dict(phase=TEST))


def deep_lstm(n):
    """Junhyuk Oh's deep_lstm_short.prototxt: one sequence over batches, and gradients of gates within limits."""
    n.data, n.clip, n.label = L.Input(shape=[dict(dim=[12, 1])] * 3, ntop=3)
    limited = dict(clipping_threshold=0.1, weight_filler=dict(type="gaussian", std=0.3))
    n.lstm1 = L.Lstm(n.data, n.clip, num_output=7, **limited)
    n.lstm2 = L.Lstm(n.lstm1, n.clip, num_output=7, **limited)
    n.ip1 = L.InnerProduct(n.lstm2, num_output=1, **XAVIER)
    n.loss = L.EuclideanLoss(n.ip1, n.label)


NETS = {function.__name__: function for function in (captcha, crnn, densenet_blstm, deep_lstm)}


def build(name, phase=TRAIN, dtype=np.float32):
    """The net with data: pictures whose columns show the classes of the labels, or a sum over a sequence."""
    n = NetSpec()
    NETS[name](n)
    minicaffe.set_random_seed(1)
    net, rng = Net(n.to_proto(), phase=phase, dtype=dtype), np.random.default_rng(0)
    if name == "deep_lstm":
        data = rng.uniform(-1, 1, (12, 1))
        net.blobs["clip"].data[...] = np.arange(12)[:, None] > 0
        net.blobs["data"].data[...], net.blobs["label"].data[...] = data, np.cumsum(data, 0)
        return net
    blank = CLASSES - 1 if name == "captcha" else 0
    classes = [k for k in range(CLASSES) if k != blank]
    label = np.array([[classes[(i + j) % 4] for j in range(3)] for i in range(N)])
    label[1, 2] = blank
    data = 0.1 * rng.standard_normal((N, 1, 4, 9))
    for i, row in enumerate(label):
        for j, k in enumerate(row):
            if k != blank:
                data[i, 0, classes.index(k), 3 * j : 3 * j + 2] += 1
    net.blobs["data"].data[...], net.blobs["label"].data[...] = data, label
    return net


@pytest.mark.parametrize("name", NETS)
def test_every_layer_learns_and_the_loss_falls(name, engine):
    net, losses, step_size = build(name), [], 0.5 if name == "deep_lstm" else 0.05
    for step in range(12):
        net.clear_param_diffs()
        losses.append(net.forward_backward())
        if step == 0:
            for layer, blobs in net.params.items():
                assert all(np.isfinite(blob.diff).all() for blob in blobs)
                assert any(blob.diff.any() for blob in blobs) or net.layer_dict[layer].type == "BatchNorm", layer
        for blob, rate in zip(net.learnable_params, net.lr_mults):
            blob.data[...] -= step_size * rate * blob.diff / np.maximum(1, np.abs(blob.diff).max())
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.8 * losses[0], losses


@pytest.mark.gpu
@pytest.mark.parametrize("name", NETS)
def test_captured_iterations_give_the_numbers_of_numpy(name, cuda_device):
    def train(choice):
        with choice.chosen():
            data, n = build(name), NetSpec()
            NETS[name](n)
            param = caffe_pb2.SolverParameter(base_lr=0.01, lr_policy="fixed", momentum=0.9, random_seed=3)
            param.net_param.CopyFrom(n.to_proto())
            solver = get_solver(param)
            for each in solver.net.inputs:
                solver.net.blobs[each].data[...] = data.blobs[each].data
            solver.step(4)
            assert not choice.gpu or solver.engine_step.captured
            return [blob.data.copy() for blob in solver.net.learnable_params]

    for got, expected in zip(train(CUDA), train(NUMPY)):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "blob"), [("captcha", "accuracy"), ("densenet_blstm", "acc")])
def test_it_is_scored(name, blob, engine):
    net = build(name, TEST)
    scores = net.forward()
    assert np.isfinite(scores["loss"]).all()
    assert ((scores[blob] >= 0) & (scores[blob] <= 1)).all()


@pytest.mark.parametrize("name", ["captcha", "crnn", "densenet_blstm"])
def test_the_gradient_is_n_times_the_derivative(name):
    """In float64, of a few numbers of each parameter; blobs with several readers are split on the way."""
    net = build(name, dtype=np.float64)
    net.clear_param_diffs()
    net.forward_backward()
    diffs, rng = [blob.diff.copy() for blob in net.learnable_params], np.random.default_rng(0)
    state = [layer.state() for layer in net.layers]
    for blob, rate, diff in zip(net.learnable_params, net.lr_mults, diffs):
        for at in rng.permutation(blob.count)[: 3 if rate else 0]:
            losses = []
            for step in (1e-6, -2e-6):
                blob.data.flat[at] += step
                for layer, own in zip(net.layers, state):
                    layer.load_state(own)
                losses.append(float(net.forward()["loss"]))
            blob.data.flat[at] += 1e-6
            np.testing.assert_allclose(diff.flat[at], N * (losses[0] - losses[1]) / 2e-6, rtol=1e-4, atol=1e-6)
