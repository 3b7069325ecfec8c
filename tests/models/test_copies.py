"""`minicaffe models`: the list of the nets, and copies of their files."""

import os
import re
from pathlib import Path

import pytest

from minicaffe import TEST, Net, models
from minicaffe.errors import UsageError
from minicaffe.models.texts import accuracy, deploy_net, summary, texts, zoo_names
from minicaffe.proto import read_net, read_solver
from minicaffe.solvers.nets import SolverNets, load


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A function that runs minicaffe in an empty working directory; returns status, output and error."""
    from minicaffe.cli import main

    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        status = main(words)
        return (status, *capsys.readouterr())

    return call


def test_the_list_has_every_net_with_its_numbers(run):
    status, out, _ = run("models")
    assert status == 0
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    assert list(rows) == [*models.names(), *zoo_names()]
    numbers = {name: re.match(r"  \w+ +[\d,]+", line) for name, line in rows.items()}
    assert {name for name, number in numbers.items() if number is None} == {"faster_rcnn", "rfcn"}  # Python layers
    ends = {number.end() for number in numbers.values() if number}
    assert len(ends) == 1, "the numbers are not below each other"
    assert re.match(r"  cifar10_quick +145,578  0\.7563 +Three 5x5 convolutions and two inner", rows["cifar10_quick"])
    assert re.match(r"  lenet +431,080  0\.9905 ", rows["lenet"])
    assert "cifar10_full_sigmoid without" in rows["cifar10_full_sigmoid_bn"]
    assert re.match(r"  vgg16 +138,357,544 +VGG-16$", rows["vgg16"])


@pytest.mark.parametrize("name", sorted([*models.names(), *zoo_names()]))
def test_the_list_agrees_with_the_docs(name):
    """The numbers of parameters that readmes and docstrings state are those counted."""
    from minicaffe.pictures.costs import net_costs

    layers = net_costs(deploy_net(name)).layers
    counts = [layer.own_params for layer in layers if layer.type != "BatchNorm"]
    text = texts(name, "x")["readme.md"]
    stated = re.search(r"([\d,]+)(?: learned)?\s+parameters", text)
    assert stated is None or stated[1] == f"{sum(counts):,}"
    assert summary(name) and "\n" not in summary(name) and "parameters" not in summary(name)
    assert accuracy(name) in ("", *re.findall(r"\*\*(0\.\d+)\*\*", text))


@pytest.mark.parametrize("folder", ["my_net", "runs/a b", 'q"uote\\d', "models/lenet", "@"])
def test_a_copied_solver_works_from_the_working_directory(run, tmp_path, folder):
    folder = folder.replace("@", str(tmp_path / "absolute"))
    status, out, err = run("models", "lenet", folder)
    assert status == 0, err
    assert "data mnist" in out and "train --solver " in out
    solver = read_solver(f"{folder}/solver.prototxt")
    assert os.path.samefile(solver.net, f"{folder}/train_test.prototxt")
    assert os.path.samefile(os.path.dirname(solver.snapshot_prefix), folder)
    nets = SolverNets(load(f"{folder}/solver.prototxt"))
    assert nets.train.layer[0].data_param.source == "data/mnist/mnist_train_lmdb"
    assert Net(f"{folder}/deploy.prototxt", TEST).outputs == ["prob"]
    assert f"minicaffe train --solver {folder}/solver.prototxt" in (Path(folder) / "readme.md").read_text()


def test_a_second_copy_replaces_nothing(run):
    assert run("models", "cifar10_quick", "mine")[0] == 0
    before = {path: path.read_bytes() for path in Path("mine").iterdir()}
    status, out, _ = run("models", "cifar10_quick", "mine/")
    assert status == 0 and "mine has the files of cifar10_quick already" in out
    os.unlink("mine/deploy.prototxt")
    assert "Wrote deploy.prototxt to mine" in run("models", "cifar10_quick", "mine")[1]
    Path("mine/solver.prototxt").write_text("net: 'own'")
    os.unlink("mine/deploy.prototxt")
    status, _, err = run("models", "cifar10_quick", "mine")
    assert status == 1 and "'mine/solver.prototxt' is another file, which is not replaced" in err
    assert not os.path.exists("mine/deploy.prototxt")
    assert Path("mine/readme.md").read_bytes() == before[Path("mine/readme.md")]


@pytest.mark.parametrize("name", zoo_names())
def test_copies_of_the_zoo(run, name):
    assert run("models", name, "z")[0] == 0
    for file in sorted(Path("z").glob("*.prototxt")):
        assert len(read_net(str(file)).layer) > 5
    text = Path("z/readme.md").read_text()
    assert text.startswith(f"# {name}\n") and "**Source.**" in text and "z/deploy.prototxt" in text
    assert ("`train.prototxt`" in text) == os.path.exists("z/train.prototxt")


def test_unknown_names(run):
    status, _, err = run("models", "lennet", "x")
    assert status == 1 and "there is no net 'lennet' (did you mean \"lenet\"?)" in err
    assert not os.path.exists("x")
    with pytest.raises(UsageError):
        texts("nosuch", "x")


def test_only_whole_names_are_replaced_in_readmes():
    text = texts("cifar10_full_sigmoid", "mine")["readme.md"]
    assert "mine/solver.prototxt" in text and "../cifar10_full_sigmoid_bn/readme.md" in text
    quick = texts("cifar10_quick", "mine")["readme.md"]
    assert "models/cifar10_quick" not in quick and "s|mine|quick_zca|" in quick
    assert quick.endswith("in minicaffe's repository.\n")


def test_what_is_copied_is_installed():
    """setup.cfg's package data has every file that is copied."""
    import configparser

    from house.imports import ROOT

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    patterns = [each.strip() for each in setup["options.package_data"]["minicaffe.models"].split(",")]
    packaged = {path.relative_to(ROOT / "models") for each in patterns for path in (ROOT / "models").glob(each)}
    copied = {Path(name) / file for name in models.names() for file in texts(name, "x")}
    assert copied == packaged
