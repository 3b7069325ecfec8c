"""Cases that SSD's fork of Caffe computed: random configurations and values of its layers."""

import numpy as np
import pytest

from helpers import golden
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.testing import assert_close

#: {layer type: number of its cases}
CASES = {
    "DetectionEvaluate": 30,
    "DetectionOutput": 40,
    "DetectionOutputSave": 12,
    "Normalize": 20,
    "Permute": 10,
    "PriorBox": 30,
    "SmoothL1Loss": 20,
}
#: {case: why its numbers are the fork's own mistake and not those of this package}
DIFFERENT = {
    **dict.fromkeys(
        ["Normalize-002", "Normalize-004", "Normalize-007", "Normalize-009", "Normalize-012", "Normalize-019"],
        "ODD:gradient_of_unshared_scale",
    ),
}


def paths(kind, folder="ssd"):
    """The cases of a type in a folder."""
    return [path for path in golden.SSD if path.parent.name == folder and path.stem.rsplit("-", 1)[0] == kind]


def case_params(found):
    return [pytest.param(path, id=path.stem, marks=pytest.mark.layers(*golden.layer_types(path))) for path in found]


@pytest.mark.parametrize("kind", CASES)
def test_the_cases_are_there(kind):
    assert len(paths(kind)) == CASES[kind]


@pytest.mark.parametrize(
    "path", case_params(path for kind in CASES for path in paths(kind) if path.stem not in DIFFERENT)
)
def test_layer(path, engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    golden.run_layer_case(path)


@pytest.mark.parametrize("path", case_params(path for path in paths("Normalize") if path.stem in DIFFERENT))
def test_the_gradient_of_normalize_is_the_derivative(path, engine):
    """The fork's is not where the scales of the channels differ; the rest of these cases is equal."""
    case = golden.read(path)
    assert DIFFERENT[path.stem] in str(case["tags"]).split(",")
    with pytest.raises(AssertionError, match="diff of x"):
        golden.run_layer_case(path)
    net = golden.filled_net(case)
    net.forward()
    net.blobs["y"].diff[...] = case["topdiff:y"]
    net.clear_param_diffs()
    net.backward()
    assert_close(net.params["norm"][0].diff, case["paramdiff:norm:0"], "diff of the scale")
    layer = parse_text(str(case["prototxt"]), caffe_pb2.NetParameter()).layer[1]
    expected = normalize_derivative(case["in:x"], case["param:norm:0"], case["topdiff:y"], layer.norm_param)
    assert_close(net.blobs["x"].diff, expected, "diff of x")


def normalize_derivative(x, scale, dy, param):
    """The derivative of the sum of dy * Normalize(x), by complex steps (finite differences without cancellation)."""
    axes = tuple(range(1, x.ndim)) if param.across_spatial else (1,)
    scale = scale.reshape(-1, *[1] * (x.ndim - 2)).astype(float)
    derivative, step = np.zeros(x.shape), 1e-20
    for place in np.ndindex(x.shape):
        moved = x.astype(complex)
        moved[place] += 1j * step
        y = moved / np.sqrt((moved * moved).sum(axes, keepdims=True) + param.eps) * scale
        derivative[place] = (y * dy).sum().imag / step
    return derivative
