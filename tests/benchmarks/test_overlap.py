"""benchmarks/overlap.py runs from end to end, at a tiny size."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "overlap.py"


def test_all_ways_are_timed(tmp_path):
    words = ("lenet", "--batch", "2", "--rounds", "1", "--bandwidth", "100", "1000", "--latency", "0")
    done = subprocess.run([sys.executable, SCRIPT, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    title, *rows = (line.split() for line in done.stdout.splitlines())
    assert title == ["net", "MB", "MB/s", "here", "after", "during", "parts", "hidden", "chosen"]
    assert [row[:3] for row in rows] == [["lenet", "1.72", "100"], ["lenet", "1.72", "1000"]]
    assert all(float(number) > 0 for row in rows for number in row[3:6])
