"""The cost model of data-parallel training, and the tables that benchmarks/scale.py prints from it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.scripts import script
from minicaffe.core.settings import restored
from minicaffe.data.datasets import synthetic

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPT = FOLDER / "scale.py"


@pytest.fixture(scope="module")
def scale():
    """The script as a module."""
    with script(SCRIPT) as module:
        yield module


@pytest.fixture(scope="module")
def model():
    """The formulas."""
    sys.path.insert(0, str(FOLDER))
    try:
        import cost_model
    finally:
        sys.path.remove(str(FOLDER))
    return cost_model


def test_costs_of_collectives(model):
    link = model.Link(alpha=1.0, beta=0.5)
    assert model.ring(4, 8, link) == 2 * 3 * (1 + 2 * 0.5)  # 6 steps of a quarter
    assert model.tree(4, 8, link) == 2 * 2 * (1 + 8 * 0.5)  # 4 steps of all bytes
    assert model.pipelined_tree(4, 8, link) == 2 * 2 * 1 + 2 * 8 * 0.5
    assert model.star(4, 8, link) == 2 * 3 * (1 + 8 * 0.5)  # the root receives and sends 3 times
    assert model.best(4, 8, link) == min(model.ring(4, 8, link), model.pipelined_tree(4, 8, link))


def test_a_ring_is_bound_by_bytes_and_a_tree_by_steps(model):
    link = model.Link(1e-5, 1e-10)
    large, small = 1e9, 4
    assert model.ring(2, large, link) == pytest.approx(large * link.beta, rel=1e-3)
    assert model.ring(1000, large, link) == pytest.approx(2 * large * link.beta, rel=0.1)
    assert model.pipelined_tree(1000, small, link) == pytest.approx(20 * link.alpha, rel=1e-3)


def test_nodes_with_several_devices(model):
    inside, between = model.Link(0, 1.0), model.Link(0, 2.0)
    whole = model.Cluster(4, inside, between, model.ring, pieces=False)
    assert whole.allreduce(1, 8) == 0
    assert whole.allreduce(4, 8) == 2 * 3 / 4 * 8
    assert whole.allreduce(8, 8) == 2 * 3 / 4 * 8 + 2 * 1 / 2 * 8 * 2
    assert model.Cluster(4, inside, between, model.ring).allreduce(8, 8) == 2 * 1 / 2 * 8 * 2  # both at once


def test_what_the_backward_pass_hides(model):
    assert model.exposed(2.0, 9.0, groups=1) == 2.0
    assert model.exposed(2.0, 9.0, groups=4) == 0.5  # the last of 4 parts
    assert model.exposed(10.0, 9.0, groups=4) == 10 - 6 * 3 / 4


def test_efficiency_of_weak_and_strong_scaling(model):
    work = model.Work(size=100.0, batch=10, image=0.1, overhead=1.0)
    training = model.Training(work, model.Cluster(1, model.Link(0, 0), model.Link(0, 0.01), model.ring))
    assert training.iteration(1) == 2.0 and training.rate(1) == 5.0
    assert training.iteration(2) == 2.0 + 1.0
    assert training.weak(2) == pytest.approx(2 / 3)
    assert training.rate(2, 5) == pytest.approx(10 / (1.0 + 0.5 + 1.0))
    assert training.strong(2, 10) == pytest.approx(training.rate(2, 5) / (2 * 5.0))


def test_a_slow_input_pipeline_is_waited_for(model):
    work = model.Work(size=0.0, batch=10, image=0.1)
    still = model.Cluster(1, model.Link(0, 0), model.Link(0, 0))
    assert model.Training(work, still, feed=20).iteration(1) == 1.0
    assert model.Training(work, still, feed=5).iteration(1) == 2.0


def test_the_slowest_of_many_devices(model):
    draws = 1 + 0.05 * np.random.default_rng(0).standard_normal((2000, 256))
    assert model.slowest(1, 0.05) == 1
    assert model.slowest(256, 0.05) == pytest.approx(draws.max(1).mean(), rel=0.03)


def test_where_it_stops_to_pay(model):
    work = model.Work(size=1e8, batch=32, image=0.01, overhead=0.05)
    cluster = model.Cluster(1, model.Link(0, 0), model.Link(1e-3, 1e-9), model.ring)
    training = model.Training(work, cluster)
    n = training.reach()
    assert training.weak(n) >= 0.5 > training.weak(2 * n)
    n = training.fastest(1024)
    assert training.iteration(n, 1024 / n) < training.iteration(n // 2, 2048 / n)
    assert training.iteration(n, 1024 / n) <= training.iteration(2 * n, 512 / n)


def test_gradients_are_those_of_our_nets(scale):
    sizes = {name: scale.gradient_bytes(name) // 4 for name in ("cifar10_full", "resnet50", "vgg16")}
    assert sizes == {"cifar10_full": 89_578, "resnet50": 25_557_032, "vgg16": 138_357_544}


def test_the_model_agrees_with_published_results(scale):
    errors = [abs(row.model - row.value) for row in scale.published()]
    assert np.median(errors) < 0.05 and max(errors) < 0.25


def test_all_tables_are_printed(tmp_path):
    words = [sys.executable, SCRIPT, "--cpu", "cifar10_full=0.2:50"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    tables = done.stdout.split("\n\n")
    assert len(tables) == 7 and all(table.startswith("| ") for table in tables)
    assert "| 50 | 200.0 | 250 |" in tables[0]
    rows = [line.count("|") for table in tables for line in table.strip().splitlines()]
    assert all(count > 5 for count in rows)


def test_the_page_has_these_tables(scale):
    page = (FOLDER.parent / "docs" / "scale.md").read_text(encoding="utf-8")
    assert all(f"<!-- table: {name} -->\n| " in page for name in scale.TABLES)
    assert scale.updated(page) == page  # otherwise: python benchmarks/scale.py --update docs/scale.md


def test_steps_are_measured(scale, monkeypatch):
    monkeypatch.setattr(scale, "IMAGES", {"resnet50": 1})
    monkeypatch.setitem(scale.NETS, "resnet50", lambda batch: scale.NETS["cifar10_full"](batch))
    with restored():
        flag, value = scale.steps(batch=2, rounds=1).split()
    name, (seconds, batch) = scale._step(value)
    assert flag == "--cpu" and (name, batch) == ("resnet50", 2) and seconds > 0


def test_readers_of_shares_are_timed(scale, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    synthetic.prepare("data", train=50, test=10)
    head, _, *rows = scale.readers("data/cifar10_train_lmdb", batches=1).splitlines()
    assert head == "| ranks | microseconds a record | records a second |"
    assert [row.split(" | ")[0] for row in rows] == ["| 1", "| 2", "| 8", "| 64"]
