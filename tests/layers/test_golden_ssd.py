"""Cases that SSD's fork of Caffe computed: random configurations and values of its layers."""

import pytest

from helpers import golden

#: {layer type: number of its cases}
CASES = {
    "DetectionEvaluate": 30,
    "DetectionOutput": 40,
    "DetectionOutputSave": 12,
    "Permute": 10,
    "PriorBox": 30,
    "SmoothL1Loss": 20,
}


def paths(kind):
    """The cases of a type, without those in subfolders."""
    return [path for path in golden.SSD if path.parent.name == "ssd" and path.stem.rsplit("-", 1)[0] == kind]


@pytest.mark.parametrize("kind", CASES)
def test_the_cases_are_there(kind):
    assert len(paths(kind)) == CASES[kind]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=pytest.mark.layers(*golden.layer_types(path)))
        for kind in CASES
        for path in paths(kind)
    ],
)
def test_layer(path, engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    golden.run_layer_case(path)
