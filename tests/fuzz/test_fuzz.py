"""A few damaged files of every kind, all files that once failed, and the worker itself.

The files in corpus/<kind>/ are inputs that ended in a traceback, a crash or worse when they were found.
"""

import mmap
import os
import time
from pathlib import Path

import numpy as np
import pytest

from fuzz.kind import Case, Kind, all_kinds
from fuzz.worker import outcomes
from minicaffe.errors import DataError, DeviceError

KINDS = all_kinds()
CORPUS = Path(__file__).parent / "corpus"
DRAWN = 40  #: new files of each kind per run; `python tools/fuzz.py` draws as many as wanted


def faults(kind, contents):
    return [outcome for outcome in outcomes(kind, contents) if outcome.is_fault]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_drawn(kind):
    assert not faults(kind, ((number, kind.draw(number)) for number in range(DRAWN)))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_valid(kind):
    """The examples are read without an error; otherwise their changes would prove little."""
    verdicts = [outcome for outcome in outcomes(kind, enumerate(kind.examples()))]
    assert {outcome.verdict for outcome in verdicts} == {"done"}, verdicts


@pytest.mark.parametrize("folder", sorted(CORPUS.glob("*")), ids=lambda folder: folder.name)
def test_found(folder):
    contents = [(number, path.read_bytes()) for number, path in enumerate(sorted(folder.iterdir()))]
    assert not faults(KINDS[folder.name], contents)


# -- the worker --------------------------------------------------------------------------------------------------------


def crash():
    os.kill(os.getpid(), 11)


def read_beyond_the_end():
    with open("short", "w+b") as file:
        file.truncate(mmap.PAGESIZE)
        mapped = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        file.truncate(0)
        return mapped[0]


def refuse():
    raise DataError("file x is damaged")


def run_out_of_memory():
    raise MemoryError


def refuse_in_two_lines():
    raise DeviceError("file x\nis damaged")  # the error whose message may have several lines


def leave():
    Path("new").write_text("")
    refuse()


def leave_hidden():
    Path(".net.part-12345678").write_text("")


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (lambda: None, "done"),
        (refuse, "refused"),
        (refuse_in_two_lines, "traceback"),
        (lambda: 1 / 0, "traceback"),
        (lambda: time.sleep(0.3), "done"),
        (crash, "crash"),
        (read_beyond_the_end, "crash"),
        (leave, "left"),
        (leave_hidden, "left"),
        (lambda: np.ones(1 << 26, np.uint8), "memory"),
        (run_out_of_memory, "memory"),
        (["nonsense"], "refused"),
        (["--version"], "done"),
    ],
)
def test_verdicts(action, expected):
    kind = Kind("trial", lambda: [b""], lambda content: Case({}, [action]), memory=1 << 23)
    assert [outcome.verdict for outcome in outcomes(kind, [(0, b""), (1, b"")])] == [expected] * 2


def test_hang(monkeypatch):
    monkeypatch.setattr("fuzz.worker.SECONDS", 0.5)

    def spin():
        while True:
            pass

    kind = Kind("trial", lambda: [b""], lambda content: Case({}, [spin] if content else []))
    verdicts = [outcome.verdict for outcome in outcomes(kind, [(0, b""), (1, b"x"), (2, b"")])]
    assert verdicts == ["done", "hang", "done"]
