"""Sums of gradients in parts, during the backward pass: the same bits as one sum after it."""

import json
import os
import types

import numpy as np
import pytest

import minicaffe
from helpers.nets import net_from_text
from helpers.overlapping import NET, train
from helpers.ranks import run_ranks
from minicaffe.errors import ParallelError, UsageError
from minicaffe.parallel.background import BackgroundSums
from minicaffe.parallel.cost import Cost
from minicaffe.parallel.group import Group
from minicaffe.solvers import overlap
from minicaffe.solvers.overlap import Overlap, part_bytes, plan

# -- results -----------------------------------------------------------------------------------------------------------


def check_equal(size, parts, least=1, prepare=lambda solver: None):
    """Compare the state of each rank with what it gets without overlap.  prepare: called with the root's solver."""

    def results(mode):
        return run_ranks(size, lambda group: train(group, mode, least, *[prepare] if group.root else ()))

    for (found, state), (_, expected) in zip(results("always"), results("never")):
        assert found == parts
        np.testing.assert_array_equal(state, expected)


@pytest.mark.parametrize(("least", "parts"), [(1, 7), (200, 4), (300, 3), (700, 2), (10**6, 1)])
def test_results_are_equal_to_the_bit_for_every_number_of_parts(engine, least, parts):
    check_equal(2, parts, least)


def test_results_of_three_ranks_are_equal():
    check_equal(3, parts=7)


def _with_callback(solver):
    solver.net.after_backward(lambda i: None)


def _with_debug_info(solver):
    solver.param.display, solver.param.debug_info = 1, True


def _with_shared_diffs(solver):
    solver.net.share_memory(minicaffe.Sharing.FORGET)


@pytest.mark.parametrize("prepare", [_with_callback, _with_debug_info, _with_shared_diffs])
def test_a_rank_whose_pass_is_not_cut_does_the_same_sums(prepare):
    """One rank cannot overlap, the other one does."""
    check_equal(2, parts=7, prepare=prepare)


@pytest.mark.parametrize("size", [2, 3])
def test_results_are_equal_over_mpi(mpiexec, size):
    done = mpiexec(size, "-m", "helpers.overlapping")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["MPI", 7]] * size


# -- parts -------------------------------------------------------------------------------------------------------------


def names(net, parts):
    """For each part, the layer that completes it and the layers of its parameters."""
    owners = [net.layer_names[i] for (i, _), owner in zip(net.shared_params.layer_of, net.shared_params.owner_of)
              if owner is None]  # fmt: skip
    found, at = [], 0
    for layer, count in parts:
        members = owners[::-1][at : at + count]
        found.append((net.layer_names[layer], sorted(set(members))))
        at += count
    return found


def test_a_shared_parameter_is_complete_after_the_first_layer_that_uses_it():
    net = net_from_text(NET)
    found = names(net, plan(net, net.learnable_params, 1))
    assert found[:3] == [("ip3", ["ip3"]), ("ip2", ["ip2"]), ("ip1", ["ip1"])]


def test_parts_have_the_least_bytes_and_the_last_one_the_rest():
    net = net_from_text(NET)
    assert names(net, plan(net, net.learnable_params, 300)) == [("ip1", ["ip1", "ip2", "ip3"]), ("conv2", ["conv2"])]
    assert plan(net, net.learnable_params, 10**6) == []


def test_a_parameter_that_a_script_has_shared_is_complete_after_all_its_layers():
    net = net_from_text(NET)
    scale, late = net.params["scale1"], net.params["ip3"]
    late[1].reshape(4)
    late[1].share_diff(scale[0])
    first = plan(net, net.learnable_params, 1)[0]
    assert net.layer_names[first.layer] == "scale1" and first.params > 2


def test_bytes_of_a_part():
    slow = Cost(alpha=1e-3, beta=1e-9)
    assert part_bytes(slow, 10**7) == pytest.approx(4e6)
    assert part_bytes(slow, 10**8) == 10**8 / overlap.MOST_PARTS
    assert part_bytes(Cost(1e-9, 1e-9), 1000) == overlap.LEAST_BYTES
    assert part_bytes(Cost(1e-3, 0.0), 1000) == np.inf


# -- the choice --------------------------------------------------------------------------------------------------------


class Clock:
    """A clock, and a group, a net and a background sum that move it forward."""

    def __init__(self, backward, after, during):
        self.now, self.backward, self.after, self.during = 0.0, backward, after, during

    def perf_counter(self):
        return self.now

    def pass_time(self, seconds):
        self.now += seconds


