"""Silence."""

from minicaffe.testing import Case, LayerProperties, run_layer


class TestProperties(LayerProperties):
    cases = [Case("type: 'Silence'", [(2, 3), (4,)], num_top=0)]


def test_diffs_are_cleared_where_they_are_wanted():
    layer, bottom, top = run_layer("type: 'Silence'", [1.0], [2.0], num_top=0)
    for blob in bottom:
        blob.diff[...] = 5
    layer.backward(top, [True, False], bottom)
    assert bottom[0].diff[0] == 0 and bottom[1].diff[0] == 5
