"""Summaries: parameters, multiply-accumulates and memory of nets, as numbers and as tables.

The numbers of known nets are those of their papers, or of the sums over their layers.
"""

import os
from pathlib import Path

import pytest

from minicaffe import models
from minicaffe.cli import main
from minicaffe.errors import BlobError
from minicaffe.models import zoo
from minicaffe.pictures.costs import net_costs
from minicaffe.pictures.shapes import plan_net
from minicaffe.pictures.summary import COLUMNS, net_table, summarize_net, total_text, type_table, units
from minicaffe.proto import caffe_pb2, parse_text, read_net

CAFFENET = [(96, 11, 4, 0, 1), "pool", (256, 5, 1, 2, 2), "pool", (384, 3, 1, 1, 1), (384, 3, 1, 1, 2),
            (256, 3, 1, 1, 2), "pool", 4096, 4096, 1000]  # fmt: skip


def parsed(text):
    return parse_text(text, caffe_pb2.NetParameter())


def layer(name, type_name, bottom, top, more=""):
    bottoms = " ".join(f'bottom: "{blob}"' for blob in bottom.split())
    return f'layer {{ name: "{name}" type: "{type_name}" {bottoms} top: "{top}" {more} }}'


def image(*shape):
    dims = " ".join(f"dim: {n}" for n in shape)
    return layer("data", "Input", "", "data", f"input_param {{ shape {{ {dims} }} }}")


def caffenet(batch):
    """CaffeNet (bvlc_reference_caffenet), without the layers that have no weights and keep the shape."""
    texts, bottom = [image(batch, 3, 227, 227)], "data"
    for i, part in enumerate(CAFFENET):
        if part == "pool":
            param = "pooling_param { kernel_size: 3 stride: 2 }"
            texts.append(layer(f"l{i}", "Pooling", bottom, f"l{i}", param))
        elif isinstance(part, int):
            texts.append(
                layer(f"l{i}", "InnerProduct", bottom, f"l{i}", f"inner_product_param {{ num_output: {part} }}")
            )
        else:
            fields = zip(("num_output", "kernel_size", "stride", "pad", "group"), part)
            param = " ".join(f"{name}: {value}" for name, value in fields)
            texts.append(layer(f"l{i}", "Convolution", bottom, f"l{i}", f"convolution_param {{ {param} }}"))
        bottom = f"l{i}"
    return parsed("\n".join(texts))


def deploy(name):
    return read_net(os.path.join(models.folder(name), "deploy.prototxt"))


def of_zoo(name):
    return lambda batch: getattr(zoo, name)(batch=batch, training=False)


