"""What docs/batch_norm.md states about nets that it does not contain, and its lines of `debug_info`."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest

import minicaffe
from helpers.nets import layer_text, net_from_text, solver_from_text
from minicaffe.data.datasets import synthetic
from minicaffe.errors import LayerError, NetError
from minicaffe.models.zoo.resnet import cifar_resnet, resnet50
from minicaffe.proto import caffe_pb2, parse_text, upgrade_net

PAGE = Path(minicaffe.__file__).resolve().parent.parent / "docs" / "batch_norm.md"
SOLVER = 'base_lr: 0.01 lr_policy: "fixed" max_iter: 1 random_seed: 1 display: 1 debug_info: true '
TESTED = SOLVER + "test_iter: 1 test_interval: 1 "
LINE = re.compile(r"\[Forward\] Layer (\S+), (?:top|param) blob (\S+) data: (\S+)")
DATA = """layer { name: "data" type: "Data" top: "data" top: "label"
  transform_param { mean_file: "data/cifar10/mean.binaryproto" }
  data_param { source: "data/cifar10/cifar10_train_lmdb" backend: LMDB batch_size: 50 } }
"""


def stack(depth, more=""):
    """A net of convolutions, each with BatchNorm and ReLU; `more`: the rest of each BatchNorm."""
    text, bottom = DATA, "data"
    for i in range(1, depth + 1):
        top = f"conv{i}"
        text += f"""layer {{ name: "{top}" type: "Convolution" bottom: "{bottom}" top: "{top}" convolution_param {{
          num_output: 16 kernel_size: 3 pad: 1 bias_term: false weight_filler {{ type: "msra" }} }} }}\n"""
        text += layer_text(f"bn{i}", "BatchNorm", top, top, more) + layer_text(f"relu{i}", "ReLU", top, top)
        bottom = top
    score = 'inner_product_param { num_output: 10 weight_filler { type: "xavier" } }'
    return (
        text
        + layer_text("ip", "InnerProduct", bottom, "ip", score)
        + layer_text("loss", "SoftmaxWithLoss", "ip label", "loss")
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        synthetic.prepare("data/cifar10", train=400, test=200)
    return folder


GLOBAL, ZERO = "batch_norm_param { use_global_stats: true }", "batch_norm_param { scale_filler { type: 'constant' } }"


def blocks_of_lines():
    """The lines of each block in the page's section on debug_info: matches of LINE."""
    section = PAGE.read_text(encoding="utf-8").partition("## What debug_info shows")[2]
    blocks = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    return [[LINE.search(line) for line in block.splitlines()] for block in blocks]


@pytest.mark.parametrize(
    ("block", "depth", "more", "tested"),
    [(0, 3, "", False), (1, 3, "", True), (2, 17, GLOBAL, False), (3, 3, ZERO, False)],
    ids=["good", "factor 0", "nan", "scale 0"],
)
def test_lines_of_debug_info(data, monkeypatch, caplog, block, depth, more, tested):
    monkeypatch.chdir(data)
    solver = solver_from_text(TESTED if tested else SOLVER, stack(depth, more))
    with caplog.at_level(logging.INFO, "minicaffe"):
        solver.tests.run_all() if tested else solver.step(1)
    lines = [line for line in (LINE.search(record.getMessage()) for record in caplog.records) if line]
    logged = {(line[1], line[2]): float(line[3]) for line in lines}
    shown = blocks_of_lines()[block]
    assert shown and all(shown)
    for line in shown:
        np.testing.assert_allclose(logged[line[1], line[2]], float(line[3]), rtol=1e-3, err_msg=line[0])


# -- statements --------------------------------------------------------------------------------------------------------

INPUT = layer_text("x", "Input", "", "x", "input_param { shape { dim: 6 dim: 3 dim: 4 dim: 4 } }")
X = np.random.default_rng(0).normal(2, 3, (6, 3, 4, 4)).astype("f4")


def norm(more="", name="bn"):
    return layer_text(name, "BatchNorm", "x", "y", more)


@pytest.mark.parametrize(("count", "mult"), [(0, ""), (1, "lr_mult: 0"), (2, "lr_mult: 0"), (3, "lr_mult: 5"), (3, "")])
def test_multipliers_that_are_accepted(count, mult):
    net = net_from_text(INPUT + norm(f"param {{ {mult} }} " * count))
    assert net.lr_mults == [0, 0, 0]