class FakeGroup(Group):
    """Two ranks that do the same at the same time."""

    def __init__(self, clock):
        super().__init__(0, 2)
        self.clock, self.background = clock, False

    def sum(self, array):
        self.clock.pass_time(self.clock.during if self.background else self.clock.after)

    def gather(self, value):
        return [value, value]

    def share(self, value=None):
        return value

    def duplicate(self):
        group = FakeGroup(self.clock)
        group.background = True
        return group


class FakeBlob:
    """A parameter of 100,000 numbers."""

    count, dtype = 100_000, np.dtype(np.float32)

    def __init__(self):
        self.diff_memory = object()

    def read_diff(self):
        return np.ones(self.count, np.float32)


class FakeNet:
    """Layers with one parameter each."""

    def __init__(self, clock, layers=3):
        self.clock = clock
        self.learnable_params = [FakeBlob() for _ in range(layers)]
        self.layers = [types.SimpleNamespace(blobs=[blob]) for blob in self.learnable_params]

    def run_backward(self, passed=None):
        self.clock.pass_time(self.clock.backward)
        if passed is not None:
            passed(0)


def choose(monkeypatch, mode="auto", iterations=12, least=1, **times):
    """Run iterations on a clock; return the number of parts after each."""
    clock = Clock(**times)
    monkeypatch.setattr(overlap, "time", clock)
    net, sums = FakeNet(clock), Overlap(FakeGroup(clock), mode, least)
    flat, parts = np.zeros(300_002, np.float32), []
    for _ in range(iterations):
        sums.run_backward(net, net.learnable_params, flat)
        sums.sum(net, net.learnable_params, flat)
        parts.append(sums.parts)
    sums.close()
    return parts


def test_a_short_sum_is_not_tried_in_parts(monkeypatch, caplog):
    with caplog.at_level("INFO", logger="minicaffe"):
        assert set(choose(monkeypatch, backward=0.08, after=0.0004, during=0)) == {1}
    assert caplog.messages == ["Gradients are summed after the passes: 0.4 ms of 80.4 ms"]


def test_overlap_is_kept_if_it_is_faster(monkeypatch, caplog):
    with caplog.at_level("INFO", logger="minicaffe"):
        parts = choose(monkeypatch, backward=0.06, after=0.06, during=0.01)
    assert parts == [1] * 3 + [3] * 9
    assert caplog.messages == [
        "Gradients are summed in 3 parts during the backward pass: both take 90 ms instead of 120 ms"
    ]


def test_overlap_is_ended_if_it_is_not_faster(monkeypatch, caplog):
    with caplog.at_level("INFO", logger="minicaffe"):
        parts = choose(monkeypatch, backward=0.06, after=0.06, during=0.02)
    assert parts == [1] * 3 + [3] * 4 + [1] * 5
    assert caplog.messages == [
        "Gradients are summed after the passes: 60 ms of 120 ms; in 3 parts during the backward pass both take 120 ms"
    ]


def test_passes_on_a_gpu_are_not_timed(monkeypatch, caplog):
    """They only queue work."""
    monkeypatch.setattr(overlap, "HOST", None)
    with caplog.at_level("INFO", logger="minicaffe"):
        assert set(choose(monkeypatch, backward=0.06, after=0.06, during=0)) == {1}
    assert caplog.messages == ["Gradients are summed after the passes"]


@pytest.mark.parametrize(("mode", "parts"), [("never", [1, 1]), ("always", [3, 3])])
def test_the_choice_can_be_forced(monkeypatch, caplog, mode, parts):
    monkeypatch.setenv(overlap.VARIABLE, mode)
    with caplog.at_level("INFO", logger="minicaffe"):
        assert choose(monkeypatch, None, 2, backward=1.0, after=1.0, during=1.0) == parts
    (line,) = caplog.messages
    assert line.endswith(f" (MINICAFFE_OVERLAP={mode})")


def test_parts_are_made_whatever_they_cost_if_that_is_the_mode(monkeypatch):
    monkeypatch.setattr(overlap, "measure", lambda group: Cost(1.0, 1e-12))
    assert choose(monkeypatch, "always", 2, None, backward=1.0, after=1.0, during=1.0) == [2, 2]
    assert set(choose(monkeypatch, "auto", 12, None, backward=1.0, after=1.0, during=0.0)) == {1}


