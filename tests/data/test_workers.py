"""Workers: every call is made, the first error in order is raised, and no thread is left."""

import gc
import threading
import weakref

import pytest

from minicaffe.data.workers import Workers, in_turn


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "minicaffe-worker"]


@pytest.mark.parametrize("count", [0, 1, 2, 100])
@pytest.mark.parametrize("number", [0, 1, 2, 7])
def test_every_index_once(number, count):
    workers, called = Workers(number), []
    for _ in range(3):
        called.clear()
        workers.each(called.append, count)
        assert sorted(called) == list(range(count))
    workers.close()


def test_calls_run_at_the_same_time():
    workers, meeting = Workers(3), threading.Barrier(3, timeout=60)
    workers.each(lambda index: meeting.wait(), 3)
    workers.close()


@pytest.mark.parametrize("number", [1, 4])
def test_the_error_of_the_smallest_index_is_raised(number):
    workers = Workers(number)
    for _ in range(50):
        called = []

        def work(index, called=called):
            called.append(index)
            if index in (5, 6, 7, 30):
                raise KeyError(index)

        with pytest.raises(KeyError, match="5"):
            workers.each(work, 40)
        assert set(range(6)) <= set(called) and 30 not in called
    workers.each(called.append, 2)
    workers.close()


def test_an_error_that_comes_late_is_still_the_first():
    workers, later_failed = Workers(2), threading.Event()

    def work(index):
        if index == 0:
            assert later_failed.wait(60)
            raise KeyError("first")
        later_failed.set()
        raise KeyError("second")

    with pytest.raises(KeyError, match="first"):
        workers.each(work, 2)
    workers.close()


def test_several_threads_may_call():
    workers, results = Workers(2), [[] for _ in range(4)]
    callers = [threading.Thread(target=workers.each, args=(result.append, 200)) for result in results]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert all(sorted(result) == list(range(200)) for result in results)
    workers.close()


def test_the_threads_end_when_workers_are_closed_or_forgotten():
    others = set(threads())  # some may be about to end
    closed, forgotten, unused = Workers(3), Workers(2), Workers(9)
    closed.each(lambda index: None, 5)
    forgotten.each(lambda index: None, 5)
    assert len(set(threads()) - others) == 3
    closed.close()
    closed.each(lambda index: None, 5)  # in this thread
    assert len(set(threads()) - others) == 1
    del forgotten, unused
    gc.collect()
    assert not set(threads()) - others


def test_the_threads_keep_nothing_of_the_last_job():
    class Thing:
        pass

    workers, thing = Workers(3), Thing()
    meeting = threading.Barrier(3, timeout=60)

    def work(index, thing=thing):
        meeting.wait()

    workers.each(work, 3)
    known = weakref.ref(thing)
    del work, thing
    workers.each(lambda index: meeting.wait(), 3)  # every thread has left the first job
    gc.collect()
    assert known() is None
    workers.close()


def test_in_turn_is_a_loop():
    called = []
    in_turn(called.append, 4)
    assert called == [0, 1, 2, 3]