#: parameters, those of them that learn, and MACs of one image
KNOWN = {
    "caffenet": (caffenet, 60_965_224, 60_965_224, 724_406_816),
    "vgg16": (of_zoo("vgg16"), 138_357_544, 138_357_544, 15_470_264_320),
    "googlenet": (of_zoo("googlenet"), 6_998_552, 6_998_552, 1_582_671_872),  # without the side classifiers
    # 53 BatchNorms with 26560 means, as many variances and 53 weights of them: stored, not learned
    "resnet50": (of_zoo("resnet50"), 25_557_032 + 2 * 26_560 + 53, 25_557_032, 3_857_973_248),  # paper: 3.8e9
    "mobilenet": (of_zoo("mobilenet"), 4_231_976 + 2 * 10_944 + 27, 4_231_976, 568_740_352),  # paper: 569 M
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_nets(name):
    make, params, learned, macs = KNOWN[name]
    costs = net_costs(make(4))
    assert (costs.total.params, costs.total.learned, costs.total.macs) == (params, learned, 4 * macs)
    assert costs.batch == 4 and not costs.total.unknown


@pytest.mark.parametrize("name, params", [("lenet", 431_080), ("cifar10_quick", 145_578)])
def test_nets_of_the_package(name, params):
    net = deploy(name)
    assert net_costs(net).total.params == params


def test_no_memory_is_allocated(monkeypatch):
    """Weights of VGG-16 would be 553 MB; a DummyData would fill its tops when it is set up."""

    def refuse(*args):
        raise AssertionError("memory was allocated")

    monkeypatch.setattr("minicaffe.core.memory.aligned_zeros", refuse)
    assert net_costs(zoo.vgg16(batch=32)).total.params == 138_357_544
    dummy = "dummy_data_param { shape { dim: 2 dim: 3 } data_filler { type: 'gaussian' } }"
    assert net_costs(parsed(layer("data", "DummyData", "", "data", dummy))).total.tops == 6


# -- what counts -------------------------------------------------------------------------------------------------------

IP = "inner_product_param { num_output: 5 bias_term: false }"


def test_shared_parameters_count_once():
    shared = IP + " param { name: 'w' }"
    own = IP + " param { lr_mult: 0 }"
    text = [image(2, 5), layer("a", "InnerProduct", "data", "a", shared), layer("b", "InnerProduct", "a", "b", shared)]
    costs = net_costs(parsed("\n".join([*text, layer("c", "InnerProduct", "b", "c", own)])))
    assert [(one.params, one.own_params, one.learned) for one in costs.layers[1:]] == [
        (25, 25, 25),
        (25, 0, 0),
        (25, 25, 0),
    ]
    assert (costs.total.params, costs.total.learned, costs.total.macs) == (50, 25, 3 * 2 * 25)
    (of_type,) = [total for name, total in costs.per_type.items() if name == "InnerProduct"]
    assert of_type.params == 50


def test_tops_in_place_count_once():
    text = [image(2, 5), layer("a", "ReLU", "data", "data"), layer("b", "ReLU", "data", "b")]
    assert [one.tops for one in net_costs(parsed("\n".join(text))).layers] == [10, 0, 10]


def test_an_automatic_top_of_a_loss():
    net = parsed(image(2, 5) + 'layer { name: "l" type: "EuclideanLoss" bottom: "data" bottom: "data" }')
    assert [one.known for one in net_costs(net).layers] == [True, True]


def test_blobs_that_reshape_reads_are_there():
    centers = "center_loss_param { num_output: 4 }"
    text = [image(6, 3), layer("labels", "Input", "", "labels", "input_param { shape { dim: 6 } }")]
    text += [layer("c", "CenterLoss", "data labels", "c", centers)]
    text += [layer("p", "Parameter", "", "p", "parameter_param { shape { dim: 7 } }")]
    costs = net_costs(parsed("\n".join(text)))
    assert [(one.shape, one.params) for one in costs.layers[2:]] == [((), 12), ((7,), 7)]


PARTLY = [
    layer("data", "Data", "", "data", "data_param { source: 'missing' }"),
    layer("ip", "InnerProduct", "data", "ip", IP),
]


def test_unknown_shapes():
    text = "\n".join([*PARTLY, image(2, 5).replace('"data"', '"x"'), layer("own", "InnerProduct", "x", "y", IP)])
    costs = net_costs(parsed(text))
    assert costs.layers[1].params is None and costs.layers[1].macs is None and costs.total.unknown == ["data", "ip"]
    assert summarize_net(parsed(text))[1][-5:] == [""] * 5
    assert total_text(costs).startswith("at least 25 parameters (all learned); 50 MACs; ")
    assert total_text(costs).endswith("\nunknown: data, ip (--shape gives the shape of a blob)")
    assert "at least" in net_table(parsed(text), {"total": costs}).splitlines()[-1]
    given = net_costs(parsed(text), {"data": (2, 5)})
    assert not given.total.unknown and given.total.params == 50
    with pytest.raises(BlobError, match="at most"):
        net_costs(parsed(text), {"data": (1 << 40, 5)})


def test_a_python_layer_may_have_parameters():
    param = "python_param { module: 'none' layer: 'None' }"
    text = image(2, 5) + layer("p", "Python", "data", "p", param) + layer("q", "Python", "", "q", param)
    assert net_costs(parsed(text), {"p": (2,), "q": (2,)}).total.unknown == ["p"]


def test_a_programming_error_is_not_hidden(monkeypatch):
    monkeypatch.setattr("minicaffe.layers.relu.ReLU.setup", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        plan_net(parsed(image(2, 5) + layer("a", "ReLU", "data", "a")))


@pytest.mark.parametrize(
    "text, batch",
    [
        ([image(4, 1, 6, 6), layer("ip", "InnerProduct", "data", "ip", IP)], 4),
        ([image(4, 6), layer("ip", "InnerProduct", "data", "ip", IP)], None),  # the axis may be of steps
        ([image(4, 1, 6, 6), layer("ip", "InnerProduct", "data", "ip", IP.replace("5", "5 axis: 2"))], 4),
        ([image(4, 1, 6, 6), layer("r", "Reshape", "data", "r", "reshape_param { shape { dim: 8 dim: -1 } }"),
          layer("ip", "InnerProduct", "r", "ip", IP)], None),
        ([image(0, 1, 6, 6)], None),
    ],
)  # fmt: skip
def test_the_batch(text, batch):
    assert net_costs(parsed("\n".join(text))).batch == batch


# -- texts -------------------------------------------------------------------------------------------------------------


def test_units():
    numbers = [0, 5, 950, 999, 1000, 1234, 25_557_032, 999_499, 999_500, 3_857_973_248, 2**62]
    texts = ["0", "5", "950", "999", "1.00k", "1.23k", "25.6M", "999k", "1.00M", "3.86G", "4.61E"]
    assert [units(number) for number in numbers] == texts
    assert units(1234, " ") + "B" == "1.23 kB"


def test_numbers_are_aligned():
    net = deploy("lenet")
    costs = net_costs(net)
    lines = net_table(net, {"total": costs}).splitlines()
    shown = [name for name in COLUMNS if name not in ("lr_mult", "->")]  # without multipliers: no header for them
    assert lines[0].split() == " ".join(shown).split()
    assert len(lines) == len(net.layer) + 2
    end = {name: lines[0].index(name) + len(name) for name in ("params", "MACs", "top B", "param B")}
    conv1, total = lines[2], lines[-1]
    for line, cells in ((conv1, ("520", "288k", "46.1k", "2.08k")), (total, ("431k", "2.29M", "78.8k", "1.72M"))):
        for name, cell in zip(end, cells):
            assert line[: end[name]].endswith(" " + cell)
    assert max(map(len, lines)) < 100
    assert total_text(costs) == (
        "431,080 parameters (all learned); 2.29M MACs for one image; 78.8 kB of tops, 1.72 MB of parameters"
    )


def test_types_with_the_most_macs_come_first():
    lines = [line.split() for line in type_table(net_costs(zoo.resnet50(batch=1))).splitlines()]
    assert [line[0] for line in lines[:5]] == ["type", "Convolution", "InnerProduct", "BatchNorm", "Scale"]
    assert lines[1][1:] == ["53", "23.5M", "3.86G", "42.3M", "93.8M"] and lines[-1][:2] == ["total", "230"]


# -- the command -------------------------------------------------------------------------------------------------------

PHASES = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 8 dim: 1 dim: 2 dim: 2 }} }} {train} }}
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 2 dim: 1 dim: 2 dim: 2 }} }} {test} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param {{ num_output: 5 }} }}
""".format(train="include { phase: TRAIN }", test="include { phase: TEST }")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run `minicaffe summarize` in a folder with net.prototxt, and a solver of it in sub/; return what it printed."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(PHASES)
    Path("sub").mkdir()
    Path("sub/near.prototxt").write_text('name: "near"' + PHASES)
    Path("sub/solver.prototxt").write_text(
        'net: "near.prototxt"\ntest_iter: 1\ntest_iter: 1\ntest_interval: 1\nbase_lr: 1 lr_policy: "fixed"'
    )

    def command(*words):
        status = main(["summarize", *words])
        out, err = capsys.readouterr()
        assert (status == 0) == (not err)
        return out or err

    return command


def test_each_phase_has_its_total(run):
    lines = run("net.prototxt").splitlines()
    assert [line.split()[0] for line in lines[:6]] == ["layer", "data", "data", "ip", "TRAIN", "TEST"]
    assert lines[7].startswith("TRAIN: 25 parameters (all learned); 160 MACs for 8 images, 20 for each;")
    assert lines[8].startswith("TEST: 25 parameters (all learned); 40 MACs for 2 images, 20 for each;")
    lines = run("net.prototxt", "--phase", "TEST").splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["layer", "data", "ip", "total"]


def test_a_phase_without_layers(run):
    Path("net.prototxt").write_text(layer("x", "Input", "", "x", "include { phase: TRAIN }"))  # x: a scalar
    lines = run("net.prototxt", "--phase", "TEST").splitlines()
    assert lines == ["", "total", "", "0 parameters; 0 MACs; 0 B of tops, 0 B of parameters"]
    lines = run("net.prototxt").splitlines()
    assert [line.split() for line in lines[2:4]] == [["TRAIN", "4"], ["TEST"]]


def test_per_type(run):
    lines = run("net.prototxt", "--per-type").splitlines()
    assert [line.split()[0] for line in lines[:6] if line] == ["TRAIN", "type", "InnerProduct", "Input", "total"]
    assert "TEST" in lines


def test_the_nets_of_a_solver(run):
    """The path of the net is relative to the solver's folder, as in training."""
    out = run("sub/solver.prototxt")
    titles = [line for line in out.splitlines() if ": near" in line]
    assert titles == ["Train net: near", "Test net #0: near", "Test net #1: near"]
    assert out.count("40 MACs for 2 images") == 2 and out.count("160 MACs for 8 images") == 1
    assert run("sub/solver.prototxt", "--phase", "TRAIN").count("net") == 1
    assert run("sub/solver.prototxt", "--phase", "TEST", "--per-type").count("Test net") == 2


@pytest.mark.parametrize(
    "text, error",
    [
        ('net: "net.prototxt"\nbase_rl: 1', 'SolverParameter has no field "base_rl"'),
        ("type: 'SGD' base_rl: 1 net_param { name: 'x' }", 'SolverParameter has no field "base_rl"'),
        ('net: "missing.prototxt"', "cannot read 'missing.prototxt'"),
        ('# a net: 1\nlayr { name: "net: 1" }', 'NetParameter has no field "layr"'),
        ("", "there is no layer in this net"),
    ],
)
def test_errors_are_those_of_the_kind_of_file(run, text, error):
    Path("file.prototxt").write_text(text)
    assert error in run("file.prototxt")
