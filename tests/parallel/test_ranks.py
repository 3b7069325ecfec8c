"""Solvers that train together: the same parameters at all ranks, and what one solver with the whole batch gets."""

import numpy as np
import pytest

import minicaffe
from helpers.ranks import REGRESSION, run_ranks
from minicaffe.errors import ParallelError
from minicaffe.parallel import ALONE
from minicaffe.proto import caffe_pb2, parse_text

SOLVER = (
    """
base_lr: 0.1 momentum: 0.9 lr_policy: "fixed" max_iter: 5 random_seed: 3 snapshot_after_train: false
"""
    + REGRESSION
)


def test_every_rank_gets_the_values_of_all():
    assert run_ranks(3, lambda group: group.exchange([group.rank])) == [[[0], [1], [2]]] * 3


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_have_the_same_parameters_to_the_bit(size):
    def work(group):
        solver = minicaffe.get_solver(parse_text(SOLVER, caffe_pb2.SolverParameter()))
        solver.solve()
        return solver.iter, solver.net.params["ip"][0].data.copy()

    (iterations, weights), *others = run_ranks(size, work)
    assert iterations == 5
    for other_iterations, other in others:
        assert other_iterations == 5
        np.testing.assert_array_equal(other, weights)


def test_a_channel_of_a_group_is_made_once_and_closed_with_it():
    def work(group):
        channel = group.channel("statistics")
        assert group.channel("statistics") is channel is not group
        assert group.channel("another") is not channel
        for each in (channel, group):  # each has messages of its own
            array = np.full(3, group.rank + 1.0)
            each.sum(array)
            np.testing.assert_array_equal(array, 3)
        group.close()
        with pytest.raises(ParallelError):
            channel.sum(array)
        return True

    assert run_ranks(2, work) == [True, True]
    assert ALONE.channel("statistics") is ALONE
