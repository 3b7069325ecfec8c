"""Displays: a notebook's output in one place, plain lines, and which of them suits."""

import io
import logging
import sys
import types

import pytest

from minicaffe.progress import choice, plain, terminal
from minicaffe.progress.counting import Progress
from minicaffe.progress.notebook import NotebookLine, in_notebook
from minicaffe.progress.parts import Bar, Part
from minicaffe.progress.plain import PlainLines
from minicaffe.progress.terminal import StatusLine, below_log

LINE = [Part("<net>", 0), Bar(0.25, 1), Part("25%", 2)]


class Outputs:
    """A fake IPython: the outputs of a cell by display id, in order."""

    def __init__(self, shell):
        self.by_id, self.calls = {}, 0
        self.get_ipython = lambda: shell
        self.display = types.SimpleNamespace(display=self.show)

    def show(self, bundle, *, raw, display_id, update):
        assert raw and (display_id in self.by_id) == update
        self.calls += 1
        self.by_id[display_id] = bundle


@pytest.fixture
def notebook(monkeypatch):
    outputs = Outputs(types.SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", outputs)
    return outputs


@pytest.fixture
def clock(monkeypatch):
    clock = types.SimpleNamespace(now=100.0)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    return clock


def test_a_notebook_has_one_output_that_is_updated(notebook, clock):
    line = NotebookLine()
    for step in range(1000):
        clock.now += 0.01
        line.set([Part(f"step {step}", 0)])
    assert len(notebook.by_id) == 1 and notebook.calls <= 41
    line.keep()
    (bundle,) = notebook.by_id.values()
    assert bundle["text/plain"] == "step 999" and "step 999" in bundle["text/html"]
    line.set(LINE, now=True)
    assert len(notebook.by_id) == 2


def test_names_are_escaped_in_a_notebook(notebook):
    line = NotebookLine()
    line.set(LINE)
    (bundle,) = notebook.by_id.values()
    assert bundle["text/plain"].startswith("<net>  █████░")
    assert "&lt;net&gt;" in bundle["text/html"] and "<net>" not in bundle["text/html"]
    assert 'value="0.2500"' in bundle["text/html"]
    line.clear()
    assert [*notebook.by_id.values()][-1]["text/plain"] == ""


@pytest.mark.parametrize(
    ("ipython", "expected"),
    [
        (None, False),
        (Outputs(None), False),  # imported, but this is not its process
        (Outputs(types.SimpleNamespace()), False),  # IPython in a terminal
        (Outputs(types.SimpleNamespace(kernel=None)), False),
        (Outputs(types.SimpleNamespace(kernel=object())), True),
    ],
)
def test_what_is_a_notebook(monkeypatch, ipython, expected):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    if ipython is not None:
        monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert in_notebook() is expected
    assert isinstance(choice.suitable(), NotebookLine) is expected


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_a_terminal_and_a_file(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert isinstance(choice.suitable(Terminal()), StatusLine)
    assert isinstance(choice.suitable(io.StringIO()), PlainLines)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(choice.suitable(Terminal()), PlainLines)


def test_a_stream_in_a_notebook_is_no_notebook(notebook):
    assert isinstance(choice.suitable(io.StringIO()), PlainLines)


def test_plain_lines_come_every_ten_seconds(clock):
    stream = io.StringIO()
    lines = PlainLines(stream)
    for second in range(35):
        lines.set([Part(f"second {second}", 0), Bar(0.5, 1), Part("50%", 2)])
        clock.now += 1
    lines.keep()
    lines.keep()
    seconds = [10, 20, 30, 34]
    assert stream.getvalue().splitlines() == [f"second {second}  50%" for second in seconds]
    assert plain._SECONDS == 10


def test_a_job_of_unknown_size(clock, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("minicaffe.progress.counting.suitable", lambda: PlainLines(stream))
    with Progress("download x.tar", 0, "bytes") as progress:
        progress.start(5_000_000)
        clock.now += 2
        progress(7_000_000)
    assert stream.getvalue() == "download x.tar  7.0 MB  1.0 MB/s\n"


def test_a_log_is_written_above_the_line(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream, other = Terminal(), io.StringIO()
    logger = logging.getLogger("tests.progress.above")
    handlers = [logging.StreamHandler(stream), logging.StreamHandler(other)]
    monkeypatch.setattr(logger, "handlers", handlers)
    monkeypatch.setattr(logger, "propagate", False)
    status = StatusLine(stream)
    with below_log(status, logger):
        status.set("50%", now=True)
        logger.warning("careful")
        status.set("60%")
    assert stream.getvalue() == f"{terminal._CLEAR}50%{terminal._CLEAR}careful\n{terminal._CLEAR}60%"
    assert other.getvalue() == "careful\n"
    logger.warning("later")
    assert not any(handler.filters for handler in handlers)


def test_the_last_line_stays():
    stream = Terminal()
    status = StatusLine(stream)
    status.keep()
    status.set("50%", now=True)
    status.set("60%")
    status.keep()
    status.clear()
    assert stream.getvalue() == "\r\x1b[K50%\r\x1b[K60%\n"
