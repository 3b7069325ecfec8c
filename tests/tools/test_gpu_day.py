"""tools/gpu_day.py: all its steps at tiny sizes, time limits, what interrupted runs keep."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.scripts import script
from minicaffe.data.datasets import synthetic

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "gpu_day.py"


@pytest.fixture(scope="module")
def day():
    """The script as a module."""
    with script(SCRIPT) as module:
        yield module


def step(day, *command, **more):
    return day.Step(
        **{"name": "one", "title": "One", "command": list(command), "limit": 60, "lines": str.split, **more}
    )


@pytest.mark.gpu
def test_every_step_runs(cuda_device, tmp_path):
    synthetic.prepare(str(tmp_path / "data"), train=200, test=100)
    command = [sys.executable, SCRIPT, "--smoke", "--out", "day", "--cifar10", "data", "--sanitizer", "no-such-program"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    text = (tmp_path / "day/gpu_day.md").read_text()
    assert done.returncode == 0, done.stdout + text
    states = {name: each["state"] for name, each in json.loads((tmp_path / "day/gpu_day.json").read_text()).items()}
    assert states == {
        "device": "passed", "tests": "passed", "memcheck": "left out", "racecheck": "left out", "benchmark": "passed",
        "training": "passed",
    }  # fmt: skip
    assert "no-such-program is not installed" in text and "Kernels:" in text and "cifar10_quick, training" in text
    assert "cifar10_full, 10 iterations" in text


def test_a_step_that_takes_too_long_is_ended(day, tmp_path):
    sleep = step(day, sys.executable, "-c", "print('begun', flush=True); import time; time.sleep(60)")
    result = day.run(sleep, tmp_path, 2)
    assert (result.state, result.lines) == ("timed out", ["begun"]) and result.seconds < 30
    assert day.run(sleep, tmp_path, 0.5).state == "left out"


def test_a_step_that_fails_shows_its_last_lines(day, tmp_path):
    result = day.run(step(day, sys.executable, "-c", "raise SystemExit('broken')"), tmp_path, 60)
    assert result.state == "failed" and "broken" in result.lines
    day.report([result], tmp_path)
    assert "| One | failed |" in (tmp_path / "gpu_day.md").read_text()


def test_all_steps_together_fit(day):
    assert day.ROOM <= 25 * 60


def test_what_checkers_print(day):
    marked = ("COMPUTE-SANITIZER", "Invalid __global__ read of size 4", "ERROR SUMMARY: 1 error")
    log = "".join(f"========= {line}\n" for line in marked) + "3 passed in 2s\n"
    assert day.checker_lines(log) == ["Invalid __global__ read of size 4", "ERROR SUMMARY: 1 error", "3 passed in 2s"]
