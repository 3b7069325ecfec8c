"""Which places of an axis the elements of a kernel meet."""

import itertools

from minicaffe.layers.shared.window import overlaps


def test_against_every_place_of_every_window():
    for size, output, kernel, stride, pad, dilation in itertools.product(
        (1, 4, 5), (1, 3, 6), (1, 2, 5), (1, 2, 3), (0, 1, 4), (1, 2)
    ):
        expected = {}
        for j, t in itertools.product(range(kernel), range(output)):
            place = t * stride + j * dilation - pad
            if 0 <= place < size:
                expected.setdefault(j, []).append((t, place))
        found = {
            j: list(zip(range(output)[windows], range(size)[places]))
            for j, windows, places in overlaps(size, output, kernel, stride, pad, dilation)
        }
        assert found == expected


def test_a_kernel_that_is_larger_than_any_axis():
    assert len(list(overlaps(3, 3, 2**31 - 1, 1, 2**30 - 1))) == 5
