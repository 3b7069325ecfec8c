"""`minicaffe quickstart`: which data it takes and logs, and which files it writes."""

import os
import re
import signal

import numpy as np
import pytest

from minicaffe.cli import quickdata, quickstart
from minicaffe.core.net import Net
from minicaffe.data.datasets import cifar10, synthetic
from minicaffe.errors import DataError
from minicaffe.solvers.base import Solver

STEP = quickstart.seconds_per_step  # which the fixture `small` replaces


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Reduce data sets to a hundred images and tests to one batch; disable the network."""
    monkeypatch.chdir(tmp_path)
    prepare = synthetic.prepare
    monkeypatch.setattr(synthetic, "prepare", lambda dest: prepare(dest, train=100, test=100))
    monkeypatch.setattr(quickstart, "_SOLVER", quickstart._SOLVER.replace("test_iter: 100", "test_iter: 1"))
    monkeypatch.setattr(quickstart, "seconds_per_step", lambda model: 0.01)

    def no_network(*_, **__):
        raise OSError("there is no network")

    monkeypatch.setattr(quickdata.urllib.request, "urlopen", no_network)
    return tmp_path


def official_archive(folder) -> None:
    """Write an archive like the official binary version, with ten images in each file."""
    os.makedirs(folder)
    rng = np.random.default_rng(0)
    for name in (*cifar10.TRAIN_FILES, *cifar10.TEST_FILES):
        records = rng.integers(0, 256, (10, 3073), np.uint8)
        records[:, 0] = np.arange(10)
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def test_without_a_network_it_trains_on_synthetic_images_and_prints_so(small, run):
    status, out, err = run("quickstart", "--iterations", "10")
    assert status == 0, err
    assert out.startswith("Data: SYNTHETIC images, drawn by minicaffe, in data/synthetic. CIFAR-10 is not in")
    assert "there is no network" in out
    assert re.search(r"Test accuracy 0\.\d{4} \(loss \d\.\d{4}\) after 10 iterations on synthetic images, not", out)
    assert out.count("test accuracy") == 6 and "What to try next:" in out
    left = set(os.listdir("runs/quickstart"))
    assert left == {"train_test.prototxt", "deploy.prototxt", "solver.prototxt", "cifar10_quick.log", "curve.png"} | {
        f"cifar10_quick_iter_10.{end}" for end in ("caffemodel.h5", "solverstate.h5", "runstate")
    }
    assert (small / "runs/quickstart/curve.png").read_bytes().startswith(b"\x89PNG")


def test_what_it_suggests_to_try_next_works(small, run):
    out = run("quickstart", "--iterations", "5", "--offline")[1]
    text = out[out.index("What to try next:") :].replace("\\\n", "")
    commands = re.findall(r"^  (?:\S*minicaffe|\S*python\S* -m minicaffe) (.+)$", text, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        words = [word.replace("100", "1").replace("20", "1") for word in command.split()]
        status, _, err = run(*words)
        assert status == 0, (command, err)


def test_cifar10_that_is_there_is_used(small, run):
    official_archive(small / "data/cifar10/cifar-10-batches-bin")
    out = run("quickstart", "--iterations", "5")[1]
    assert out.startswith("Data: CIFAR-10, in data/cifar10\n")
    assert "after 5 iterations on CIFAR-10." in out
    assert quickdata.find_data("data").name == "CIFAR-10"  # prepared by the first call, found by the second
    text = (small / "runs/quickstart/train_test.prototxt").read_text()
    assert 'source: "data/cifar10/cifar10_train_lmdb"' in text and "synthetic" not in text


@pytest.mark.parametrize("start", ["Synthetic images in place of CIFAR-10", "A stand-in for CIFAR-10"])
def test_synthetic_images_under_cifar10s_name_are_not_taken_for_it(small, start):
    synthetic.prepare("data/cifar10")
    about = small / "data/cifar10/about.txt"
    about.write_text(about.read_text().replace("Synthetic images in place of CIFAR-10", start))
    assert about.read_text().startswith(start)
    assert quickdata.find_data("data").name != "CIFAR-10"


def test_a_slow_connection_is_not_waited_for(monkeypatch):
    class Slow:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, count):
            clock[0] += 2.0
            return b"x" * count

    clock = [0.0]
    monkeypatch.setattr(quickdata.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(quickdata.urllib.request, "urlopen", lambda url, timeout: Slow())
    with pytest.raises(DataError, match="about 14 minutes"):
        quickdata.check_connection(cifar10.URL)
    quickdata.check_connection(cifar10.URL, probe=20_000_000)


@pytest.mark.parametrize("step, expected", [(0.04, 3000), (0.1, 1550), (0.3, 350), (0.6, 50)])
def test_as_many_iterations_as_there_is_time_for(small, monkeypatch, step, expected):
    monkeypatch.setattr(quickstart, "seconds_per_step", lambda model: step)
    data = quickdata.find_data("data", download=False)
    os.makedirs("out")
    args = quickstart.argparse.Namespace(out="out", seconds=180.0, iterations=None)
    assert quickstart.plan(args, data) == (expected, step)


@pytest.mark.parametrize("seconds", ["1", "20", "1450"])
def test_a_time_that_is_too_short_runs_the_shortest_training_and_prints_its_time(small, run, monkeypatch, seconds):
    monkeypatch.setattr(quickstart, "seconds_per_step", lambda model: 5.0)
    monkeypatch.setattr(quickstart, "SHORTEST", 5)
    status, out, err = run("quickstart", "--seconds", seconds)
    assert status == 0, err
    text = (
        "A training step takes 5000 ms here: the shortest training, 5 iterations and their tests, needs about 1225 s, "
        f"more than --seconds {seconds}.\n"
    )
    assert (text in out) == (seconds != "1450") and "nan" not in out
    assert os.path.exists(re.search(r"--weights (\S+)", out)[1])


@pytest.mark.parametrize("words, flag", [(("--iterations", "5"), "--iterations"), (("--seconds", "1"), "--seconds")])
@pytest.mark.parametrize("accuracy", [0.1099, 0.16])
def test_an_accuracy_close_to_chance_is_called_so(small, run, monkeypatch, words, flag, accuracy):
    result = quickstart.Result(quickstart.StatusLine(), 5, accuracy, 2.3)
    monkeypatch.setattr(quickstart, "train", lambda *_: result)
    monkeypatch.setattr(quickstart, "draw_curve", lambda *_: None)
    status, out, err = run("quickstart", *words)
    assert status == 0, err
    line = f"This is close to guessing (0.1): the training was too short, give more {flag}.\n"
    assert (line in out) == (accuracy < 0.15)


def test_without_a_time_a_slow_machine_runs_the_shortest_training(small, run, monkeypatch):
    monkeypatch.setattr(quickstart, "seconds_per_step", lambda model: 5.0)
    monkeypatch.setattr(quickstart, "SHORTEST", 5)
    status, out, err = run("quickstart")
    assert status == 0, err
    assert "A training step takes 5000 ms here: 5 iterations and their tests need about 20.4 minutes." in out
    assert "after 5 iterations" in out
    monkeypatch.setattr(quickstart, "SHORTEST", 50)
    assert quickstart.affordable(None, 5.0) == 50
    assert quickstart.affordable(None, 0.1) == quickstart.affordable(150, 0.1) == 1250


def test_a_machine_that_becomes_slower_trains_what_was_announced(small, run, monkeypatch):
    clock = [0.0]

    def later():
        clock[0] += 1000.0
        return clock[0]

    monkeypatch.setattr(quickstart.time, "monotonic", later)
    monkeypatch.setattr(quickstart, "SHORTEST", 5)
    status, out, err = run("quickstart", "--seconds", "2.5")
    assert status == 0, err
    assert "A training step takes 10 ms here: 10 iterations and their tests need about" in out
    assert re.search(r"Test accuracy 0\.\d{4} \(loss \d\.\d{4}\) after 10 iterations", out)


def test_the_time_of_a_step_is_the_median_of_the_clock(small):
    ticks = iter(range(10**6))
    (small / "net.prototxt").write_text(
        'layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 } } }'
        'layer { name: "s" type: "Silence" bottom: "x" }'
    )
    assert STEP("net.prototxt", clock=lambda: next(ticks) * 0.5) == 0.5


@pytest.mark.parametrize(
    "words", [("--iterations", "0"), ("--iterations", "-5"), ("--seconds", "0"), ("--seconds", "nan")]
)
def test_numbers_with_which_nothing_is_trained(small, run, words):
    status, out, err = run("quickstart", *words)
    assert (status, out) == (1, "") and err == f"minicaffe: {words[0]}: expected a number above 0, got {words[1]}\n"


def test_each_file_that_is_named_is_there(small, run):
    out = run("quickstart", "--iterations", "5", "--offline")[1]
    text = out[out.index("In runs/quickstart/:") :]
    named = re.findall(r"^  (\S+)  ", text, re.MULTILINE)
    assert len(named) == 4 and all(os.path.exists(f"runs/quickstart/{name}") for name in named)
    assert all(os.path.exists(path) for path in re.findall(r"\S+\.md\b", text))
    os.unlink("runs/quickstart/cifar10_quick_iter_5.solverstate.h5")
    os.unlink("data/synthetic/classes.txt")
    result = quickstart.Result(quickstart.StatusLine(), iterations=5)
    again = quickstart.next_steps("runs/quickstart", result, quickdata.find_data("data", download=False))
    assert "solverstate" not in again and "--labels" not in again


def test_stopped_in_the_last_test_names_the_last_weights(small, run, monkeypatch):
    tests = []

    def and_send(solver, *args):
        if solver.iter == 5 and not tests:
            tests.append(solver.iter)
            signal.raise_signal(signal.SIGTERM)
        return run_all(solver, *args)

    run_all = Solver.test_all
    monkeypatch.setattr(Solver, "test_all", and_send)
    status, out, err = run("quickstart", "--iterations", "5")
    assert status == 0 and tests == [5], err
    assert "after 5 iterations" in out and "cifar10_quick_iter_5.caffemodel.h5" in out


def test_stopped_in_the_first_test(small, run, monkeypatch):
    forward = Net.run_forward

    def and_send(net, *args):
        forward(net, *args)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(quickstart, "_SOLVER", quickstart._SOLVER.replace("test_iter: 1", "test_iter: 2"))
    monkeypatch.setattr(Net, "run_forward", and_send)
    status, out, err = run("quickstart", "--iterations", "5")
    assert status == 0, err
    assert out.endswith("Stopped before the first iteration.\n") and "nan" not in out


def test_it_ends_when_the_loss_is_nan(small, run, monkeypatch):
    monkeypatch.setattr(quickstart, "_SOLVER", quickstart._SOLVER.replace("base_lr: 0.001", "base_lr: 1e30"))
    status, out, err = run("quickstart", "--iterations", "5")
    assert status == 1 and "What to try next" not in out
    assert re.search(r"minicaffe: the loss of iteration \d is \S+: the \w+ .*of layer 'conv\d'", err), err
    assert not [name for name in os.listdir("runs/quickstart") if "_iter_" in name]
