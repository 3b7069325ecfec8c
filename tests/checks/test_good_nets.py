"""Nets that train well: no errors and no warnings."""

from pathlib import Path

import pytest

import minicaffe
from helpers import detectors, known_nets
from helpers.situations import write_weights
from minicaffe import models
from minicaffe.models.zoo.vgg import STAGES
from minicaffe.proto import caffe_pb2, parse_text

MODELS = Path(models.__path__[0])
SOLVERS = sorted(MODELS.glob("*/solver*.prototxt"))


def grave(findings):
    return [each for each in findings if each.level != "info"]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_models(solver, monkeypatch):
    monkeypatch.chdir(MODELS.parent)
    deploy = str(solver.parent / "deploy.prototxt")
    assert grave(minicaffe.check(str(solver), deploy=deploy, stages=("static",))) == []


#: what the files hold from which some known nets start, besides the convolutions of VGG-16
STARTS = {
    known_nets.vgg16: {"fc6": [(4096, 25088), (4096,)], "fc7": [(4096, 4096), (4096,)], "fc8": [(1000, 4096), (1000,)]},
    known_nets.fcn8s: {"fc6": [(4096, 512, 7, 7), (4096,)], "fc7": [(4096, 4096, 1, 1), (4096,)]},
}


def vgg_convolutions():
    """{name: shapes of the blobs}"""
    shapes, channels = {}, 3
    for stage, (width, count) in enumerate(STAGES, 1):
        for i in range(1, count + 1):
            shapes[f"conv{stage}_{i}"] = [(width, channels, 3, 3), (width,)]
            channels = width
    return shapes


@pytest.mark.parametrize("make", known_nets.SOLVERS, ids=lambda make: make.__name__)
def test_well_known_nets(make, tmp_path):
    (tmp_path / "train_val.prototxt").write_text(str(make()))
    (tmp_path / "solver.prototxt").write_text(f'net: "train_val.prototxt" {known_nets.SOLVERS[make]}')
    weights = []
    if make in STARTS:
        weights = [str(tmp_path / "start.caffemodel.h5")]
        write_weights(tmp_path / "start.caffemodel.h5", vgg_convolutions() | STARTS[make])
    deploy = known_nets.DEPLOYS[make]() if make in known_nets.DEPLOYS else None
    assert grave(minicaffe.check(str(tmp_path / "solver.prototxt"), weights, deploy, stages=("static",))) == []


@pytest.mark.parametrize("make", [detectors.mobilenet_ssd, detectors.faceboxes, detectors.refinedet])
def test_single_shot_detectors(make):
    """Not even a fact: the Scale of CReLU, behind Power and Concat, is that of its BatchNorm."""
    solver = parse_text(
        'base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 max_iter: 100 display: 10', caffe_pb2.SolverParameter()
    )
    classes = {} if make is detectors.faceboxes else dict(classes=4)
    solver.net_param.CopyFrom(make((2, 3, 64, 64), 4, **classes))
    assert minicaffe.check(solver, stages=("static",)) == []


@pytest.mark.parametrize("make", STARTS, ids=lambda make: make.__name__)
def test_those_that_start_from_weights_are_not_trained_without(make, tmp_path):
    (tmp_path / "train_val.prototxt").write_text(str(make()))
    (tmp_path / "solver.prototxt").write_text(f'net: "train_val.prototxt" {known_nets.SOLVERS[make]}')
    found = minicaffe.check(str(tmp_path / "solver.prototxt"), stages=("static",))
    assert {each.code for each in grave(found)} == {"no-weight-filler"}
