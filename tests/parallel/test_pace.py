"""Which ranks are named as slow, lost, or ended early: from what they state, without any process."""

import pytest

from minicaffe.parallel.pace import Beat, Pace, Silence, SlowRanks, left_early

NAMES = ["0 (a, process 1)", "1 (a, process 2)", "2 (b, process 1)"]


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


# -- what a rank states ------------------------------------------------------------------------------------------------


def test_a_call_is_no_work():
    clock = Clock()
    pace = Pace(clock)
    clock.now += 5  # building nets
    pace.reached(0)
    for iteration in (1, 2):
        with pace.waiting():
            clock.now += 3
            assert pace.beat().waits == 3
        clock.now += 0.5
        pace.reached(iteration)
    with pace.waiting():
        pass
    assert pace.beat() == Beat(iteration=2, iterations=3, calls=3, work=1.0)


def test_tests_of_the_root_are_no_work():
    clock = Clock()
    pace = Pace(clock)
    with pace.waiting():
        pace.reached(0)
    clock.now += 60
    with pace.pausing(), pace.waiting():
        assert pace.beat().pausing
    assert pace.beat().work == 0


def test_a_wait_in_which_the_process_was_stopped_is_not_counted():
    clock = Clock()
    pace = Pace(clock)
    with pace.waiting():
        clock.now += 300
        pace.skip(299)
        assert pace.beat().waits == 1


# -- lost and suspended ------------------------------------------------------------------------------------------------


def test_a_rank_that_sends_nothing_is_lost():
    silence = Silence(60.0, 1.0, 0.0)
    silence.heard(1, 0.0)
    silence.heard(2, 0.0)
    for now in range(1, 62):
        silence.heard(2, now)
        assert silence.gap(now) == 0
        assert silence.lost(now) == ([1] if now > 60 else [])


def test_a_job_that_was_suspended_is_not_lost():
    silence = Silence(60.0, 1.0, 0.0)
    silence.heard(1, 0.0)
    silence.gap(1.0)
    assert silence.gap(1000.0) == 998
    assert silence.lost(1000.0) == []
    silence.gap(1001.0)
    assert silence.of(1, 1001.0) == 3


# -- ended early -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "early"),
    [
        (Beat(iterations=5, calls=8, waits=2.0), True),
        (Beat(iterations=5, calls=8, waits=1.0), False),
        (Beat(iterations=5, calls=7, waits=2.0), False),  # in a call that both have begun
        (Beat(iterations=5, calls=7), False),  # the last tests
        (Beat(iterations=6, calls=7), True),  # without calls, as on GPUs
    ],
)
def test_a_rank_that_ended_before_the_others(other, early):
    beats = {0: other, 1: Beat(iterations=5, calls=7)}
    assert left_early(beats, {1}, 1.5) == (1 if early else None)
    assert left_early(beats, set(), 1.5) is None
    assert left_early(beats, {0, 1}, 1.5) is None


# -- slow --------------------------------------------------------------------------------------------------------------


def waiting(seconds, calls=7):
    return Beat(iteration=120, calls=calls, waits=seconds)


def test_a_rank_that_the_others_wait_for_is_named_at_growing_intervals():
    slow = SlowRanks(NAMES)
    named = [
        seconds
        for seconds in range(100)
        if slow.waits({0: waiting(seconds), 1: waiting(seconds + 1), 2: Beat(calls=6)}, set())
    ]
    assert named == [10, 20, 40, 80]
    sentence = SlowRanks(NAMES).waits({0: waiting(12), 1: waiting(11), 2: Beat(calls=6)}, set())
    assert sentence == "Waiting for rank 2 (b, process 1) at iteration 120 for 11 s"


def test_a_new_wait_is_named_from_the_beginning():
    slow = SlowRanks(NAMES)
    for seconds in (10, 0, 10):
        named = slow.waits({0: waiting(seconds), 1: Beat(calls=6), 2: Beat(calls=6)}, set())
        assert bool(named) == bool(seconds)
    assert named == "Waiting for ranks 1 (a, process 2), 2 (b, process 1) at iteration 120 for 10 s"


def test_a_stopped_rank_is_named_though_it_stated_that_it_waits():
    beats = {rank: waiting(30) for rank in range(3)}
    assert not SlowRanks(NAMES).waits(beats, set())
    assert SlowRanks(NAMES).waits(beats, {1}).startswith("Waiting for rank 1 (a, process 2)")


def test_waiting_for_tests_is_not_reported():
    beats = {0: Beat(calls=6), **{rank: Beat(calls=7, waits=30, pausing=True) for rank in (1, 2)}}
    assert not SlowRanks(NAMES).waits(beats, set())


def run(slow, works, seconds, start=0):
    """The sentences about ranks that work `works` seconds in each iteration of one second."""
    sentences = []
    for now in range(start, start + seconds):
        beats = {rank: Beat(work=work * now, iterations=now) for rank, work in enumerate(works)}
        sentences += slow.work(beats, float(now))
    return sentences


def test_a_rank_with_more_work_is_named_once():
    slow = SlowRanks(NAMES)
    assert run(slow, [0.5, 0.52, 0.9], 100) == ["Rank 2 (b, process 1) takes 0.9 s per iteration, the others 0.51 s"]


def test_a_rank_is_named_again_after_it_was_as_fast_as_the_others():
    slow, sentences = SlowRanks(NAMES[:2]), []
    total = [0.0, 0.0]
    for now in range(300):
        for rank, work in enumerate([0.5, 0.5 if now // 100 == 1 else 0.9]):
            total[rank] += work
        sentences += slow.work({rank: Beat(work=work, iterations=now) for rank, work in enumerate(total)}, float(now))
    assert len(sentences) == 2


def test_small_differences_are_not_named():
    assert not run(SlowRanks(NAMES), [0.5, 0.5, 0.7], 100)
    assert not run(SlowRanks(NAMES), [0.001, 0.001, 0.003], 100)
    assert not run(SlowRanks(NAMES), [0.5, 0.5, 5.0], 20)  # too early


def test_long_iterations_are_measured_over_three():
    slow = SlowRanks(NAMES[:2])
    for now in range(0, 500):
        beats = {rank: Beat(work=work * (now // 100), iterations=now // 100) for rank, work in enumerate((50, 99))}
        if slow.work(beats, float(now)):
            assert now == 300
            return
    raise AssertionError
