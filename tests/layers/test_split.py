"""Split."""

import numpy as np

from minicaffe.testing import Case, LayerProperties, run_layer


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'Split'", [(2, 3)], num_top=1),
        Case("type: 'Split'", [(2, 3)], num_top=2),
        Case("type: 'Split'", [(2, 3)], num_top=4),
    ]


def test_tops_share_the_data_and_not_the_diff():
    layer, bottom, top = run_layer("type: 'Split'", [1.0, 2.0], num_top=3)
    bottom[0].data[...] = 7
    assert all((t.data == 7).all() for t in top)
    for i, t in enumerate(top):
        t.diff[...] = 10**i
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, [111, 111])
