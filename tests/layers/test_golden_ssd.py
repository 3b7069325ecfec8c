"""Cases that SSD's fork of Caffe computed: random configurations and values of its layers."""

import numpy as np
import pytest

from helpers import golden
from helpers.multibox import Reference
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.testing import assert_close

#: {kind, mostly a layer type: number of its cases}
CASES = {
    "AnnotatedData": 24,
    "DetectionEvaluate": 30,
    "DetectionOutput": 40,
    "DetectionOutputSave": 12,
    "MultiBoxLoss": 177,
    "Normalize": 20,
    "Permute": 10,
    "PriorBox": 30,
    "SmoothL1Loss": 20,
    "SSDNet": 12,  # whole nets, from a convolution and its priors to the loss and back
}
#: {case: why its numbers are the fork's own mistake and not those of this package}
DIFFERENT = {
    **dict.fromkeys(
        ["MultiBoxLoss-014", "MultiBoxLoss-023", "MultiBoxLoss-033", "MultiBoxLoss-042", "MultiBoxLoss-051"]
        + ["MultiBoxLoss-105", "MultiBoxLoss-120", "MultiBoxLoss-129"],
        "ODD:logistic_none_batch",
    ),
    "MultiBoxLoss-142": "ODD:logistic_background",
    **dict.fromkeys(
        ["MultiBoxLoss-046", "MultiBoxLoss-092", "MultiBoxLoss-119", "MultiBoxLoss-130", "MultiBoxLoss-134"]
        + ["MultiBoxLoss-149"],
        "ODD:nms_top_k_0",
    ),
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
    assert len(paths("MultiBoxLoss", "rounding")) == 12


@pytest.mark.parametrize(
    "path", case_params(path for kind in CASES for path in paths(kind) if path.stem not in DIFFERENT)
)
def test_layer(path, engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    golden.run_layer_case(path)


@pytest.mark.parametrize("path", case_params(paths("MultiBoxLoss", "rounding")))
def test_the_last_bit_of_overlaps_decides_matches(path, engine):
    golden.run_layer_case(path)


@pytest.mark.parametrize("path", case_params(path for path in paths("MultiBoxLoss") if path.stem in DIFFERENT))
def test_what_a_mistake_of_the_fork_hides(path, engine):
    """The fork's numbers differ; those of plain loops are the same."""
    case = golden.read(path)
    assert DIFFERENT[path.stem] in str(case["tags"]).split(",")
    with pytest.raises(AssertionError):
        golden.run_layer_case(path)
    net, expected, weight = golden.filled_net(case), *multibox_reference(case)
    net.forward()
    net.clear_param_diffs()
    net.backward()
    assert_close(net.blobs["loss"].data, sum(expected.loss), "loss")
    for name, diff in zip(("g_loc", "g_conf"), expected.dx):
        assert_close(net.params[name][0].diff, weight * diff.reshape(len(diff), -1), name)


def multibox_reference(case):
    """Plain loops over the values of a case, and the loss weight."""
    net = parse_text(str(case["prototxt"]), caffe_pb2.NetParameter())
    layer = next(layer for layer in net.layer if layer.type == "MultiBoxLoss")
    param, loss = layer.multibox_loss_param, layer.loss_param
    mode = loss.normalization
    if loss.HasField("normalize") and not loss.HasField("normalization"):
        mode = loss.VALID if loss.normalize else loss.BATCH_SIZE
    priors, variances = case["in:prior"].astype(float).reshape(2, -1, 4)
    loc, conf = (
        case[f"in:{name}"].astype(float).reshape(len(case["in:loc"]), len(priors), -1) for name in ("loc", "conf")
    )
    loc = loc.reshape(*loc.shape[:2], -1, 4)
    truth = case["in:label"].astype(float).reshape(-1, 8)
    expected = Reference(param, loc, conf, priors, variances, truth, loss.NormalizationMode.Name(mode))
    counts = [*layer.propagate_down, True, True][:2] if layer.propagate_down else (True, True)
    expected.loss = [part * counted for part, counted in zip(expected.loss, counts)]
    for diff, counted in zip(expected.dx, counts):
        diff *= counted
    return expected, float(np.prod(layer.loss_weight))


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
