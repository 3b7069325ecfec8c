"""The status line: on terminals only, updated in place, below the log lines."""

import io
import os
import re
import struct
import sys
import types

import pytest

from minicaffe.cli import main, progress
from minicaffe.cli.progress import StatusLine, TrainingProgress, bar, duration

fcntl = pytest.importorskip("fcntl")
pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")


@pytest.fixture
def terminal(monkeypatch):
    """A pseudo-terminal 60 columns wide; returns (stream, function that returns what was written)."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "_REDRAW_SECONDS", 0.0)
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


@pytest.mark.parametrize("part, expected", [(0, "░░░░"), (0.5, "██░░"), (1, "████"), (7, "████"), (-1, "░░░░")])
def test_bar(part, expected):
    assert bar(part, 4) == expected


def test_bar_in_ascii():
    assert bar(0.5, 4, fancy=False) == "[##..]"


@pytest.mark.parametrize("seconds, text", [(0, "0:00"), (59.6, "1:00"), (75, "1:15"), (3725, "1:02:05")])
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_training_shows_how_far_it_is(terminal, monkeypatch):
    """Ten iterations of 100 images, two per second; one test of four seconds is done, one remains."""
    stream, written = terminal
    clock = iter_clock(monkeypatch)
    param = types.SimpleNamespace(max_iter=40, test_interval=20, test_iter=[2], iter_size=1)
    data = types.SimpleNamespace(shape=(100, 3, 32, 32))
    net = types.SimpleNamespace(name="net", tops=[[data]], bottoms=[[]])
    solver = types.SimpleNamespace(iter=0, param=param, net=net, test_nets=[net])
    monkeypatch.setattr(StatusLine, "_width", lambda self: 200)
    watch = TrainingProgress(StatusLine(stream), solver)
    watch.on_test_batch(solver, 0, 0)
    assert screen(written())[-1] == f"net  testing  {bar(0.5)}  1/2"
    clock.now += 4.0
    watch.on_test(solver, 0, {"accuracy": [0.625], "loss": [1.5]})
    for solver.iter in range(10):
        clock.now += 0.5
        watch.on_iteration(solver, 1.25)
    expected = f"net  {bar(0.25)}  25%  10/40  loss 1.25  accuracy 0.6250  200 images/s  0:23 left"
    assert screen(written())[-1] == expected


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
    assert re.search(r"33%  1/3  loss [\d.]+  accuracy [\d.]+", shown)
    assert "3/3" in shown
    assert screen(shown)[-1] == ""
