"""Small nets after those of naibaf7's U-Nets, CRF-RNN, DeconvNet and MNC: they run, have right gradients, and learn."""

import numpy as np
import pytest

import minicaffe
from minicaffe import NetSpec, get_solver
from minicaffe import layers as L
from minicaffe.proto import caffe_pb2
from minicaffe.testing import assert_close

FILLER = dict(type="msra")


def given(*shapes):
    return L.Input(ntop=len(shapes), shape=[dict(dim=list(shape)) for shape in shapes])


def conv(x, channels, kernel=3, **more):
    return L.Convolution(x, num_output=channels, kernel_size=kernel, weight_filler=FILLER, **more)


def relu(x):
    return L.ReLU(x, in_place=True, negative_slope=0.005)


def up(x, channels):
    fixed = dict(num_output=channels, group=channels, kernel_size=2, stride=2, bias_term=False)
    return L.Deconvolution(x, convolution_param=fixed | dict(weight_filler=dict(type="constant", value=1)))


def u_net():
    """Two levels without padding, whose affinities are compared with the pairs of pixels that they connect."""
    n = NetSpec()
    n.data, n.label = given((1, 1, 28, 28), (1, 1, 16, 16))
    n.top = relu(conv(relu(conv(n.data, 6)), 6))
    n.pool = L.Pooling(n.top, kernel_size=2, stride=2)
    n.bottom = relu(conv(relu(conv(n.pool, 8)), 8))
    n.up = conv(up(n.bottom, 8), 6, 1)
    n.merged = L.MergeCrop(n.up, n.top, backward=[True, True])
    n.scores = conv(n.merged, 2, 1)
    n.prob = L.Softmax(n.scores)
    n.prob_affinity, n.label_affinity = L.Affinity(n.prob, n.label, ntop=2, offset=[1, 0])
    n.component = L.ConnectedComponent(n.label)
    n.loss = L.MalisLoss(n.prob_affinity, n.label_affinity, n.component)
    return n


def u_net_3d():
    """Volumes, with edges of any direction and a sigmoid for each."""
    n = NetSpec()
    n.data, n.affinity, n.components, n.edges = given((1, 1, 8, 14, 14), (1, 4, 4, 10, 10), (1, 1, 4, 10, 10), (4, 3))
    n.top = relu(conv(n.data, 4))
    n.down = L.Convolution(n.top, num_output=6, kernel_size=[1, 2, 2], stride=[1, 2, 2], weight_filler=FILLER)
    wide = dict(num_output=6, group=6, kernel_size=[1, 2, 2], stride=[1, 2, 2], bias_term=False)
    n.up = L.Deconvolution(relu(n.down), convolution_param=wide | dict(weight_filler=dict(type="constant", value=1)))
    n.merged = L.MergeCrop(conv(n.up, 4, 1), n.top, backward=[True, True], operation=1)
    n.prob = L.Sigmoid(conv(n.merged, 4))
    n.loss = L.MalisLoss(n.prob, n.affinity, n.components, n.edges)
    return n


def crf_rnn():
    """Scores of a skip architecture, refined by the mean field with the image itself."""
    n = NetSpec()
    n.data, n.label = given((1, 3, 16, 16), (1, 1, 16, 16))
    n.pool = L.Pooling(relu(conv(n.data, 8, pad=1)), kernel_size=2, stride=2)
    n.score = conv(n.pool, 3, 1)
    n.big = L.Deconvolution(
        n.score, convolution_param=dict(num_output=3, kernel_size=4, stride=2, bias_term=False, weight_filler=FILLER)
    )
    n.coarse = L.Crop(n.big, n.data, axis=2, offset=1)
    n.unary, n.q0 = L.Split(n.coarse, ntop=2)
    field = dict(num_iterations=5, theta_alpha=8, theta_beta=0.5, theta_gamma=2)
    weights = dict(spatial_filter_weight=1, bilateral_filter_weight=2)
    n.pred = L.MultiStageMeanfield(n.unary, n.q0, n.data, multi_stage_meanfield_param=field | weights)
    n.loss = L.SoftmaxWithLoss(n.pred, n.label)
    return n


def deconv_net():
    """Maxima go back to where they were."""
    n = NetSpec()
    n.data, n.label = given((1, 3, 16, 16), (1, 1, 16, 16))
    n.pool1, n.pool1_mask = L.Pooling(relu(conv(n.data, 8, pad=1)), kernel_size=2, stride=2, ntop=2)
    n.pool2, n.pool2_mask = L.Pooling(relu(conv(n.pool1, 8, pad=1)), kernel_size=2, stride=2, ntop=2)
    sizes = dict(kernel_size=2, stride=2)
    n.unpool2 = L.Unpooling(relu(conv(n.pool2, 8, 1)), n.pool2_mask, unpooling_param=sizes | dict(unpool_size=8))
    n.unpool1 = L.Unpooling(relu(conv(n.unpool2, 8, pad=1)), n.pool1_mask, unpooling_param=sizes | dict(unpool_size=16))
    n.score = conv(n.unpool1, 3, 1)
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    return n


