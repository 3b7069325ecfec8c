"""benchmarks/threads.py and benchmarks/memory.py run from end to end, at a tiny size."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.scripts import script
from minicaffe import onednn
from minicaffe.core.settings import restored

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
TINY = ("--nets", "lenet", "--batch", "2", "--rounds", "1", "--seconds", "0.001", "--threads", "1")


def run(name, *words, cwd):
    done = subprocess.run([sys.executable, FOLDER / name, *words], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(not onednn.available(), reason="OpenMP's threads are oneDNN's")
def test_how_threads_wait(tmp_path):
    lines = run("threads.py", "alone", "together", "python", *TINY, "--spins", "100", cwd=tmp_path)
    titles = [line for line in lines if line.startswith("lenet")]
    assert [title.split(":")[0] for title in titles] == [
        "lenet, alone, 1 threads",
        "lenet, two processes of 1 threads each",
        "lenet, two nets in two Python threads",
    ]
    rows = [line.split() for line in lines if line[:10].strip() == "100"]
    assert [len(row) for row in rows] == [5, 4]
    assert all(float(number) > 0 for row in rows for number in row)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_peak_memory(tmp_path):
    ours = ["minicaffe"] * onednn.available() + ["minicaffe CAFFE"]
    (head, row) = run("memory.py", "lenet:2", "--steps", "1", "--threads", "1", "--only", *ours, cwd=tmp_path)
    assert head.split("  ")[0] == "MB above imports"
    assert row.split()[0] == "lenet:2" and all(float(peak) > 0 for peak in row.split()[1:])


@pytest.fixture(scope="module")
def memory():
    """The script as a module."""
    with script(FOLDER / "memory.py") as module:
        yield module


def test_a_contestant_that_cannot_run_is_named(memory, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(memory, "in_process", lambda function, *args: "OtherError: no such layer")
    args = memory.argparse.Namespace(steps=1, threads=1)
    memory.peaks("lenet", ["minicaffe"], str(tmp_path), args)
    row, error = capsys.readouterr().out.splitlines()
    assert row.split() == ["lenet", "error"] and error == "  minicaffe: OtherError: no such layer"


def test_what_memory_is_used_for(memory, tmp_path):
    memory.write_case(str(tmp_path), "lenet:2")
    with restored():
        found = memory.census_of("minicaffe CAFFE", str(tmp_path), 1, 1)
    assert set(found) == {"peak", *memory.census.KINDS}
    assert found["parameters"] >= 430_000 * 4 and found["history"] > 0
