"""The status line: on terminals only, updated in place, below the log lines."""

import io
import os
import re
import struct
import sys
import types

import pytest

from minicaffe.cli import main
from minicaffe.progress import terminal as terminal_module
from minicaffe.progress.counting import Progress
from minicaffe.progress.parts import bar, columns
from minicaffe.progress.terminal import StatusLine
from minicaffe.solvers import progress
from minicaffe.solvers.progress import TrainingProgress

fcntl = pytest.importorskip("fcntl")
pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")


@pytest.fixture
def terminal(monkeypatch):
    """A pseudo-terminal 60 columns wide; returns (stream, function that returns what was written)."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(terminal_module, "_REDRAW_SECONDS", 0.0)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    os.set_blocking(master, False)

    def written() -> str:
        parts = []
        try:
            while part := os.read(master, 4096):
                parts.append(part)
        except BlockingIOError:
            pass
        return b"".join(parts).decode().replace("\r\n", "\n")

    with open(slave, "w", encoding="utf-8") as stream:
        yield stream, written
    os.close(master)


def screen(text: str) -> list[str]:
    """What the terminal shows: carriage returns and "erase to the end of the line" played back."""
    lines = [""]
    for piece in re.split(r"(\r\x1b\[K|\n)", text):
        if piece == "\n":
            lines.append("")
        elif piece.startswith("\r"):
            lines[-1] = ""
        else:
            lines[-1] += piece
    return lines


def test_log_lines_stand_above_the_status_line(terminal):
    stream, written = terminal
    status = StatusLine(stream)
    status.print("first")
    status.set("10%")
    status.print("second")
    status.set("20%")
    status.print("third")
    assert screen(written()) == ["first", "second", "third", "20%"]
    status.clear()
    status.print("last")
    assert screen("20%" + written()) == ["last", ""]


def test_the_status_line_never_wraps(terminal):
    stream, written = terminal
    StatusLine(stream).set("x" * 500)
    assert len(screen(written())[-1]) == 59


def test_no_terminal_no_status():
    stream = io.StringIO()
    status = StatusLine(stream)
    status.set("10%")
    status.print("text")
    status.clear()
    assert stream.getvalue() == "text\n"


def test_a_dumb_terminal_gets_no_escapes(terminal, monkeypatch):
    stream, written = terminal
    monkeypatch.setenv("TERM", "dumb")
    StatusLine(stream).set("10%")
    assert written() == ""


def small_solver(name="net", records=400):
    """What TrainingProgress reads of a solver: 40 iterations of 100 images on one rank, two batches a test."""
    param = types.SimpleNamespace(max_iter=40, test_interval=20, test_iter=[2], iter_size=1, eval_type="")
    layer = types.SimpleNamespace(records=records)
    net = types.SimpleNamespace(
        name=name, layers=[layer], tops=[[types.SimpleNamespace(shape=(100, 3, 32, 32))]], bottoms=[[]]
    )
    ranks = types.SimpleNamespace(group=types.SimpleNamespace(size=1))
    return types.SimpleNamespace(iter=0, param=param, net=net, test_nets=[net], ranks=ranks)


def trained(solver, stream, clock) -> TrainingProgress:
    """A test of four seconds, then ten iterations, two per second."""
    watch = TrainingProgress(StatusLine(stream), solver)
    watch.on_test_batch(solver, 0, 0)
    clock.now += 4.0
    watch.on_test(solver, 0, {"accuracy": [0.625], "loss": [1.5]})
    for solver.iter in range(10):
        clock.now += 0.5
        watch.on_iteration(solver, 1.25)
    return watch


def test_training_shows_how_far_it_is(terminal, monkeypatch):
    stream, written = terminal
    monkeypatch.setattr(StatusLine, "_width", lambda self: 200)
    solver = small_solver()
    watch = trained(solver, stream, iter_clock(monkeypatch))
    line = f"net  {bar(0.25)}   25%  10/40  epoch 2.5/10.0  loss 1.25  accuracy 0.6250  200 images/s"
    shown = written()
    assert f"net  testing  {bar(0.5)}   50%  1/2" in shown
    assert screen(shown)[-1] == f"{line}  23 s left"
    solver.iter = 10
    watch.finish(solver)
    assert screen(written())[-2:] == [f"{line}  took 9 s", ""]


@pytest.mark.parametrize(("ranks", "records", "epochs"), [
    (2, 400, "epoch 5.0/20.0"), (1, None, None), (1, 5, "200"), (1, 40000, "epoch 0.0/0.1"), (1, 50000, None),
])  # fmt: skip
def test_epochs_are_those_of_all_ranks(terminal, monkeypatch, ranks, records, epochs):
    stream, written = terminal
    monkeypatch.setattr(StatusLine, "_width", lambda self: 200)
    solver = small_solver(records=records)
    solver.ranks.group.size = ranks
    trained(solver, stream, iter_clock(monkeypatch))
    line = screen(written())[-1]
    assert epochs in line if epochs else "epoch" not in line


NAMES = ["net", "CIFAR10_quick", "\u7db2\u7d61" * 9, ""]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", range(40, 201))
def test_training_fits_any_width(terminal, monkeypatch, width, name):
    """Each part is whole or left out; percentage, loss and remaining time are there at any width from 40 on."""
    stream, written = terminal
    monkeypatch.setattr(StatusLine, "_width", lambda self: width)
    trained(small_solver(name), stream, iter_clock(monkeypatch))
    line = screen(written())[-1]
    assert columns(line) <= width - 1
    parts = [part.strip() for part in line.split("  ") if part.strip()]
    known = [name, "25%", "10/40", "epoch 2.5/10.0", "loss 1.25", "accuracy 0.6250", "200 images/s", "23 s left"]
    assert [part for part in parts if not set(part) <= set("█░")] == [part for part in known if part and part in parts]
    assert {"25%", "loss 1.25", "23 s left", "10/40"} <= set(parts)
    if width >= 80:
        assert "200 images/s" in parts and set("█░") & set(line)


def iter_clock(monkeypatch):
    clock = types.SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    return clock


def test_a_real_training_on_a_terminal(project, terminal, monkeypatch):
    stream, written = terminal
    (project / "net.prototxt").write_text((project / "net.prototxt").read_text().replace('name: "tiny"', ""))
    monkeypatch.setattr(sys, "stderr", stream)
    text = (project / "solver.prototxt").read_text()
    (project / "solver.prototxt").write_text(text.replace("max_iter: 8", "max_iter: 3"))
    monkeypatch.setenv("GLOG_minloglevel", "1")
    assert main(["train", "--solver", "solver.prototxt"]) == 0
    shown = written()
    assert re.search(r"33%  1/3 .*loss [\d.]+", shown)
    assert "3/3" in shown
    assert screen(shown)[-1] == ""


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (40, "  2%  1000/50000  8 min left"),
        (60, f"{bar(0.02, 15)}    2%  1000/50000  100 images/s  8 min left"),
        (200, f"cifar10_train_lmdb  {bar(0.02)}    2%  1000/50000  100 images/s  8 min left"),
    ],
)
def test_a_job_that_counts(terminal, monkeypatch, width, expected):
    stream, written = terminal
    monkeypatch.setattr(StatusLine, "_width", lambda self: width)
    clock = iter_clock(monkeypatch)
    with Progress("cifar10_train_lmdb", 50000, display=StatusLine(stream)) as progress:
        clock.now += 10
        progress(1000)
        assert screen(written()) == [expected]
    assert screen(expected + written()) == [""]
