"""The launches of training steps, on 132 multiprocessors: recorded by a driver that does nothing, in a second."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: no more than these; a change that needs more has to say why here
MOST = {
    "cifar10_quick": 24,
    "cifar10_full": 25,
    "cifar10_full_sigmoid_bn": 29,
    "cifar10_resnet20": 120,
    "resnet50": 287,
}


@pytest.fixture(scope="module")
def launches():
    """{net: launches of a step}."""
    command = [sys.executable, str(ROOT / "benchmarks/gpu_model.py"), "--launches"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MINICAFFE_DEVICE_POOL": "1"})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("net", MOST)
def test_a_step_has_no_more_launches(launches, net):
    assert 10 < launches[net] <= MOST[net]
