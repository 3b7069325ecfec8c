"""How command lines are read, and the errors for those that cannot be."""

import os
import subprocess
import sys

import pytest

import minicaffe
from minicaffe.cli.command import own_name
from minicaffe.cli.entry import MODULES
from minicaffe.cli.test import score


def one_sentence(text: str) -> bool:
    return text.startswith("minicaffe: ") and text.count("\n") == 1 and "Traceback" not in text


@pytest.mark.parametrize(
    "words",
    [
        ("time", "-model", "net.prototxt", "-iterations", "2"),
        ("time", "--model=net.prototxt", "--iterations=2"),
        ("time", "-model=net.prototxt", "--iterations", "2"),
        ("-model", "net.prototxt", "-iterations=2", "time"),
    ],
)
def test_one_dash_or_two_space_or_equals_sign(project, run, words):
    status, _, log = run(*words)
    assert status == 0
    assert "Testing for 2 iterations." in log


@pytest.mark.parametrize(
    "words, said",
    [
        (("trian",), "unknown action 'trian' (did you mean \"train\"?)"),
        (("train", "test"), "expected exactly one action and its flags, got 'test' as well"),
        (
            ("train", "a net/solver.prototxt"),
            "train: expected a flag before 'a net/solver.prototxt': give --solver 'a net",
        ),
        (("check", "absent.prototxt"), "PROTOTXT: there is no file 'absent.prototxt'"),
        (("check", "net.prototxt", "--solver", "solver.prototxt"), "give a prototxt or -solver, but not both"),
        (("test", "net.prototxt"), "give --model net.prototxt"),
        (("test", "--model", "net.prototxt", "w.caffemodel.h5"), "give --weights w.caffemodel.h5"),
        (("train", "solver.prototxt", "w.solverstate"), "give --solver solver.prototxt"),
        (("train", "--solver", "solver.prototxt", "w.solverstate"), "give --snapshot w.solverstate"),
        (("time", "w.solverstate"), "expected exactly one action and its flags, got 'w.solverstate' as well"),
        (("train", "--solvr", "x"), "has no flag '--solvr' (did you mean \"--solver\"?)"),
        (("train",), "need a solver definition to train"),
        (("train", "-solver", "missing.prototxt"), "there is no file 'missing.prototxt'"),
        (("train", "-solver", "solver.prototxt", "-snapshot", "a", "-weights", "b"), "but not both"),
        (
            ("train", "-solver", "solver.prototxt", "--best", "acc"),
            "no test net has an output 'acc', expected one of: ac",
        ),
        (("train", "-solver", "solver.prototxt", "--patience", "2"), "give the output for best, too"),
        (("train", "-solver", "solver.prototxt", "--keep", "0"), "keep must be at least 1, got 0"),
        (("train", "-solver", "solver.prototxt", "-weights", "no.caffemodel"), "there is no file 'no.caffemodel'"),
        (("train", "-solver", "solver.prototxt", "-sigint_effect", "explode"), "expected stop, snapshot, none, got"),
        (("train", "-solver", "solver.prototxt", "-gpu", "x"), "expected device ids separated by commas"),
        (("train", "-solver", "solver.prototxt", "-gpu", "97,98"), "no GPU "),
        (("train", "-solver", "solver.prototxt", "--engine", "MKL"), "expected one of DEFAULT, CAFFE"),
        (("train", "-solver", "solver.prototxt", "--threads", "0"), "expected a number above 0, got 0"),
        (("train", "-solver", "solver.prototxt", "--threads", "two"), "argument --threads"),
        (("train", "-solver", "solver.prototxt", "--math", "fp8"), "expected float32, tf32 or bf16, got 'fp8'"),
        (("train", "-solver", "solver.prototxt", "--log", "no/such/x.log"), "cannot write the log"),
        (("test", "-model", "net.prototxt"), "need model weights to score"),
        (("train", "-solver"), "train: argument --solver: expected one argument;"),
        (("time",), "need a model definition to time"),
        (("time", "-model", "net.prototxt", "-phase", "DEPLOY"), '-phase must be "TRAIN" or "TEST"'),
        (("time", "-model", "net.prototxt", "-iterations", "0"), "expected a number above 0, got 0"),
        (("-gpu", "0"), "expected an action before the flag '-gpu'"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_1(project, run, words, said):
    status, out, err = run(*words)
    assert status == 1
    assert one_sentence(err[err.rindex("minicaffe: ") :])
    assert said in err
    assert out == ""


def test_mistakes_in_files_are_one_sentence_too(project, run):
    (project / "net.prototxt").write_text('layer { nam: "x" }')
    status, _, err = run("time", "-model", "net.prototxt")
    assert status == 1 and one_sentence(err[err.rindex("minicaffe: ") :])
    assert "net.prototxt" in err and "nam" in err


@pytest.mark.parametrize(
    "words",
    [
        ("draw", "solver.prototxt"),
        ("time", "--model", "solver.prototxt"),
        ("fold", "solver.prototxt", "solver.prototxt", "out"),
        ("upgrade_net_proto_text", "solver.prototxt", "out"),
    ],
)
def test_a_solver_given_for_a_net(project, run, words):
    status, _, err = run(*words)
    assert status == 1 and err.endswith(
        "minicaffe: solver.prototxt: expected a net, got a solver: its net is 'net.prototxt'\n"
    )


def test_a_net_given_for_a_solver(project, run):
    status, _, err = run("train", "--solver", "net.prototxt")
    assert status == 1 and "minicaffe: net.prototxt: expected a solver, got a net: a solver has the fields net," in err
    status, out, _ = run("check", "--solver", "net.prototxt")
    assert status == 1 and "error prototxt-invalid: net.prototxt" in out and "got a net" in out


def test_help_lists_every_action_and_each_explains_itself(run):
    status, out, _ = run("--help")
    assert status == 0
    for name in MODULES:
        assert f"  {name} " in out
        status, text, err = run(name, "--help")
        assert status == 0 and err == ""
        assert text.startswith("usage: minicaffe " + name)
        assert "show this text" in text


def test_help_names_no_file_of_a_checkout(run):
    for words in ((), *((name,) for name in MODULES)):
        assert "models/" not in run(*words, "--help")[1], words


def test_version(run):
    from minicaffe import __version__

    assert run("--version")[:2] == (0, f"minicaffe version {__version__}\n")
    assert run("-version")[1] == f"minicaffe version {__version__}\n"
    assert run("train", "--version")[1] == f"minicaffe version {__version__}\n"


def test_python_m_minicaffe_is_the_command(project):
    where = os.path.dirname(os.path.dirname(minicaffe.__file__))
    environment = {**os.environ, "PYTHONPATH": where}
    command = [sys.executable, "-m", "minicaffe", "frobnicate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert one_sentence(done.stderr)


def test_test_needs_no_command_line(project):
    """Scripts can call `score` with a net and a number of batches only."""
    from minicaffe import Net
    from minicaffe.cli.progress import StatusLine

    score(Net("net.prototxt", 1), 1, StatusLine())


def test_a_package_that_is_not_installed_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("matplotlib.") or name.endswith("pictures.plot")]:
        monkeypatch.delitem(sys.modules, name)
    log = tmp_path / "a.log"
    log.write_text("I0804 10:22:42.074671  8318 solver.cpp:218] Iteration 0, loss = 0.5\n")
    status, _, said = run("plot", str(log))
    assert status == 1 and one_sentence(said)
    assert "this needs the package matplotlib, which is not installed: pip install matplotlib" in said


@pytest.mark.parametrize("on_path", [True, False])
def test_the_command_to_copy_runs_this_program(tmp_path, monkeypatch, on_path):
    program = tmp_path / "a folder" / "minicaffe"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent) if on_path else str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert own_name() == ("minicaffe" if on_path else f"'{program}'")


@pytest.mark.parametrize("on_path", [True, False])
def test_the_command_to_copy_has_the_python_of_this_process(tmp_path, monkeypatch, on_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) if on_path else str(tmp_path / "other"))
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sys, "argv", ["minicaffe/__main__.py"])
    assert own_name() == ("python -m minicaffe" if on_path else f"{python} -m minicaffe")
