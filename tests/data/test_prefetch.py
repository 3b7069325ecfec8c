"""The prefetch thread: order, depth, errors, termination."""

import gc
import itertools
import threading

import pytest

from minicaffe.data.prefetch import Prefetcher


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "minicaffe-prefetch"]


def test_results_come_in_order_and_not_too_early():
    produced = []
    counter = itertools.count()
    third = threading.Event()

    def produce():
        produced.append(next(counter))
        if len(produced) == 3:
            third.set()
        return produced[-1]

    prefetcher = Prefetcher(produce, depth=3)
    assert third.wait(10)
    assert [prefetcher.get() for _ in range(10)] == list(range(10))
    assert len(produced) <= 10 + 3
    prefetcher.close()


def test_an_error_comes_where_its_result_would_have():
    results = iter([1, 2])

    def produce():
        try:
            return next(results)
        except StopIteration:
            raise KeyError("record 3") from None

    prefetcher = Prefetcher(produce)
    assert prefetcher.get() == 1 and prefetcher.get() == 2
    for _ in range(2):
        with pytest.raises(KeyError, match="record 3"):
            prefetcher.get()
    prefetcher.close()


def test_the_thread_ends_when_it_is_closed_or_forgotten():
    gc.collect()  # the layers of other tests, whose threads would end in the middle of this one
    before = len(threads())
    closed, forgotten = Prefetcher(lambda: 1), Prefetcher(lambda: 2)
    assert len(threads()) == before + 2
    closed.close()
    assert len(threads()) == before + 1
    with pytest.raises(RuntimeError, match="closed"):
        closed.get()
    del forgotten
    gc.collect()
    assert len(threads()) == before
