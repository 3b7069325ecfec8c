"""Cells as notebooks of Caffe's time have them, run one after the other by `run_as_caffe --old-names --cpu`."""

import subprocess
import sys
from pathlib import Path

import pytest

import minicaffe

ROOT = Path(minicaffe.__file__).resolve().parent.parent

LAYERS = """
import caffe
import numpy as np
import scipy.misc


class Pictures(caffe.Layer):
    def setup(self, bottom, top):
        params = eval(self.param_str)
        self.size = params["im_shape"]
        top[0].reshape(params["batch_size"], 3, *self.size)
        top[1].reshape(params["batch_size"], 4)

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        for i in xrange(top[0].num):
            picture = scipy.misc.imread("pictures/%d.png" % i)
            top[0].data[i, ...] = scipy.misc.imresize(picture, self.size).transpose(2, 0, 1) - np.float32(128)
            top[1].data[i, ...] = np.arange(4) == i

    def backward(self, top, propagate_down, bottom):
        pass
"""

CELLS = {
    "data": """
import os, tempfile, cPickle
from pylab import *
from scipy.misc import imsave
import caffe
from caffe import layers as L, params as P
caffe.set_device(0)
caffe.set_mode_gpu()
caffe.set_random_seed(1)
os.mkdir("pictures")
for i in xrange(4):
    imsave("pictures/%d.png" % i, np.random.RandomState(i).rand(20, 30, 3))
cPickle.dump(range(4), open("labels.pkl", "w"))
raw = np.fromstring(open("pictures/0.png", "rb").read(8), dtype=np.uint8)
assert list(raw[1:4]) == [ord(c) for c in "PNG"]
""",
    "net": """
def net(split, **options):
    n = caffe.NetSpec()
    n.data, n.label = L.Python(module="picture_layers", layer="Pictures", ntop=2,
                               param_str=str(dict(batch_size=4, im_shape=[12, 12], split=split)))
    n.conv1 = L.Convolution(n.data, kernel_size=3, num_output=6, weight_filler=dict(type="xavier"), **options)
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.relu1 = L.ReLU(n.pool1, in_place=True)
    n.score = L.InnerProduct(n.relu1, num_output=4, weight_filler=dict(type="xavier"))
    n.loss = L.SigmoidCrossEntropyLoss(n.score, n.label)
    with tempfile.NamedTemporaryFile(delete=False) as f:
        f.write(str(n.to_proto()))
        return f.name
""",
    "solver": """
from caffe.proto import caffe_pb2
s = caffe_pb2.SolverParameter()
s.train_net = net("train")
s.test_net.append(net("val"))
s.test_interval = 100
s.test_iter.append(1)
s.base_lr, s.lr_policy, s.momentum, s.max_iter = 0.0005, "fixed", 0.9, 100
s.solver_mode = caffe_pb2.SolverParameter.GPU
with open("solver.prototxt", "w") as f:
    f.write(str(s))
solver = None
solver = caffe.get_solver("solver.prototxt")
[(k, v.data.shape) for k, v in solver.net.blobs.items()]
""",
    "training": """
niter = 10
losses = zeros(niter)
for it in range(niter):
    solver.step(1)
    losses[it] = solver.net.blobs["loss"].data
    solver.test_nets[0].forward(start="conv1")
assert isfinite(losses).all() and losses[-1] < losses[0]
imshow(solver.net.params["conv1"][0].diff[:, 0].reshape(2, 3, 3, 3).transpose(0, 2, 1, 3).reshape(6, 9), cmap="gray")
""",
    "inspection": """
test = solver.test_nets[0]
test.share_with(solver.net)
test.forward()
assert (solver.net.blobs["label"].data.argmax(1) == cPickle.load(open("labels.pkl"))).all()
labels = test.blobs["label"].data.astype(np.int)
transformer = caffe.io.Transformer({"data": test.blobs["data"].data.shape})
transformer.set_transpose("data", (2, 0, 1))
imshow(transformer.deprocess("data", test.blobs["data"].data[0]).clip(0, 1))
for name, param in test.params.iteritems():
    print(name + "\\t" + str(param[0].data.shape) + str(param[1].data.shape))
""",
    "surgery": """
conv = test.params["conv1"][0]
g = np.exp(-np.square(np.mgrid[-1:2, -1:2]).sum(0) / 2.0)
conv.data[0] = g / g.sum()
before = test.blobs["conv1"].data[0, 1].copy()
test.params["conv1"][1].data[1] += 1.0
test.forward()
np.testing.assert_allclose(test.blobs["conv1"].data[0, 1], before + 1, atol=1e-4)
solver.net.save("weights.caffemodel")
caffe.Net(net("val"), "weights.caffemodel", caffe.TEST).forward()
print("the last cell has ended")
""",
}


def test_cells_run_one_after_the_other(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    (tmp_path / "picture_layers.py").write_text(LAYERS)
    (tmp_path / "cells.py").write_text("\n".join(f"# {title}\n{code}" for title, code in CELLS.items()))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MPLBACKEND", "agg")
    done = subprocess.run(
        [sys.executable, "-m", "minicaffe.run_as_caffe", "--old-names", "--cpu", "cells.py"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["conv1\t(6, 3, 3, 3)(6,)", "score\t(4, 150)(4,)", "the last cell has ended"]
    assert done.stderr.count("set_mode_gpu() computes on the CPU") == 1
