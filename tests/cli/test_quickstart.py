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


def test_without_a_network_it_trains_on_a_stand_in_and_says_so(small, run):
    status, out, err = run("quickstart", "--iterations", "10")
    assert status == 0, err
    assert out.startswith("Data: a STAND-IN drawn by minicaffe, in data/standin. CIFAR-10 is not in")
    assert "there is no network" in out
    assert re.search(r"Test accuracy 0\.\d{4} \(loss \d\.\d{4}\) after 10 iterations on the stand-in, not", out)
    assert out.count("test accuracy") == 6 and "What to try next:" in out
    left = set(os.listdir("runs/quickstart"))
    assert left == {"train_test.prototxt", "deploy.prototxt", "solver.prototxt", "cifar10_quick.log", "curve.png"} | {
        f"cifar10_quick_iter_10.{end}" for end in ("caffemodel.h5", "solverstate.h5", "runstate")
    }
    assert (small / "runs/quickstart/curve.png").read_bytes().startswith(b"\x89PNG")


def test_what_it_suggests_to_try_next_works(small, run):
    out = run("quickstart", "--iterations", "5", "--offline")[1]
    text = out[out.index("What to try next:") :].replace("\\\n", "")
    commands = re.findall(r"^  (?:\S+/minicaffe|python -m minicaffe) (.+)$", text, re.MULTILINE)
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
    assert 'source: "data/cifar10/cifar10_train_lmdb"' in text and "standin" not in text


def test_a_stand_in_under_cifar10s_name_is_not_taken_for_it(small):
    synthetic.prepare("data/cifar10")
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


@pytest.mark.parametrize("step, expected", [(0.04, 3000), (0.1, 1550), (0.3, 350), (5.0, 50)])
def test_as_many_iterations_as_there_is_time_for(small, monkeypatch, step, expected):
    monkeypatch.setattr(quickstart, "seconds_per_step", lambda model: step)
    data = quickdata.find_data("data", download=False)
    os.makedirs("out")
    args = quickstart.argparse.Namespace(out="out", seconds=180.0, iterations=None)
    assert quickstart.plan(args, data) == (expected, step)


def test_a_machine_slower_than_planned_stops_in_time_and_is_tested(small, run, monkeypatch):
    clock = [0.0]

    def monotonic():
        clock[0] += 5.0
        return clock[0]

    monkeypatch.setattr(quickstart.time, "monotonic", monotonic)
    status, out, err = run("quickstart", "--seconds", "60")
    assert status == 0, err
    done = int(re.search(r"Test accuracy \S+ \(loss \S+\) after (\d+) iterations", out)[1])
    assert 0 < done < 3000
    assert os.path.exists(f"runs/quickstart/cifar10_quick_iter_{done}.caffemodel.h5")


def test_a_time_that_is_over_in_the_first_test_gives_one_iteration(small, run, monkeypatch):
    clock = [0.0]

    def monotonic():
        clock[0] += 1000.0
        return clock[0]

    monkeypatch.setattr(quickstart.time, "monotonic", monotonic)
    status, out, err = run("quickstart", "--seconds", "60")
    assert status == 0, err
    assert re.search(r"Test accuracy 0\.\d+ \(loss \d\S+\) after 1 iterations", out)
    assert os.path.exists("runs/quickstart/cifar10_quick_iter_1.caffemodel.h5")


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