def test_an_unknown_mode_is_refused():
    with pytest.raises(UsageError, match="expected one of auto, never, always, got 'sometimes'"):
        Overlap(FakeGroup(None), "sometimes")


def test_the_mode_is_the_roots():
    results = run_ranks(2, lambda group: train(group, "always" if group.root else "never"))
    assert [parts for parts, _ in results] == [7, 7]


@pytest.mark.parametrize(("gain", "parts"), [(1e9, 7), (0.0, 1)])
def test_a_trial_changes_no_number(monkeypatch, gain, parts):
    """Two iterations without overlap, two with it, and a decision."""
    for name, value in {"RUNS": 1, "LEAST_BYTES": 1, "SHARE": 0.0, "GAIN": gain}.items():
        monkeypatch.setattr(overlap, name, value)
    chosen = run_ranks(2, lambda group: train(group, "auto"))
    plain = run_ranks(2, lambda group: train(group, "never"))
    for (found, state), (_, expected) in zip(chosen, plain):
        assert found == parts
        np.testing.assert_array_equal(state, expected)


# -- the thread --------------------------------------------------------------------------------------------------------


class Failing(FakeGroup):
    """A group whose second sum fails."""

    def __init__(self):
        super().__init__(None)
        self.sums = 0

    def sum(self, array):
        self.sums += 1
        if self.sums == 2:
            raise ParallelError("the connection to rank 1 has ended")
        array *= 2


def test_an_error_of_a_sum_reaches_the_main_thread():
    group = Failing()
    sums, arrays = BackgroundSums(group), [np.ones(2), np.ones(2), np.ones(2)]
    for array in arrays:
        sums.add(array)
    for _ in range(2):
        with pytest.raises(ParallelError, match="rank 1 has ended"):
            sums.wait()
    assert group.sums == 2
    np.testing.assert_array_equal(arrays, [[2, 2], [1, 1], [1, 1]])
    sums.close()
    assert not sums.thread.is_alive()
    with pytest.raises(ParallelError, match="closed"):
        sums.add(arrays[0])


def test_the_thread_ends_with_its_owner():
    sums = BackgroundSums(Failing())
    sums.add(np.ones(1))
    sums.wait()
    thread = sums.thread
    del sums
    thread.join(30)
    assert not thread.is_alive()


def test_closing_the_group_ends_a_sum_that_waits_for_another_rank():
    def work(group):
        sums = BackgroundSums(group.channel("gradients"))
        if group.root:
            sums.add(np.ones(3))
            group.share()
        else:
            group.share()
        group.close()
        if group.root:
            with pytest.raises(ParallelError):
                sums.wait()
        sums.close()
        return sums.thread.is_alive()

    assert run_ranks(2, work) == [False, False]


def test_ranks_end_when_one_of_them_fails_after_its_first_parts():
    """The others are in sums, some of them in the thread, and get an error from either."""

    def fail(group):
        def stop_at_third(i):
            if solvers[0].iter == 2:
                raise RuntimeError("rank 1 has failed")

        solvers = []
        try:
            train(group, "always", 1, lambda solver: (solvers.append(solver), solver.net.before_backward(stop_at_third))
                  if not group.root else None)  # fmt: skip
        except (ParallelError, RuntimeError) as error:
            group.close()
            return str(error)

    root, other = run_ranks(2, fail)
    assert other == "rank 1 has failed" and "rank 1" in root


def test_a_forked_process_has_no_thread(monkeypatch):
    sums = BackgroundSums(Failing())
    with monkeypatch.context() as context:
        context.setattr(os, "getpid", lambda: -1)
        with pytest.raises(ParallelError, match="forked"):
            sums.add(np.ones(1))
        with pytest.raises(ParallelError, match="forked"):
            sums.wait()
    sums.close()


def test_an_iteration_that_an_error_has_ended_is_not_repeated(monkeypatch):
    """Its parts have been summed by the other ranks."""
    clock = Clock(backward=0.0, after=0.0, during=0.0)
    net, sums, flat = FakeNet(clock), Overlap(FakeGroup(clock), "always", 1), np.zeros(300_002, np.float32)
    sums.run_backward(net, net.learnable_params, flat)
    sums.sum(net, net.learnable_params, flat)
    sums.run_backward(net, net.learnable_params, flat)
    with pytest.raises(ParallelError, match="start all of them again"):
        sums.run_backward(net, net.learnable_params, flat)
    sums.close()
