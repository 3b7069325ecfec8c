"""Solver.solve and step with a progress line, and the curves that a solver keeps."""

import io
import logging
import math

import pytest

import minicaffe
from minicaffe.progress.plain import PlainLines
from minicaffe.progress.terminal import StatusLine
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.solvers import curves, progress
from minicaffe.solvers.curves import Series

SOLVER = """
net_param { name: "small"
  layer { name: "data" type: "DummyData" top: "x" top: "y" dummy_data_param {
    shape { dim: 4 dim: 3 } shape { dim: 4 } data_filler { type: "gaussian" } data_filler { value: 1 } } }
  layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
    inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "y" top: "loss" }
  layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "y" top: "accuracy" include { phase: TEST } } }
test_iter: 1 test_interval: 4 base_lr: 0.1 lr_policy: "step" gamma: 0.5 stepsize: 4 max_iter: 8 random_seed: 1
snapshot_after_train: false
"""


@pytest.fixture
def solver():
    return minicaffe.get_solver(parse_text(SOLVER, caffe_pb2.SolverParameter()))


@pytest.fixture
def stream(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(progress, "suitable", lambda: PlainLines(stream))
    return stream


def test_solving_is_silent_unless_progress_is_requested(solver, stream, capfd):
    solver.solve()
    assert stream.getvalue() == "" and capfd.readouterr() == ("", "")


def test_solve_shows_progress(solver, stream):
    solver.solve(progress=True)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("small  100%  8/8  loss ") and "images/s" in line and line.endswith("took 0 s")
    assert solver.observers == []


def test_the_last_test_is_part_of_solving(solver, stream):
    solver.solve(progress=True)
    accuracy = solver.curves.tests[0, "accuracy"].points[-1][1]
    assert f"accuracy {accuracy:.4f}" in stream.getvalue()


def test_steps_fill_a_bar_each(solver, stream):
    solver.step(2, progress=True)
    solver.step(3, progress=True)
    solver.step(1)
    assert [line.split("  ")[1:3] for line in stream.getvalue().splitlines()] == [["100%", "2/2"], ["100%", "5/5"]]


def test_the_line_stays_after_an_error(solver, stream):
    def fail(solver):
        raise RuntimeError("stop")

    solver.add_gradient_hook(fail)
    with pytest.raises(RuntimeError):
        solver.step(3, progress=True)
    assert stream.getvalue().startswith("small    0%  0/3") and solver.observers == []


def test_ranks_other_than_the_root_show_nothing(solver, stream, monkeypatch):
    monkeypatch.setattr(type(solver.ranks), "root", False)
    with progress.showing(solver, True, 8):
        assert solver.observers == []


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_a_log_on_the_same_terminal_has_lines_of_its_own(solver, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(progress, "suitable", lambda: StatusLine(terminal))
    logger = logging.getLogger("minicaffe")
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler(terminal)])
    logger.setLevel(logging.INFO)
    solver.step(5, progress=True)
    shown = [line.split("\r\x1b[K")[-1] for line in terminal.getvalue().split("\n")]
    assert "Iteration 4, Testing net (#0)" in shown
    assert shown[-2].startswith("small  ████") and "took" in shown[-2] and shown[-1] == ""
    assert sum("█" in line for line in shown) == 1


# -- curves ------------------------------------------------------------------------------------------------------------


def test_a_solver_keeps_its_curves(solver):
    solver.solve()
    kept = solver.curves
    assert [it for it, _ in kept.loss.points] == list(range(8))
    assert kept.loss.points[-1][1] == pytest.approx(solver.smoothed_loss, rel=1)
    assert [rate for _, rate in kept.rate.points] == pytest.approx([0.1] * 4 + [0.05] * 4)
    assert set(kept.tests) == {(0, "loss"), (0, "accuracy")}
    assert [it for it, _ in kept.tests[0, "accuracy"].points] == [0, 4, 8]


