"""Steps through one layer of each type of the forks: captured ones give the numbers of plain ones."""

import h5py  # noqa: F401  (loads HDF5 before warnings become errors)
import numpy as np
import pytest

from helpers.layer_cases import LAYER_TESTS, all_cases, feeds
from helpers.nets import layer_text, solver_from_text
from minicaffe.core.registry import layer_class
from minicaffe.proto import TRAIN, caffe_pb2, parse_text

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu_mode", "cuda_graphs")]

SCALE = "scale_param { num_axes: 0 filler { value: 1 } }"
STEPS = (0, 0, 0, 0, 0, 1, 1, 0)  # seeds of the inputs


def first_cases():
    """The first case of each type and number of tops, of tests of extensions, of types that may be captured."""
    files, found = {path.stem for path in (LAYER_TESTS / "extensions").glob("test_*.py")}, {}
    for name, case in all_cases():
        kind = parse_text(case.text, caffe_pb2.LayerParameter()).type
        if name.rpartition("-")[0] in files and layer_class(kind).capturable is not False and case.phase == TRAIN:
            found.setdefault((kind, case.num_top), pytest.param(case, id=f"{kind}-{case.num_top}"))
    return found.values()


def net_text(case):
    """Inputs, a learned factor before each bottom with a gradient, the layer, and a loss of each top."""
    text, bottoms = "", []
    for i, shape in enumerate(case.shapes):
        dims = " ".join(f"dim: {length}" for length in shape)
        text += layer_text(f"in{i}", "Input", "", f"x{i}", f"input_param {{ shape {{ {dims} }} }}")
        if i in case.differentiable:
            text += layer_text(f"scale{i}", "Scale", f"x{i}", f"s{i}", SCALE)
        bottoms.append(f"{'s' if i in case.differentiable else 'x'}{i}")
    blobs = "".join(f"bottom: '{name}' " for name in bottoms) + "".join(f"top: 'y{i}' " for i in range(case.num_top))
    text += f"layer {{ name: 'layer' {blobs} {case.text} }}\n"
    for i in range(case.num_top):
        if not case.layer.default_loss_weight(i):
            text += layer_text(f"square{i}", "Power", f"y{i}", f"z{i}", "power_param { power: 2 } loss_weight: 1")
    return text


def trained(case, plain):
    solver = solver_from_text("base_lr: 0.01 lr_policy: 'fixed' momentum: 0.9 random_seed: 7", net_text(case))
    if plain:
        solver.add_callback(lambda: None, lambda: None)
    for seed in STEPS:
        for name, values in feeds(*case.arrays(seed)).items():
            solver.net.blobs[name].data = values
        solver.step(1)
    return solver


@pytest.mark.parametrize("case", first_cases())
def test_the_numbers_of_plain_steps(case):
    captured, plain = trained(case, False), trained(case, True)
    assert captured.engine_step.captured == captured.net.layer_dict["layer"].capturable
    assert captured.net.layer_dict["layer"].state() == plain.net.layer_dict["layer"].state()
    for name, blob in plain.net.blobs.items():
        np.testing.assert_allclose(captured.net.blobs[name].read_data(), blob.read_data(), 1e-4, 1e-5, err_msg=name)
    for a, b in zip(captured.net.learnable_params, plain.net.learnable_params):
        np.testing.assert_allclose(a.read_data(), b.read_data(), 1e-4, 1e-5)