def test_multipliers_that_are_refused():
    message = "the statistics are not learned: lr_mult of param 0 must be 0, got 1"
    assert f"`{message}`" in PAGE.read_text(encoding="utf-8")
    for count in (1, 2):
        with pytest.raises(LayerError, match=message):
            net_from_text(INPUT + norm("param { } " * count))
    with pytest.raises(NetError, match="too many params"):
        net_from_text(INPUT + norm("param { lr_mult: 0 } " * 4))


def test_without_statistics_values_are_multiplied_by_316():
    y = net_from_text(INPUT + norm(), phase=minicaffe.TEST).forward(x=X)["y"]
    np.testing.assert_allclose(y, X * 316.23, rtol=1e-4)


def phases(train, test):
    """A solver of a net with a BatchNorm in each phase."""
    both = norm("include { phase: TRAIN } " + train, "bn") + norm("include { phase: TEST } " + test, "bn")
    return INPUT + both


@pytest.mark.parametrize("same", [True, False])
def test_a_layer_for_each_phase(same):
    text = phases("", "")
    if not same:
        text = text[::-1].replace('"nb"', '"tset_nb"', 1)[::-1]
    solver = solver_from_text(TESTED, text)
    solver.net.forward(x=X)
    y = solver.test_nets[0].forward(x=X)["y"]
    expected = solver_from_text(TESTED, INPUT + norm())
    expected.net.forward(x=X)
    if same:
        np.testing.assert_array_equal(y, expected.test_nets[0].forward(x=X)["y"])
    else:
        np.testing.assert_allclose(y, X * 316.23, rtol=1e-4)


def test_a_test_with_the_batchs_statistics_changes_those_of_training():
    solver = solver_from_text(TESTED, INPUT + norm("batch_norm_param { use_global_stats: false }"))
    solver.net.forward(x=X)
    assert solver.net.params["bn"][2].data == 1
    solver.test_nets[0].forward(x=X + 100)
    assert solver.net.params["bn"][2].data == pytest.approx(1.999)
    assert (solver.net.params["bn"][0].data > 50).all()


def test_each_pass_of_iter_size_counts():
    data = layer_text("x", "DummyData", "", "x t", "dummy_data_param { shape { dim: 4 dim: 3 } }")
    solver = solver_from_text(SOLVER + "iter_size: 4", data + norm() + layer_text("loss", "EuclideanLoss", "y t", "l"))
    solver.step(1)
    assert solver.net.params["bn"][2].data == pytest.approx(1 + 0.999 + 0.999**2 + 0.999**3)


def test_a_single_value_becomes_zero():
    net = net_from_text(
        INPUT.replace("dim: 6 dim: 3 dim: 4 dim: 4", "dim: 1 dim: 3") + "force_backward: true " + norm()
    )
    assert (net.forward(x=X[:1, :, 0, 0])["y"] == 0).all()
    net.blobs["y"].diff[...] = 1
    assert (net.backward()["x"] == 0).all()


def test_nvidias_scale():
    zero, one = (
        upgrade_net(parse_text(norm(text), caffe_pb2.NetParameter())).layer[1].scale_param
        for text in (ZERO, "batch_norm_param { scale_bias: true }")
    )
    assert zero.filler.type == "constant" and zero.filler.value == 0
    assert not one.HasField("filler")  # Scale begins with 1


def test_what_ranks_exchange():
    """The table of whole nets: each of their convolutions has a BatchNorm behind it."""
    rows = re.findall(r"^\| (\S+) \| (\d+) \| ([\d,]+) \| (\d+) \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.M)
    nets = {"cifar10_resnet20": cifar_resnet(), "ResNet-50": resnet50()}
    assert [row[0] for row in rows] == list(nets)
    for name, layers, channels, exchanges, sizes in rows:
        net = nets[name]
        widths = [layer.convolution_param.num_output for layer in net.layer if layer.type == "Convolution"]
        assert [int(layers)] * 2 == [len(widths), sum(layer.type == "BatchNorm" for layer in net.layer)]
        assert int(channels.replace(",", "")) == sum(widths)
        assert int(exchanges) == 2 * len(widths)
        part = sum(8 * (1 + 2 * width) for width in widths)
        assert sizes == " | ".join(f"{ranks * part / 1000:,.0f} KB" for ranks in (2, 8, 1))