def test_each_number_of_an_output_has_a_curve(solver, stream):
    watch = progress.TrainingProgress(PlainLines(stream), solver)
    for iteration, scores in enumerate([{"seg": [0.9, 0.5, 0.25], "prob": [0.0] * 50}, {"seg": [0.9, 0.5, 0.5]}]):
        solver.iter = iteration
        solver.curves.on_test(solver, 0, scores)
    points = {name: series.points for (_, name), series in solver.curves.tests.items()}
    assert list(points) == ["seg[0]", "seg[1]", "seg[2]"] and points["seg[2]"] == [(0, 0.25), (1, 0.5)]
    watch.on_test(solver, 0, {"class acc": [0.9, 0.5], "accuracy": [0.75]})
    assert watch._accuracy == "accuracy 0.7500"
    watch.on_test(solver, 0, {"class acc": [0.9, 0.5]})
    assert watch._accuracy == "class acc[0] 0.9000"


def test_restoring_drops_what_came_later(solver):
    solver.step(8)
    solver.curves.go_back(3)
    assert [it for it, _ in solver.curves.loss.points] == [0, 1, 2]
    assert [it for it, _ in solver.curves.tests[0, "accuracy"].points] == [0]


def test_a_resumed_training_has_each_iteration_once(solver, tmp_path):
    solver.param.snapshot_prefix = str(tmp_path / "s")
    solver.step(5)
    solver.snapshot()
    solver.step(2)
    solver.restore(tmp_path / "s_iter_5.solverstate")
    solver.step(3)
    assert [it for it, _ in solver.curves.loss.points] == list(range(8))
    assert [it for it, _ in solver.curves.rate.points] == list(range(8))
    assert [it for it, _ in solver.curves.tests[0, "accuracy"].points] == [0, 4]


def test_the_rate_is_computed_only_where_it_is_kept(solver, monkeypatch):
    monkeypatch.setattr(curves, "MOST", 4)
    solver.step(20)
    points = solver.curves.rate.points
    assert len(points) <= 4 and [it for it, _ in points] == [i * solver.curves.rate.stride for i in range(len(points))]


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(curves, "MOST", 16)
    series, longest = Series(), 0
    for iteration in range(10_000):
        series.add(iteration, math.sqrt(iteration))
        longest = max(longest, len(series.points))
    points = series.points
    assert longest <= 17 and len(points) >= 8
    assert points[0] == (0, 0.0) and points[-1][0] == 9999
    steps = {b[0] - a[0] for a, b in zip(points[:-1], points[1:-1])}
    assert steps == {series.stride}
    assert all(value == math.sqrt(iteration) for iteration, value in points)


@pytest.mark.parametrize("iteration", [0, 1, 37, 255, 400])
def test_going_back_continues_evenly(monkeypatch, iteration):
    monkeypatch.setattr(curves, "MOST", 16)
    series = Series()
    for it in range(300):
        series.add(it, 0.0)
    series.go_back(iteration)
    for it in range(iteration, iteration + 500):
        series.add(it, 0.0)
    iterations = [it for it, _ in series.points]
    assert len(iterations) <= 17 and iterations[-1] == iteration + 499
    added = [*range(min(iteration, 300)), *range(iteration, iteration + 500)]
    assert iterations[:-1] == [it for it in added[:-1] if it % series.stride == 0]


def test_values_of_every_few_iterations_are_thinned_evenly(monkeypatch):
    """Losses that are read for display, from an iteration on that is no multiple of the interval."""
    monkeypatch.setattr(curves, "MOST", 16)
    series = Series()
    for it in [7, *range(10, 3000, 10)]:
        series.add(it, 0.0)
    iterations = [it for it, _ in series.points]
    assert 8 <= len(iterations) <= 17 and len({b - a for a, b in zip(iterations[:-1], iterations[1:-1])}) == 1


def test_a_value_replaces_that_of_the_same_iteration(monkeypatch):
    monkeypatch.setattr(curves, "MOST", 4)
    series = Series()
    for value in range(10):
        series.add(0, float(value))
    assert series.points == [(0, 9.0)]
