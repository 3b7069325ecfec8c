"""Signals while a solver trains: the first stops after a snapshot, the second at once."""

import os
import signal
import subprocess
import sys

import h5py
import pytest

from minicaffe.cli import signals
from minicaffe.core.engine import Step
from minicaffe.core.net import Net
from minicaffe.errors import UsageError


@pytest.fixture(autouse=True)
def without_grace(monkeypatch):
    """A second signal counts at once."""
    monkeypatch.setattr(signals, "GRACE", 0)


@pytest.fixture
def send(monkeypatch):
    """Send this process signals after the gradients of iterations: `send({1: SIGTERM})`."""

    def arrange(numbers: dict[int, int]) -> None:
        gradients = Step.gradients

        def and_send(step):
            loss = gradients(step)
            if step.solver.iter in numbers:
                signal.raise_signal(numbers[step.solver.iter])
            return loss

        monkeypatch.setattr(Step, "gradients", and_send)

    return arrange


@pytest.fixture
def send_at_fsync(monkeypatch):
    """Send this process a signal while the first file is written after `send`'s."""

    def arrange(number: int, after: int) -> None:
        fsync, calls = os.fsync, []

        def and_send(descriptor):
            calls.append(descriptor)
            if len(calls) == after + 1:
                signal.raise_signal(number)
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", and_send)

    return arrange


def hidden(folder) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".")]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_the_first_signal_stops_after_a_snapshot(project, run, send, name):
    before = signal.getsignal(signal.SIGTERM)
    send({2: getattr(signal, name)})
    status, _, log = run("train", "--solver", "solver.prototxt")
    assert status == 0 and "Optimization stopped early." in log
    assert os.path.exists("tiny_iter_3.solverstate.h5") and not hidden(project)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("second, status", [("SIGINT", 130), ("SIGTERM", 143)])
def test_the_second_stops_at_once_while_a_snapshot_is_written(project, run, send, send_at_fsync, second, status):
    assert run("train", "--solver", "solver.prototxt")[0] == 0
    for name in ("caffemodel.h5", "solverstate.h5"):
        os.rename(f"tiny_iter_5.{name}", f"tiny_iter_3.{name}")
    old = (project / "tiny_iter_3.solverstate.h5").read_bytes()
    send({2: signal.SIGINT})
    send_at_fsync(getattr(signal, second), after=0)
    code, _, log = run("train", "--solver", "solver.prototxt")
    assert code == status and log.splitlines()[-1] == "minicaffe: interrupted"
    assert not hidden(project)
    assert (project / "tiny_iter_3.solverstate.h5").read_bytes() == old
    with h5py.File("tiny_iter_3.caffemodel.h5") as file:  # the old file or the new one, whole
        assert "ip" in file["data"]


def test_the_second_stops_at_once_in_a_test(project, run, send, monkeypatch):
    forward, batches = Net.run_forward, []

    def and_send(net, *args):
        forward(net, *args)
        if net.phase == 1:
            batches.append(net)
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Net, "run_forward", and_send)
    status, _, log = run("train", "--solver", "solver.prototxt")
    assert status == 143 and len(batches) == 1 and "Test interrupted." not in log


def test_a_second_signal_counts_after_the_solver_has_reacted_to_the_first():
    with signals.requests() as action:
        signal.raise_signal(signal.SIGTERM)
        assert action() == "stop" and action() is None
        with pytest.raises(KeyboardInterrupt) as caught:
            signal.raise_signal(signal.SIGINT)
        assert caught.value.number == signal.SIGINT


def test_two_signals_together_count_as_one(monkeypatch):
    """`timeout` sends its child two, one to the process and one to the group."""
    monkeypatch.setattr(signals, "GRACE", 1000)
    with signals.requests() as action:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert [action(), action()] == ["stop", None]


