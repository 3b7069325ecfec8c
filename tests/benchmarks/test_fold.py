"""benchmarks/fold.py runs from end to end, at a tiny size."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "fold.py"


def run(*words, cwd):
    done = subprocess.run([sys.executable, SCRIPT, *words], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_a_race(tmp_path):
    sizes = ("--size", "32", "--rounds", "1", "--steps", "1", "--threads", "1")
    lines = run("mobilenet", *sizes, "--engines", "numpy", cwd=tmp_path)
    assert lines[1] == "mobilenet, batch 1, 1 threads: 112 layers before, 58 after"
    assert re.fullmatch(r"  17\.0 MB of weights before, 16\.9 after; difference \d\.\de-\d+", lines[2])
    assert lines[3].split() == ["before", "after", "ratio"]
    assert lines[4].split()[0] == "numpy" and all(float(number) > 0 for number in lines[4].split()[1:])
    assert len(lines) == 5


def test_random_nets(tmp_path):
    lines = run("--random", "3", cwd=tmp_path)
    assert re.fullmatch(r"3 random nets: \d+ layers before, \d+ after", lines[0])
    assert all(float(number) < 1e-5 for line in lines[1:] for number in re.findall(r"\d\.\de-\d+", line))
