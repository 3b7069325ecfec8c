"""Solvers with small data sets, and what `minicaffe.check` finds in them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

import minicaffe
from helpers.nets import layer_text
from helpers.situations import XAVIER, ip
from minicaffe.checks.finding import Finding
from minicaffe.data.datum import array_to_datum
from minicaffe.data.db import open_db

SHAPE = (3, 8, 8)
SOLVER = 'base_lr: 0.01 momentum: 0.9 lr_policy: "fixed" max_iter: 100 display: 10 random_seed: 1 '
TESTS = "test_iter: 20 test_interval: 50 "
MEAN = "mean_value: 128 scale: 0.0156"


def images(count: int, shape: Sequence[int] = SHAPE, seed: int = 0) -> np.ndarray:
    """Random pictures with the mean 128, uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def shuffled(counts: Sequence[int], seed: int = 0) -> np.ndarray:
    """Labels 0, 1, ... in random order, of each as many as in `counts`."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


def database(name: str, labels: Iterable[int], pictures: Iterable[np.ndarray] | None = None, backend="lmdb") -> str:
    """Write a database with these labels, by default of random pictures; return its name."""
    labels = [int(label) for label in labels]
    with open_db(name, backend, "w") as file:
        for i, (label, image) in enumerate(zip(labels, images(len(labels)) if pictures is None else pictures)):
            file.put(f"{i:06d}", array_to_datum(image, label).SerializeToString())
    return name


def data(source: str, phase: str = "", batch: int = 10, transform: str = MEAN, more: str = "backend: LMDB") -> str:
    """A Data layer."""
    rule = f"include {{ phase: {phase} }} " if phase else ""
    param = f'data_param {{ source: "{source}" batch_size: {batch} {more} }}'
    return layer_text("data", "Data", "", "data label", f"{rule} transform_param {{ {transform} }} {param}")


def conv(name: str, bottom: str, outputs: int = 4, filler: str = XAVIER, more: str = "") -> str:
    """A Convolution of 3 x 3."""
    param = f"convolution_param {{ num_output: {outputs} kernel_size: 3 {filler} {more} }}"
    return layer_text(name, "Convolution", bottom, name, param)


def loss(bottom: str, more: str = "", label: str = "label") -> str:
    """A SoftmaxWithLoss."""
    return layer_text("loss", "SoftmaxWithLoss", f"{bottom} {label}", "loss", more)


def classifier(outputs: int = 4, more: str = "") -> str:
    """Two InnerProducts and a SoftmaxWithLoss behind the data."""
    relu = layer_text("relu", "ReLU", "ip1", "ip1")
    return ip("ip1", "data", 8) + relu + ip("ip2", "ip1", outputs) + loss("ip2", more)


def found(net: str, solver: str = SOLVER, weights: Sequence[str] = (), stages=("static", "data", "batch")):
    """The findings of a net and a solver, whose files are written to the working directory."""
    Path("net.prototxt").write_text(net)
    Path("solver.prototxt").write_text(f'net: "net.prototxt" {solver}')
    before = sorted(os.listdir())
    findings = minicaffe.check("solver.prototxt", weights, stages=stages)
    assert sorted(os.listdir()) == before, "the check has written files"
    return findings


def assert_only(findings: Iterable[Finding], code: str, text: str = "", where: str = "") -> None:
    """Assert that these have one code above info, or, for a check of that level, none; and what it contains."""
    findings = list(findings)
    own = [each for each in findings if each.code == code]
    assert own, findings
    grave = {each.code for each in findings if each.level != "info"}
    assert grave == ({code} if own[0].level != "info" else set()), findings
    assert any(text in each.text and where in each.where for each in own), own


def assert_sound(findings: Iterable[Finding], *info: str) -> None:
    """Assert that there is nothing above info, and at that level, of the data and batch stages, nothing but `info`."""
    findings = list(findings)
    assert not [each for each in findings if each.level != "info"], findings
    assert {each.code for each in findings} - {"transform-formula", "batch-norm-no-scale"} == set(info), findings
