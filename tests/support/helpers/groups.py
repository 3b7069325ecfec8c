"""What every group of ranks does, whatever connects them: each function is run by all ranks of one group.

`python -m helpers.groups` runs all of them in the group of COMM_WORLD, under mpiexec.
"""

import functools
import threading

import numpy as np

from minicaffe.errors import ParallelError
from minicaffe.parallel import mpi
from minicaffe.parallel.mpi import MpiGroup


def terms(size, count, dtype):
    """The arrays of all ranks, in which another order of a sum gives other bits."""
    random = np.random.default_rng(count)
    return [(random.standard_normal(count) * 10.0 ** random.integers(-3, 4, count)).astype(dtype) for _ in range(size)]


def sums_have_the_bits_of_the_sum_in_order(group):
    for dtype in (np.float32, np.float64, np.int32):
        for count in (0, 1, 2, 3, 4, 5, 7, 1001, 4097, 70_001, 300_007):
            arrays = terms(group.size, count, dtype)
            array = arrays[group.rank].copy()
            group.sum(array)
            assert array.tobytes() == functools.reduce(np.add, arrays).tobytes(), (dtype, count)


def a_sum_leaves_what_is_beside_the_array(group):
    array = np.arange(30, dtype=np.float32)
    group.sum(array[10:20])
    assert array.tolist() == [*range(10), *(each * group.size for each in range(10, 20)), *range(20, 30)]


def broadcasts(group):
    for dtype in (np.float32, np.float64):
        for count in (0, 1, 300_007):
            arrays = terms(group.size, count, dtype)
            array = arrays[group.rank].copy()
            group.broadcast(array)
            assert array.tobytes() == arrays[0].tobytes()


def values(group):
    state = {"iter": 3, "losses": [0.1, group.rank], "text": "ä" * 100_000}
    gathered = group.gather(state)
    assert [each["losses"][1] for each in gathered] == (list(range(group.size)) if group.root else [])
    assert group.share(state if group.root else None)["losses"] == [0.1, 0]
    assert group.gather_bytes(b"") == ([b""] * group.size if group.root else [])
    assert group.share_bytes(b"\0\xff" if group.root else b"") == b"\0\xff"


def duplicates_are_independent(group):
    """Another thread uses the duplicate, in another order of calls."""
    results = []

    def work(other):
        array = np.ones(50_000, np.float32)
        for _ in range(20):
            other.sum(array)
            array /= other.size
        results.append((other.share("second"), array.tolist()))

    with closing(group.duplicate()) as other:
        thread = threading.Thread(target=work, args=(other,))
        thread.start()
        firsts = [group.share(i) for i in range(50)]
        thread.join()
    assert firsts == list(range(50)) and results == [("second", [1.0] * 50_000)]


def other_sizes_are_an_error_at_all_ranks(group):
    differ(group, lambda other: other.sum(np.ones(10 + 2 * group.rank, np.float32)),
           "rank 0 at a sum of 10 float32 numbers, rank 1 at a sum of 12 float32 numbers")  # fmt: skip


def other_types_are_an_error_at_all_ranks(group):
    differ(group, lambda other: other.broadcast(np.ones(10, np.float32 if group.root else np.float64)),
           "rank 0 at a broadcast of 10 float32 numbers, rank 1 at a broadcast of 10 float64 numbers")  # fmt: skip


def other_calls_are_an_error_at_all_ranks(group):
    def work(other):
        if group.rank == 1:
            other.gather(0)
        other.share(0)

    differ(group, work, "rank 0 at a share of values, rank 1 at a gather of values")


def calls_that_wait_for_each_other_are_an_error(group):
    differ(group, lambda other: other.gather(0) if group.root else other.share(0),
           "rank 0 at a gather of values, rank 1 at a share of values")  # fmt: skip


def differ(group, work, message):
    """Check that `work`, with a duplicate of the group, raises ParallelError with `message` at all ranks."""
    if group.size == 1:
        return
    with closing(group.duplicate()) as other:
        try:
            work(other)
        except ParallelError as error:
            assert message in str(error), error
        else:
            raise AssertionError("no error")
        group.share()  # nobody closes before all have raised


class closing:
    """A context manager that closes a group at the end."""

    def __init__(self, group):
        self.group = group

    def __enter__(self):
        return self.group

    def __exit__(self, *error):
        self.group.close()


def a_closed_group_is_an_error(group):
    other = group.duplicate()
    group.share()
    other.close()
    other.close()
    if group.size > 1:
        try:
            other.sum(np.ones(1))
        except ParallelError:
            return
        raise AssertionError("no error")


BODIES = [
    sums_have_the_bits_of_the_sum_in_order,
    a_sum_leaves_what_is_beside_the_array,
    broadcasts,
    values,
    duplicates_are_independent,
    other_sizes_are_an_error_at_all_ranks,
    other_types_are_an_error_at_all_ranks,
    other_calls_are_an_error_at_all_ranks,
    calls_that_wait_for_each_other_are_an_error,
    a_closed_group_is_an_error,
]


if __name__ == "__main__":
    mpi._PART = 1 << 18  # several parts of a small array
    world = MpiGroup()
    for body in BODIES:
        body(world)
    done = world.gather(len(BODIES))
    if world.root:
        print(done)
