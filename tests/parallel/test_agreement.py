"""What one rank requests, all ranks do at the same iteration: stops, snapshots, and what follows from failures."""

import logging
import os

import pytest

import minicaffe
from helpers.ranks import REGRESSION, run_ranks
from minicaffe.errors import ParallelError, SnapshotError
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.solvers import Keeper, snapshot

SOLVER = (
    """
base_lr: 0.1 momentum: 0.9 lr_policy: "fixed" max_iter: 9 random_seed: 3 display: 1 test_iter: 2 test_interval: 4
snapshot: 3 snapshot_prefix: "s"
"""
    + REGRESSION
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(**fields):
    param = parse_text(SOLVER, caffe_pb2.SolverParameter())
    param.MergeFrom(caffe_pb2.SolverParameter(**fields))
    return minicaffe.get_solver(param)


def condition(solver):
    return solver.iter, solver.stopped, solver.net.params["ip"][0].data.tolist()


class StopsIn:
    """Observer that stops the solver in one of its methods, at the first call of iteration `at` or later."""

    def __init__(self, method, at):
        self._at = at
        setattr(self, method, self._called)

    def _called(self, solver, *_):
        if solver.iter >= self._at:
            solver.stop()


PLACES = [
    ("on_iteration", 0), ("on_iteration", 5), ("on_iteration", 8), ("on_display", 5), ("on_snapshot", 3),
    ("on_snapshot", 9), ("on_test", 0), ("on_test", 4), ("on_test_batch", 4), ("on_test_batch", 8),
]  # fmt: skip


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("method, at", PLACES)
def test_an_observer_of_one_rank_stops_all(method, at, rank):
    """At the iteration at which it stops a single solver."""

    def work(group):
        solver = build()
        if group.rank == rank or group.size == 1:
            solver.observers.append(StopsIn(method, at))
        solver.step(9)
        return condition(solver)

    ranks = run_ranks(2, work)
    assert ranks[0] == ranks[1]
    if rank == 0 or "test" not in method:  # the others do not test
        assert ranks[0][:2] == run_ranks(1, work)[0][:2]
        assert ranks[0][1]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("request_", ["stop", "snapshot"])
@pytest.mark.parametrize("call", [0, 1, 2, 5, 6, 7, 20])
def test_the_action_of_one_rank_is_that_of_all(folder, call, request_, rank):
    """In iterations and, at the root, in test batches; call: that of `action` which returns the request."""

    def work(group):
        solver = build(snapshot=0, snapshot_after_train=False)
        if group.rank == rank:
            calls = iter(range(1000))
            solver.action = lambda: request_ if next(calls) == call else None
        solver.solve()
        return condition(solver), solver.last_state

    (one, state), (other, state1) = run_ranks(2, work)
    # the root's calls 0 and 1 are in the test before iteration 0, 6 and 7 in that before iteration 4
    it = min(call + 1, 9) if rank else {0: 0, 1: 0, 2: 1, 5: 4, 6: 4, 7: 4, 20: 9}[call]
    happens = rank == 0 and call <= 14 or call < 9
    assert one == other and state == state1
    assert one[0] == (it if happens and request_ == "stop" else 9)
    assert one[1] == (happens and request_ == "stop")
    expected = [f"s_iter_{it}.{kind}" for kind in ("caffemodel", "runstate", "solverstate")]
    assert sorted(os.listdir(folder)) == (expected if happens and request_ == "snapshot" else [])


@pytest.mark.parametrize("rank", [0, 1])
def test_solve_ends_with_a_snapshot_after_a_stop(folder, rank):
    def work(group):
        solver = build(snapshot=0)
        if group.rank == rank:
            solver.observers.append(StopsIn("on_iteration", 4))
        solver.solve()
        return condition(solver)

    one, other = run_ranks(2, work)
    assert one == other and one[0] == 5
    assert sorted(os.listdir(folder)) == ["s_iter_5.caffemodel", "s_iter_5.runstate", "s_iter_5.solverstate"]


def test_a_stop_ends_one_step(folder):
    """Several calls of `step`; the root's number of iterations counts."""

    def work(group):
        solver = build()
        if group.rank == 1:
            solver.observers.append(StopsIn("on_display", 4))
        seen = []
        for count in (2, 2, 3, 3):
            solver.step(count if group.root else 1)
            seen.append(condition(solver)[:2])
        return seen, condition(solver)

    one, other = run_ranks(2, work)
    assert one == other
    assert one[0] == [(2, False), (4, False), (5, True), (6, True)]


def test_patience_of_the_root_stops_all(folder):
    def work(group):
        solver = build(test_interval=1)
        solver.observers.append(Keeper(solver, keep=1, best="loss:larger", patience=2))
        solver.observers[0].value, solver.observers[0].iter = 1e9, 0
        solver.solve()
        return condition(solver)

    one, other = run_ranks(2, work)
    assert one == other and one[:2] == (1, True)
    assert (folder / "s_iter_1.solverstate").exists()


def test_a_snapshot_within_a_test_is_of_before_the_test(folder):
    """A resumed run repeats the whole test, as after a snapshot of a single solver."""

    def scores(solver):
        seen = []
        solver.observers.append(Scores(seen))
        return seen

    def straight(group):
        solver = build()
        seen = scores(solver)
        if group.root:
            calls = iter(range(1000))
            solver.action = lambda: "snapshot" if next(calls) == 7 else None
        solver.solve()
        return seen, condition(solver)

    def resumed(group):
        solver = build()
        seen = scores(solver)
        solver.restore("s_iter_4.solverstate")
        solver.solve()
        return seen, condition(solver)

    expected = run_ranks(2, straight)
    found = run_ranks(2, resumed)
    assert [each[1] for each in found] == [each[1] for each in expected]
    assert found[0][0] == expected[0][0][1:] and found[1][0] == []


class Scores:
    """Observer that keeps test scores."""

    def __init__(self, seen):
        self.seen = seen

    def on_test(self, solver, net_id, scores):
        self.seen.append((solver.iter, scores))


@pytest.mark.parametrize("until", [3, 9])
def test_a_snapshot_that_cannot_be_written_is_the_error_of_all(monkeypatch, caplog, until):
    """Training goes on without it, at the same iteration; `solve` raises at all ranks if it was the last."""
    write = snapshot.write_atomically

    def full(path, *more):
        if "_iter_3" in path or f"_iter_{until}" in path:
            raise SnapshotError(f"cannot write '{path}': No space left on device")
        write(path, *more)

    monkeypatch.setattr(snapshot, "write_atomically", full)

    def work(group):
        solver = build()
        try:
            solver.solve()
            error = ""
        except SnapshotError as failure:
            error = str(failure)
        return condition(solver), solver.last_state, error

    with caplog.at_level(logging.WARNING):
        one, other = run_ranks(2, work)
    assert one == other and one[0][0] == 9
    assert one[1] == ("s_iter_9.solverstate" if until == 3 else "s_iter_6.solverstate")
    assert ("No space left on device" in one[2]) == (until == 9)
    assert len([line for line in caplog.messages if "training goes on without this snapshot" in line]) >= 2


def test_only_the_root_has_test_nets_and_reads_weights(folder):
    def work(group):
        solver = build()
        solver.snapshot()
        again = build(weights=["s_iter_0.caffemodel" if group.root else "nowhere.caffemodel"])
        again.step(0)
        same = again.net.params["ip"][0].data.tolist() == solver.net.params["ip"][0].data.tolist()
        return len(solver.test_nets), solver.test_all() != [], same or not group.root

    assert run_ranks(2, work) == [(1, True, True), (0, False, True)]


@pytest.mark.parametrize("field, value", [("max_iter", 8), ("iter_size", 2), ("base_lr", 0.2), ("type", "Nesterov")])
def test_solvers_that_differ_are_an_error_of_all(field, value):
    def work(group):
        solver = build(**{} if group.root else {field: value})
        with pytest.raises(ParallelError, match=f"the solvers of rank 0 and 1 differ in {field}: expected"):
            solver.step(1)

    run_ranks(2, work)


def test_nets_that_differ_are_an_error_of_all():
    def work(group):
        text = SOLVER.replace("dim: 3", f"dim: {3 + group.rank}")
        solver = minicaffe.get_solver(parse_text(text, caffe_pb2.SolverParameter()))
        with pytest.raises(ParallelError, match=r"rank 0 and 1 differ in shapes of parameters: .*got \[\(1, 4\)"):
            solver.step(1)

    run_ranks(2, work)
