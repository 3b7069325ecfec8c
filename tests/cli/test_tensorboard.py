"""Event files with histograms: the messages, gradients as the solver has them, and that a GPU keeps its CUDA graph."""

import struct

import numpy as np
import pytest
from google.protobuf import text_format
from google.protobuf.internal.decoder import _DecodeVarint

from minicaffe.cli import main, tensorboard
from minicaffe.cli.tensorboard import EventWriter
from minicaffe.core.engine import runner
from minicaffe.core.settings import settings
from minicaffe.proto import caffe_pb2
from minicaffe.solvers import get_solver

NET = """
layer { name: "data" type: "Input" top: "x" top: "t"
  input_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" param { lr_mult: 1 } param { lr_mult: 0 }
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 1 } bias_filler { value: 0.25 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "loss" }
"""
SOLVER = 'base_lr: 0.1 lr_policy: "fixed" momentum: 0.5 weight_decay: 0.1 max_iter: 8 display: 2 random_seed: 1 '


def fields(message):
    """Yield (number, value) of the fields of an encoded message; varints and bytes."""
    at = 0
    while at < len(message):
        key, at = _DecodeVarint(message, at)
        if key & 7 == 0:
            value, at = _DecodeVarint(message, at)
        else:
            size = {1: 8, 5: 4}.get(key & 7)
            if size is None:
                size, at = _DecodeVarint(message, at)
            value, at = message[at : at + size], at + size
        yield key >> 3, value


def read(folder):
    """Return {(step, tag): a number, or the fields of a histogram as arrays} of the only event file in a folder."""
    (path,) = folder.iterdir()
    data, at, found = path.read_bytes(), 0, {}
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = dict(fields(data[at + 12 : at + 12 + length]))
        at += 16 + length
        for _, value in fields(event.get(5, b"")):
            parts = dict(fields(value))
            key = event[2], parts[1].decode()
            if 2 in parts:
                found[key] = struct.unpack("<f", parts[2])[0]
            else:
                found[key] = {number: np.frombuffer(content, "<f8") for number, content in fields(parts[5])}
    return found


def solver_of(extra=""):
    param = text_format.Parse(SOLVER + extra, caffe_pb2.SolverParameter())
    param.net_param.CopyFrom(text_format.Parse(NET, caffe_pb2.NetParameter()))
    solver = get_solver(param)
    solver.net.blobs["x"].data[...], solver.net.blobs["t"].data[...] = 0.5, 1
    return solver


def expected_gradient(solver):
    """The gradient of the weights: of sum (w x + b - t)^2 / (2 N), with equal rows of x."""
    w, b = (blob.data for blob in solver.net.params["ip"])
    x, t = np.full(3, 0.5), 1
    return np.outer(w @ x + b - t, x)


class Recorder:
    """Observer that keeps what the gradients should be at each display."""

    def __init__(self):
        self.gradients, self.weights = {}, {}

    def on_display(self, solver, loss, outputs):
        self.gradients[solver.iter] = expected_gradient(solver)
        self.weights[solver.iter] = solver.net.params["ip"][0].data.copy()


@pytest.mark.parametrize("extra", ["", "iter_size: 3", "clip_gradients: 0.001"])
def test_gradients_before_the_update(tmp_path, engine, extra):
    solver, recorder = solver_of(extra), Recorder()
    with EventWriter(tmp_path / "e", histograms=True) as writer:
        solver.observers += [writer, recorder]
        solver.solve()
    found = read(tmp_path / "e")
    assert sorted(recorder.gradients) == [0, 2, 4, 6]
    for step, gradient in recorder.gradients.items():
        norm = np.linalg.norm(gradient)
        assert found[step, "gradient_norm/ip/0"] == pytest.approx(norm, rel=1e-4)
        assert found[step, "train/gradient_norm"] == pytest.approx(norm, rel=1e-4)
        histogram = found[step, "gradients/ip/0"]
        np.testing.assert_allclose(histogram[1], gradient.min(), rtol=1e-4)
        np.testing.assert_allclose(histogram[2], gradient.max(), rtol=1e-4)
        weights = found[step, "weights/ip/0"]
        then = recorder.weights[step]
        sums = [then.sum(), np.square(then).sum()]
        np.testing.assert_allclose([*weights[4], *weights[5]], sums, rtol=1e-4)
        assert (step, "weights/ip/1") in found and (step, "gradients/ip/1") not in found


def test_the_weights_are_those_without_an_event_file(tmp_path, engine):
    plain, watched = solver_of(), solver_of()
    plain.solve()
    with EventWriter(tmp_path / "e", histograms=True) as writer:
        watched.observers.append(writer)
        watched.solve()
    for one, other in zip(plain.net.params["ip"], watched.net.params["ip"]):
        np.testing.assert_array_equal(one.data, other.data)


@pytest.mark.gpu
@pytest.mark.parametrize("histograms", [False, True])
@pytest.mark.usefixtures("cuda_graphs")
def test_a_gpu_keeps_its_graph(tmp_path, monkeypatch, histograms):
    monkeypatch.setattr(settings, "engine", runner("GPU"))
    solver = solver_of()
    with EventWriter(tmp_path / "e", histograms=histograms) as writer:
        solver.observers.append(writer)
        solver.step(4)
        captured = solver.engine_step._captured
        solver.step(8)
    assert solver.engine_step.captured and solver.engine_step._captured is captured


def test_a_histogram():
    values = np.array([0, 1, 2, 3, np.nan, np.inf, 4], np.float32)
    ((number, content),) = fields(tensorboard._histogram(values))
    found = {n: np.frombuffer(v, "<f8") for n, v in fields(content)}
    assert number == 5 and [float(found[i][0]) for i in range(1, 6)] == [0, 4, 5, 10, 30]
    assert len(found[6]) == len(found[7]) == 64
    assert found[6][-1] == 4 and found[7].sum() == 5 and found[7][0] == found[7][-1] == 1
    assert (np.diff(found[6]) > 0).all()


@pytest.mark.parametrize(
    "values", [np.zeros(0), np.full(3, np.nan), np.full((2, 2), 7.0), np.float32(3e38) * np.ones(2)]
)
def test_histograms_of_few_values(values):
    found = dict(fields(dict(fields(tensorboard._histogram(values)))[5]))
    counts = np.frombuffer(found[7], "<f8")
    assert counts.sum() == np.isfinite(values).sum() and len(counts) == len(found[6]) / 8


def test_a_histogram_of_a_large_parameter_counts_a_part(monkeypatch):
    monkeypatch.setattr(tensorboard, "_MOST_VALUES", 100)
    found = dict(fields(dict(fields(tensorboard._histogram(np.arange(1001.0))))[5]))
    assert 80 <= struct.unpack("<d", found[3])[0] <= 100


def test_the_flags(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER + 'net: "net.prototxt" snapshot_after_train: false')
    assert main(["train", "--solver", "solver.prototxt", "--tensorboard_histograms"]) == 1
    assert "--tensorboard_histograms needs --tensorboard DIR" in capsys.readouterr().err
    assert main(["train", "--solver", "solver.prototxt", "--tensorboard", "plain"]) == 0
    assert main(["train", "--solver", "solver.prototxt", "--tensorboard", "all", "--tensorboard-histograms"]) == 0
    tags = [{tag.split("/")[0] for _, tag in read(tmp_path / name)} for name in ("plain", "all")]
    assert tags == [{"train"}, {"train", "weights", "gradients", "gradient_norm"}]
