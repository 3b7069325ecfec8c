"""Trainings of several ranks, one of which is killed, resumed with `--snapshot auto`.

All processes end, every file that is left is whole, and the resumed run gives the bits of the uninterrupted one.
`tools/kill_test.py --ranks N` kills at random moments, as often as requested.
"""

import os
import random
import sys

import pytest

from kills.killing import differences
from kills.ranks import RandomRankKills

pytestmark = pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="needs processes that fork")


@pytest.fixture(scope="module")
def kills(tmp_path_factory):
    return RandomRankKills(tmp_path_factory.mktemp("kills"), random.randrange(1000), 2, launched=0)


def test_killed_twice_and_resumed(kills):
    assert not kills.run(2)
    assert sum(kills.killed.values()) == 2


def test_a_result_that_differs_is_noticed(kills):
    assert len(kills.expected) == 6 and kills.expected["displayed"]
    for name in kills.expected:
        assert differences({**kills.expected, name: None}, kills.expected) == name
