"""docs/pytorch.md: what it calls equal is equal to what PyTorch computed (tests/golden/pytorch.npz).

Where torch is installed, the results that are stored are compared with it, and what the page states in words is, too.
"""

import importlib.util
import sys

import numpy as np
import pytest

from helpers.nets import net_from_text
from house.imports import ROOT
from minicaffe.core.blob import Blob
from minicaffe.core.fillers import fill
from minicaffe.proto import caffe_pb2, parse_text


def load():
    """tools/pytorch_pairs.py as a module."""
    spec = importlib.util.spec_from_file_location("pytorch_pairs", ROOT / "tools" / "pytorch_pairs.py")
    module = importlib.util.module_from_spec(spec)
    was = sys.path[:]
    spec.loader.exec_module(module)
    sys.path[:] = was
    return module


TOOL = load()
PAIRS = TOOL.pairs()
RECORDED = TOOL.read_recorded()


def assert_equal(results, expected):
    for kind, array in results.items():
        np.testing.assert_allclose(array, expected[kind], rtol=2e-5, atol=2e-5, err_msg=kind)


def test_the_file_is_of_this_page():
    stale = [pair.name for pair in PAIRS if str(RECORDED.get(pair.name, {}).get("code")) != pair.torch]
    assert not stale and len(RECORDED) == len(PAIRS), f"run python tools/pytorch_pairs.py, with torch: {stale}"


def test_every_block_is_part_of_a_pair():
    page = TOOL.PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- needs: torch -->") == page.count("<!-- needs: caffe -->") == len(PAIRS) > 35


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_caffe_gives_what_pytorch_gave(pair):
    results = TOOL.run_caffe(pair, RECORDED[pair.name])
    assert len(results) > 1 or "Accuracy" in pair.caffe
    assert_equal(results, RECORDED[pair.name])


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_pytorch_gives_it_still(pair):
    pytest.importorskip("torch")
    assert_equal(TOOL.run_torch(pair), RECORDED[pair.name])


# -- what the page states in words -------------------------------------------------------------------------------------


def test_running_averages():
    torch = pytest.importorskip("torch")
    net = net_from_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 6 dim: 9 dim: 9 } } }'
        'layer { name: "y" type: "BatchNorm" bottom: "x" top: "y" batch_norm_param { moving_average_fraction: 0.9 } }'
    )
    norm = torch.nn.BatchNorm2d(6, momentum=1 - 0.9)
    batches = np.random.default_rng(3).normal(2, 3, (5, 4, 6, 9, 9)).astype(np.float32)
    for batch in batches:
        net.forward(x=batch)
        norm(torch.from_numpy(batch))
    mean, variance, _ = (blob.data for blob in net.params["y"])
    np.testing.assert_allclose(norm.running_mean, (1 - 0.9) * mean, rtol=1e-5)
    np.testing.assert_allclose(norm.running_var, (1 - 0.9) * variance + 0.9 ** len(batches), rtol=1e-5)


def test_dropout_while_training():
    torch = pytest.importorskip("torch")
    ones = np.ones((50, 40), np.float32)
    net = net_from_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 50 dim: 40 } } }'
        'layer { name: "y" type: "Dropout" bottom: "x" top: "y" dropout_param { dropout_ratio: 0.75 } }'
    )
    ours, theirs = net.forward(x=ones)["y"], torch.nn.functional.dropout(torch.from_numpy(ones), 0.75)
    assert set(np.unique(ours)) == set(np.unique(theirs)) == {0, 4}
    assert abs((ours == 0).mean() - 0.75) < 0.05


