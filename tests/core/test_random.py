"""Random streams are reproducible, independent and resumable."""

import json

import numpy as np

from minicaffe.core import random
from minicaffe.core.random import Stream


def test_the_same_key_gives_the_same_numbers_and_others_do_not():
    np.testing.assert_array_equal(Stream(1, 2).uniform_u32(100), Stream(1, 2).uniform_u32(100))
    assert (Stream(1, 2).uniform_u32(100) != Stream(1, 3).uniform_u32(100)).any()


def test_state_goes_through_json_and_continues():
    stream = Stream(7)
    stream.generator().standard_normal(3)
    stream.uniform_u32(5)
    stream.generator().integers(0, 10, 3, dtype=np.uint32)
    state = json.loads(json.dumps(stream.get_state()))
    expected = stream.generator().random(4), stream.uniform_u32(9)
    other = Stream(0)
    other.set_state(state)
    np.testing.assert_array_equal(other.generator().random(4), expected[0])
    np.testing.assert_array_equal(other.uniform_u32(9), expected[1])


def test_draws_take_whole_blocks_whatever_was_left_over():
    a, b = Stream(3), Stream(3)
    a.uniform_u32(5)
    b.take_blocks(5)
    np.testing.assert_array_equal(a.uniform_u32(8), b.uniform_u32(8))
    a.generator().random()
    b.generator().random()
    a.uniform_u32(1)
    b.take_blocks(1)
    np.testing.assert_array_equal(a.uniform_u32(8), b.uniform_u32(8))


def test_reserved_blocks_are_those_of_numpys_philox():
    """The counter for a kernel gives the numbers that the host would have drawn."""
    stream = Stream(3, 4)
    stream.uniform_u32(20)
    key, counter = stream.take_blocks(11)
    bits = np.random.Philox(key=key, counter=[counter - 1, 0, 0, 0])
    again = Stream(3, 4)
    again.uniform_u32(20)
    np.testing.assert_array_equal(bits.random_raw(8).view(np.uint32)[:11], again.uniform_u32(11))


def test_seeding_repeats_the_streams_of_a_process():
    random.set_random_seed(5)
    first = [random.new_stream().uniform_u32(4).tolist() for _ in range(3)]
    random.set_random_seed(5)
    assert [random.new_stream().uniform_u32(4).tolist() for _ in range(3)] == first
    assert len({tuple(f) for f in first}) == 3


def test_a_seeded_block_leaves_no_trace():
    random.set_random_seed(5)
    expected = [random.new_stream().uniform_u32(3) for _ in range(2)]
    random.set_random_seed(5)
    first = random.new_stream()
    with random.seeded(1):
        inside = random.new_stream()
    np.testing.assert_array_equal([each.uniform_u32(3) for each in (first, random.new_stream())], expected)
    random.set_random_seed(1)
    np.testing.assert_array_equal(inside.uniform_u32(3), random.new_stream().uniform_u32(3))