def mnc():
    """Warped regions of a map, once for boxes and once under masks that the net itself predicts."""
    n = NetSpec()
    n.data, n.rois, n.label = given((1, 3, 16, 16), (4, 5), (4,))
    n.map = relu(conv(n.data, 6, pad=1, stride=2))
    n.premax = L.ROIWarping(n.map, n.rois, roi_warping_param=dict(pooled_h=8, pooled_w=8, spatial_scale=0.5))
    n.regions = L.Pooling(n.premax, kernel_size=2, stride=2)
    n.mask = L.Reshape(L.InnerProduct(n.regions, num_output=36, weight_filler=FILLER), shape=dict(dim=[0, 1, 6, 6]))
    n.resized = L.MaskResize(L.Sigmoid(n.mask), output_height=4, output_width=4)
    n.masked = L.MaskPooling(n.regions, n.resized)
    n.score = L.InnerProduct(L.Concat(n.masked, n.regions), num_output=3, weight_filler=FILLER)
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    return n


def squares():
    """An image (1, 1, 28, 28) of two squares with a dark line between them, and their labels (1, 1, 16, 16)."""
    rng, label = np.random.default_rng(0), np.zeros((28, 28))
    label[8:20, 7:14] = label[8:20, 15:21] = 1
    return {"data": label + 0.3 * rng.standard_normal((1, 1, 28, 28)), "label": label[None, None, 6:22, 6:22]}


def volumes():
    rng, components = np.random.default_rng(0), np.zeros((4, 10, 10))
    components[:, 1:9, 1:5], components[:, 1:9, 6:9] = 1, 2
    edges = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -3]])
    data = np.pad(components > 0, [(2, 2)] * 3) + 0.3 * rng.standard_normal((1, 1, 8, 14, 14))
    affinity = np.zeros((4, 4, 10, 10))
    for e, (z, y, x) in enumerate(edges):
        other = np.roll(components, (-z, -y, -x), (0, 1, 2))
        affinity[e] = (components == other) & (components > 0)
    return {"data": data, "affinity": affinity[None], "components": components[None, None], "edges": edges}


def halves():
    """An image with three colours and the label of each pixel."""
    rng, label = np.random.default_rng(0), np.digitize(np.arange(16), [5, 11])
    colors = np.array([[1, -1, 0], [-1, 0, 1], [0, 1, -1.0]])[:, label]
    data = np.broadcast_to(colors[:, None], (3, 16, 16)) + 0.2 * rng.standard_normal((1, 3, 16, 16))
    return {"data": data, "label": np.broadcast_to(label, (1, 1, 16, 16))}


def boxes():
    rois = np.array([[0, 0, 0, 5, 15], [0, 5, 2, 11, 15], [0, 11, 0, 15, 12], [0, 1, 4, 15, 9]])
    return {"data": halves()["data"], "rois": rois, "label": np.array([0, 1, 2, 1])}


#: How to make each net, what its inputs are, and a learning rate.
NETS = {
    "u_net": (u_net, squares, 0.02),
    "u_net_3d": (u_net_3d, volumes, 0.2),
    "crf_rnn": (crf_rnn, halves, 0.05),
    "deconv_net": (deconv_net, halves, 0.2),
    "mnc": (mnc, boxes, 0.05),
}


def solver_of(name):
    make, values, rate = NETS[name]
    param = caffe_pb2.SolverParameter(base_lr=rate, lr_policy="fixed", momentum=0.9, clip_gradients=5, random_seed=1)
    param.net_param.CopyFrom(make().to_proto())
    solver = get_solver(param)
    fill(solver.net, values())
    return solver


def fill(net, values):
    for name, value in values.items():
        net.blobs[name].data[...] = np.reshape(value, net.blobs[name].shape)


@pytest.mark.parametrize("name", NETS)
def test_training_lowers_the_loss(name):
    solver = solver_of(name)
    losses = []
    for _ in range(30):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    assert np.isfinite(losses).all() and np.mean(losses[-5:]) < 0.7 * losses[0]


@pytest.mark.parametrize("name", ["crf_rnn", "deconv_net", "mnc"])
def test_the_loss_has_the_slope_that_backward_gives(name):
    """In float64, along a random direction of the parameters."""
    make, values, _ = NETS[name]
    minicaffe.set_random_seed(2)
    net = minicaffe.Net(make().to_proto(), phase=minicaffe.TRAIN, dtype=np.float64)
    fill(net, values())
    net.forward()
    net.backward()
    blobs, rng = [blob for blobs in net.params.values() for blob in blobs], np.random.default_rng(3)
    directions = [rng.standard_normal(blob.shape) for blob in blobs]
    slope, losses = sum(float((b.diff * d).sum()) for b, d in zip(blobs, directions)), []
    for step in (1e-6, -2e-6):
        for blob, direction in zip(blobs, directions):
            blob.data[...] += step * direction
        losses.append(float(net.forward()["loss"]))
    assert_close((losses[0] - losses[1]) / 2e-6, slope, rtol=1e-5)


def test_malis_keeps_the_squares_apart():
    """No way across the dark line remains whose edges are as strong as most within a square."""
    solver = solver_of("u_net")
    solver.step(80)
    blobs = solver.net.blobs
    solver.net.forward()
    across, component = blobs["prob_affinity"].data[0, 1], blobs["component"].data[0, 0]
    own = (component[:, 1:] == component[:, :-1]) & (component[:, 1:] > 0)
    assert set(np.unique(component)) == {0, 2, 3} and component[6, 7] != component[6, 9]
    assert np.median(across[:-1, :-1][own[:-1]]) > 0.8 and np.minimum(across[2:14, 7], across[2:14, 8]).max() < 0.3
