"""Divisors, tables on the device, and the plans that a layer keeps."""

import numpy as np
import pytest

from minicaffe.cuda import tables


@pytest.mark.parametrize("by", [1, 2, 3, 7, 9, 64, 65, 1000, 46341, (1 << 30) + 1, (1 << 31) - 1])
def test_divisor(by):
    same, factor, shift = tables.divisor(by)
    ends = [k * by + d for k in (0, 1, 2, 1000, (2**31 - 1) // by) for d in (-1, 0, 1)]
    numbers = np.array([n for n in ends if 0 <= n < 2**31] + [2**31 - 1], np.uint64)
    quotients = (numbers * np.uint64(factor) >> np.uint64(32)) + numbers >> np.uint64(shift)
    assert same == by and factor < 2**32
    np.testing.assert_array_equal(quotients, numbers // np.uint64(by))


def test_with_axes():
    assert tables.with_axes((2, 3)) == (2, 3, 1, 1, 1)
    assert tables.with_axes((2, 3, 5, 7)) == (2, 3, 1, 5, 7)
    assert tables.with_axes((2, 3, 4, 5, 7)) == (2, 3, 4, 5, 7)


def test_plans_that_were_not_used_for_longest_go_first():
    plans, made = tables.Plans(2), []

    def plan(key):
        return plans.get(key, lambda: made.append(key) or key.upper())

    assert [plan(key) for key in "abacab"] == list("ABACAB")
    assert made == list("abcb") and len(plans) == 2


def test_a_plan_that_cannot_be_made_is_not_kept():
    plans = tables.Plans(2)
    with pytest.raises(ZeroDivisionError):
        plans.get("a", lambda: 1 // 0)
    assert plans.get("a", lambda: 5) == 5


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu_mode")
def test_tables_hold_32_bits():
    table = tables.uploaded([[1, -1], [1 << 31, (1 << 32) - 2]])
    assert table.to_host(np.empty((2, 2), np.int32)).tolist() == [[1, -1], [-(1 << 31), -2]]
