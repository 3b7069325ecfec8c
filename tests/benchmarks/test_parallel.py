"""benchmarks/parallel.py runs from end to end, at a tiny size."""

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.scripts import script

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "parallel.py"
TINY = ("--batch", "4", "--rounds", "1", "--seconds", "0.001")


def run(*words):
    """Return the cells of the rows of the table."""
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


@pytest.fixture(scope="module")
def parallel():
    """The script as a module."""
    with script(SCRIPT) as module:
        yield module


def test_strong_and_weak_scaling():
    teams = ("1 process", "1 process, 2 threads", "2 workers, TCP")
    head, _, *rows = run("lenet", *TINY, "--only", *teams)
    assert head[:4] == ["net", "scaling", "", "batch of all"] and len(head) == 11
    assert [row[:4] for row in rows] == [
        ["lenet", "strong", "1 process", "4"],
        ["lenet", "strong", "1 process, 2 threads", "4"],
        ["lenet", "strong", "2 workers, TCP", "4"],
        ["lenet", "weak", "1 process", "4"],
        ["lenet", "weak", "1 process, 2 threads", "8"],
        ["lenet", "weak", "2 workers, TCP", "8"],
    ]
    assert all(float(cell) > 0 for row in rows for cell in row[4:8])
    assert [bool(row[8]) for row in rows] == [False, False, True] * 2


@pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="mpi4py is not installed")
def test_workers_of_mpi():
    _, _, *rows = run("cifar10_resnet20", *TINY, "--scaling", "strong", "--only", "2 workers, MPI")
    if not rows:
        pytest.skip("there is no MPI library, or no mpiexec")
    assert [row[2] for row in rows] == ["2 workers, MPI"]


def test_what_a_sum_costs():
    head, _, *rows = run("--link", "--repeats", "3", "--only", "2 workers, TCP")
    assert head == ["numbers", "", "2 workers, TCP"]
    assert [row[1] for row in rows][-2:] == ["alpha, microseconds a sum", "1 / beta, GB a second"]
    assert all(float(row[2]) > 0 for row in rows)


def test_a_team_that_cannot_start_is_named(parallel, capsys):
    (plan, *_) = parallel.plans(2, None)
    kind = dataclasses.replace(plan, name="other", kind="OTHER")
    launcher = dataclasses.replace(plan, name="unlaunched", launcher="no-such-mpiexec")
    assert parallel.assemble([kind, launcher]) == []
    other, unlaunched = capsys.readouterr().out.splitlines()
    assert other == "  other: does not take part: a rank did not start: KeyError: 'OTHER'"
    assert unlaunched == "  unlaunched: does not take part: there is no no-such-mpiexec"


def test_batches_of_strong_and_weak_scaling(parallel):
    plans = {plan.name: plan for plan in parallel.plans(4, "python")}
    batches = {
        name: [parallel.batch_of(kind, plan, 100) for kind in ("strong", "weak")] for name, plan in plans.items()
    }
    assert batches["1 process"] == [100, 100]
    assert batches["1 process, 4 threads"] == batches["PyTorch, 1 process, 4 threads"] == [100, 400]
    assert batches["4 workers, TCP"] == batches["PyTorch, 4 workers, gloo"] == [25, 100]


def test_rows_of_the_table(parallel):
    plans = {plan.name: plan for plan in parallel.plans(2, "python")}

    def result(name, batch, seconds, summing):
        return parallel.Result(plans[name], batch, [seconds] * 3, summing)

    results = [
        result("1 process", 10, 0.1, [[0.0]]),
        result("2 workers, TCP", 20, 0.125, [[0.05], [0.025]]),
        result("PyTorch, 1 process", 10, 0.2, [[0.0]]),
        result("PyTorch, 2 workers, gloo", 20, 0.25, [[0.0], [0.0]]),
    ]
    assert parallel.table("net", "weak", results) == [
        "| net | weak | 1 process | 10 | 100.00 | 100 | 1.00 | 1.00 |  |  | 2.00 |",
        "| net | weak | 2 workers, TCP | 20 | 125.00 | 160 | 1.60 | 0.80 | 30.0 % | 20.0 % | 2.00 |",
        "| net | weak | PyTorch, 1 process | 10 | 200.00 | 50 | 1.00 | 1.00 |  |  |  |",
        "| net | weak | PyTorch, 2 workers, gloo | 20 | 250.00 | 80 | 1.60 | 0.80 |  |  |  |",
    ]
