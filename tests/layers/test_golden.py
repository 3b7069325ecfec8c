"""Cases that the original Caffe computed on the CPU in float32: random configurations and values of 52 types."""

import pathlib

import pytest

from minicaffe.testing import run_golden_layer

CASES = sorted((pathlib.Path(__file__).parents[1] / "golden" / "layers").glob("*.npz"))


def test_the_cases_are_there():
    assert len(CASES) == 415


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_layer(path, device):
    run_golden_layer(path)
