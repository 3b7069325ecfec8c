"""--set and --seed: what is trained with, what is logged, and wrong values."""

import argparse
import io
import logging

import pytest

import minicaffe
from minicaffe.cli import main
from minicaffe.cli.settings import apply
from minicaffe.cli.train import _words
from minicaffe.solvers import nets


@pytest.fixture
def log():
    logger, stream = logging.getLogger("minicaffe"), io.StringIO()
    logger.addHandler(logging.StreamHandler(stream))
    logger.setLevel(logging.INFO)
    return stream


def loaded(*settings, seed=None):
    return apply(nets.load("solver.prototxt"), argparse.Namespace(set=list(settings), seed=seed))


def test_fields_of_the_solver(project, log):
    param = loaded("base_lr=0.5", "stepvalue=1,2", "stepvalue=3", "train_state.level=2", seed=9).param
    assert param.base_lr == 0.5 and list(param.stepvalue) == [1, 2, 3]
    assert param.train_state.level == 2 and param.random_seed == 9
    assert "Set base_lr: 0.05 -> 0.5\n" in log.getvalue()
    assert "Set stepvalue: 1, 2 -> 1, 2, 3\n" in log.getvalue()
    assert "Set random_seed: 3 -> 9\n" in log.getvalue()


def test_an_old_solver_type(project):
    assert loaded("solver_type=ADAM").param.type == "Adam"


def test_fields_of_the_net_in_the_file_that_the_solver_names(project):
    text = (project / "net.prototxt").read_text()
    source = loaded("net_param.layer[conv].convolution_param.num_output=9")
    solver = minicaffe.get_solver(source)
    assert [net.blobs["conv"].shape[1] for net in (solver.net, *solver.test_nets)] == [9, 9]
    assert (project / "net.prototxt").read_text() == text


def test_the_solver_may_get_another_net(project):
    text = (project / "net.prototxt").read_text()
    (project / "other.prototxt").write_text(text.replace("num_output: 4", "num_output: 5"))
    changed = loaded("net_param.layer[ip].param=lr_mult: 3", "net=other.prototxt")
    solver = minicaffe.get_solver(changed)
    assert solver.net.blobs["conv"].shape[1] == 5 and 3 in solver.net.lr_mults


def test_nets_of_tests(project):
    solver = (project / "solver.prototxt").read_text()
    solver = solver.replace('net: "net.prototxt"', 'train_net: "net.prototxt" test_net: "net2.prototxt"')
    (project / "solver.prototxt").write_text(solver)
    (project / "net2.prototxt").write_text((project / "net.prototxt").read_text())
    source = loaded("test_net_param[0].name=second", "train_net_param.name=first")
    wanted = nets.SolverNets(source)
    assert (wanted.train.name, wanted.tests[0].name) == ("first", "second")


@pytest.mark.parametrize("command", ["train", "check"])
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--set", "base_lrr=1"], 'base_lrr=1: SolverParameter has no field "base_lrr" (did you mean "base_lr"?)'),
        (["--set", "base_lr=x"], "--set base_lr=x: expected a number"),
        (["--set", "base_lr"], "--set base_lr: expected FIELD=VALUE, such as base_lr=0.01 or train_state.level=1"),
        (["--set", "train_net_param.name=x"], "the solver has no train_net_param, and no train_net for it"),
        (["--set", "test_net_param[1].name=x"], "the solver has no test_net_param[1], and no test_net for it"),
        (["--set", "net_param.layer[cnv].name=x"], 'layer has 6 elements, and none is [cnv] (did you mean "conv"?)'),
        (["--seed", "-1"], "--seed: expected a whole number from 0 to 9223372036854775807, got -1"),
        (["--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (["--seed", "1", "--set", "random_seed=2"], "give --seed or --set random_seed, but not both"),
    ],
)  # fmt: skip
def test_wrong_flags(project, capsys, command, words, sentence):
    assert main([command, "--solver", "solver.prototxt", *words]) == 1
    error = capsys.readouterr().err
    assert sentence in error and error.splitlines()[-1].startswith("minicaffe: ")


def test_training_with_flags_and_how_it_is_resumed(project, capsys, monkeypatch):
    words = ["--set", "max_iter=3", "--set", "snapshot=2", "--seed", "5"]
    assert main(["train", "--solver", "solver.prototxt", *words]) == 0
    assert "Set max_iter: 8 -> 3" in capsys.readouterr().err
    assert (project / "tiny_iter_3.solverstate.h5").exists()
    namespace = argparse.Namespace(solver="s", set=["max_iter=3", "-x=1"], seed=5)
    assert _words(namespace) == ["--solver", "s", "--set", "max_iter=3", "--set=-x=1", "--seed", "5"]


def test_check_sees_the_changed_solver(project, capsys):
    words = ["check", "--solver", "solver.prototxt", "--stages", "static"]
    assert main(words) == 0
    assert main([*words, "--set", "lr_policy=stepp"]) == 1
    assert "stepp" in capsys.readouterr().out


def outputs(capsys, *words):
    assert main([*words]) == 0
    return [line.split("] ")[1] for line in capsys.readouterr().err.splitlines() if "Batch" in line]


def test_a_seed_makes_a_test_repeatable(project, capsys):
    assert main(["train", "--solver", "solver.prototxt", "--set", "max_iter=1"]) == 0
    capsys.readouterr()
    command = ["test", "--model", "net.prototxt", "--weights", "tiny_iter_1.caffemodel.h5", "--iterations", "1"]
    first, again, other = (outputs(capsys, *command, "--seed", seed) for seed in ("1", "1", "2"))
    assert first == again != other


def test_a_seed_for_time_leaves_the_seeds_of_this_thread(project):
    minicaffe.set_random_seed(1)
    assert main(["time", "--model", "net.prototxt", "--iterations", "1", "--seed", "4"]) == 0
    after = minicaffe.core.random.new_stream().get_state()
    minicaffe.set_random_seed(1)
    assert minicaffe.core.random.new_stream().get_state() == after