def test_where_python_discards_exceptions_the_second_is_seen_at_the_next_call(capsys):
    class Deleted:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    with signals.requests() as action:
        signal.raise_signal(signal.SIGTERM)
        Deleted()
        with pytest.raises(KeyboardInterrupt):
            action()
    assert capsys.readouterr().err == ""


def test_a_signal_while_a_temporary_file_is_created(project, run, send, monkeypatch):
    create = os.open

    def and_send(path, *args, **options):
        descriptor = create(path, *args, **options)
        if ".part-" in os.fspath(path) and "caffemodel" in path:
            os.close(descriptor)
            signal.raise_signal(signal.SIGINT)
        return descriptor

    send({1: signal.SIGINT})
    monkeypatch.setattr(os, "open", and_send)
    assert run("train", "--solver", "solver.prototxt")[0] == 130
    assert not hidden(project)


def test_snapshots_between_signals_to_stop_do_not_count():
    with signals.requests({"sigint": "snapshot", "sigterm": "none", "sighup": "stop"}) as action:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGINT):
            signal.raise_signal(number)
        assert [action() for _ in range(5)] == ["snapshot", "snapshot", "stop", "snapshot", None]


def test_a_snapshot_is_what_signals_before_it_request():
    with signals.requests() as action:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)
        action.on_snapshot(None, "")
        assert [action(), action()] == ["stop", None]
        signal.raise_signal(signal.SIGHUP)
        assert action() == "snapshot"


def test_signals_that_a_system_lacks_are_skipped_and_sigbreak_is_as_sigint(monkeypatch):
    monkeypatch.delattr(signal, "SIGHUP")
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    with signals.requests({"sigint": "snapshot", "sigterm": "stop", "sighup": "stop"}) as action:
        signal.raise_signal(signal.SIGUSR1)
        assert action() == "snapshot"


@pytest.mark.parametrize("effect, stops", [("snapshot", False), ("none", False), ("stop", True)])
def test_the_effect_of_sigterm_can_be_chosen(project, run, send, effect, stops):
    send({1: signal.SIGTERM})
    status, _, log = run("train", "--solver", "solver.prototxt", "-sigterm_effect", effect)
    assert status == 0 and ("Optimization stopped early." in log) == stops
    assert os.path.exists("tiny_iter_2.solverstate.h5") == (effect != "none")


def test_an_unknown_effect_names_its_flag(project, run):
    with pytest.raises(UsageError, match="-sigterm_effect: expected stop, snapshot, none, got 'x'"):
        args = signals.argparse.Namespace(sigint_effect="stop", sigterm_effect="x", sighup_effect="stop")
        signals.effects_of(args)


# -- before a command begins -------------------------------------------------------------------------------------------

_IMPORTS = """
import importlib.abc, signal, sys

class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "minicaffe.core.net":
            signal.raise_signal(signal.SIGINT)

sys.argv = {argv}
sys.orig_argv = ["python", *sys.argv[:1], "minicaffe"]
signal.signal(signal.SIGINT, {handler})
if {interrupted}:
    sys.meta_path.insert(0, Interrupting())
import minicaffe
print(signal.getsignal(signal.SIGINT) == {handler})
"""


def _importing(argv, handler="signal.default_int_handler", interrupted=True):
    code = _IMPORTS.format(argv=argv, handler=handler, interrupted=interrupted)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize("argv", [["/bin/minicaffe"], ["-m"]])
def test_an_interrupt_while_a_command_imports_is_one_line(argv):
    done = _importing(argv)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "minicaffe: interrupted\n")
    assert _importing(argv, interrupted=False).stdout == "True\n"  # the handler is restored


def test_an_interrupt_while_a_script_imports_is_a_keyboard_interrupt():
    assert "KeyboardInterrupt" in _importing(["script.py"]).stderr


def test_a_command_that_ignores_interrupts_imports_on():
    done = _importing(["/bin/minicaffe"], handler="signal.SIG_IGN")
    assert done.returncode == 0 and "interrupted" not in done.stderr