@pytest.mark.parametrize(
    ("init", "options", "text"),
    [
        ("kaiming_normal_", {"nonlinearity": "relu"}, 'type: "msra"'),
        ("kaiming_normal_", {"nonlinearity": "relu", "mode": "fan_out"}, 'type: "msra" variance_norm: FAN_OUT'),
        ("xavier_uniform_", {}, 'type: "xavier" variance_norm: AVERAGE'),
        ("kaiming_uniform_", {"nonlinearity": "linear"}, 'type: "xavier"'),
        ("normal_", {"std": 0.01}, 'type: "gaussian" std: 0.01'),
    ],
)
def test_initial_weights(init, options, text):
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    theirs = getattr(torch.nn.init, init)(torch.empty(120, 60, 3, 3), **options).numpy()
    blob = Blob((120, 60, 3, 3), np.float32)
    fill(blob, parse_text(text, caffe_pb2.FillerParameter()), np.random.default_rng(1))
    assert blob.data.std() == pytest.approx(theirs.std(), rel=0.02)
    if "normal" not in init:
        assert np.abs(blob.data).max() == pytest.approx(np.abs(theirs).max(), rel=0.001)


def test_default_weights_of_pytorch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    for module, inputs in ((torch.nn.Linear(400, 200), 400), (torch.nn.Conv2d(60, 120, 3), 540)):
        assert float(module.weight.abs().max().detach()) == pytest.approx(inputs**-0.5, rel=0.001)


class Updates:
    """The weights of trainings by the functions of tools/pytorch_pairs.py, with other programs."""

    def __init__(self, torch_code, caffe_code):
        pair = TOOL.Pair("", torch_code, caffe_code)
        self.theirs, self.ours = TOOL.run_torch(pair), TOOL.run_caffe(pair, {})


def test_momentum_when_the_rate_drops():
    """Equal only if PyTorch's buffer is divided by the factor by which the rate drops."""
    pytest.importorskip("torch")
    torch_code = (
        "optimizer = torch.optim.SGD(params, lr=0.1, momentum=0.9)\n"
        "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 6, gamma=0.1)\n"
    )
    caffe_code = 'base_lr: 0.1 lr_policy: "step" stepsize: 6 gamma: 0.1 momentum: 0.9'
    different = Updates(torch_code, caffe_code)
    assert np.abs(different.ours["weight"] - different.theirs["weight"]).max() > 0.01
    rescaled = torch_code + (
        "steps = []\n"
        "def before_step():\n"
        "    steps.append(1)\n"
        "    if len(steps) == 7:\n"
        "        for state in optimizer.state.values():\n"
        "            state['momentum_buffer'] /= 0.1\n"
    )
    equal = Updates(rescaled, caffe_code)
    assert_equal(equal.ours, equal.theirs)


def test_delta_of_adam():
    pytest.importorskip("torch")
    code = (
        "optimizer = torch.optim.Adam(params, lr=0.1, eps=0.1)\n"
        "steps = []\n"
        "def before_step():\n"
        "    steps.append(1)\n"
        "    optimizer.param_groups[0]['eps'] = 0.1 / (1 - 0.999 ** len(steps)) ** 0.5\n"
    )
    equal = Updates(code, 'type: "Adam" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 momentum2: 0.999 delta: 0.1')
    assert_equal(equal.ours, equal.theirs)


def test_clipping_of_an_accumulated_gradient():
    pytest.importorskip("torch")
    code = (
        "optimizer = torch.optim.SGD(params, lr=0.1)\n"
        "def before_step():\n"
        "    optimizer.zero_grad()\n"
        "    for _ in range(2):\n"
        "        (loss() / 2).backward()\n"
        "    nn.utils.clip_grad_norm_(params, 0.5)\n"
    )
    fixed = 'base_lr: 0.1 lr_policy: "fixed" iter_size: 2'
    equal, unclipped = Updates(code, f"{fixed} clip_gradients: 1.0"), Updates(code, fixed)
    assert_equal(equal.ours, equal.theirs)
    assert np.abs(unclipped.ours["weight"] - unclipped.theirs["weight"]).max() > 0.01


def test_phase_of_a_pair():
    """The programs for TEST give other numbers in TRAIN."""
    pair = next(pair for pair in PAIRS if pair.name == "BatchNorm 2")
    training = TOOL.run_caffe(pair._replace(caffe=pair.caffe.replace("# phase TEST", "")), RECORDED[pair.name])
    assert np.abs(training["y"] - RECORDED[pair.name]["y"]).max() > 0.01
