"""The measured cost of a group's sum."""

import pytest

from helpers.ranks import run_ranks
from minicaffe.parallel import ALONE
from minicaffe.parallel.cost import Cost, measure


def test_the_time_of_a_sum_grows_with_its_bytes():
    assert Cost(alpha=0.5, beta=0.25).seconds(8) == 2.5


def test_a_group_of_one_costs_nothing():
    assert measure(ALONE) == (0, 0)


@pytest.mark.parametrize("size", [2, 3])
def test_all_ranks_get_the_same_cost(size):
    costs = run_ranks(size, lambda group: measure(group, nbytes=1 << 16, repeat=2))
    assert costs == [costs[0]] * size
    assert costs[0].alpha > 0 and costs[0].beta >= 0
