"""Warp, of both forks, and what it shares with FlowWarp."""

import numpy as np
import pytest

from helpers.flow_loops import sampled
from minicaffe.core.net import Net
from minicaffe.errors import LayerError
from minicaffe.proto import caffe_pb2, convert, parse_text, upgrade_net
from minicaffe.testing import Case, LayerProperties, assert_close, normal, run_layer, top_of

WARP = "type: 'Warp'"
ABSOLUTE = "type: 'Warp' warp_param { absolute: true }"
SHAPES = [(2, 3, 4, 5), (2, 2, 4, 5)]


def between(rng, shape):
    """Displacements that end between places, some of them outside."""
    return rng.integers(-3, 3, shape) + rng.uniform(0.2, 0.8, shape)


def positions(rng, shape):
    return between(rng, shape) + 2


def to_one_place(rng, shape):
    """The flow that takes each place to (1.5, 2.25)."""
    rows, columns = np.indices(shape[2:])
    return np.broadcast_to(np.stack([2.25 - columns, 1.5 - rows]), shape)


class TestProperties(LayerProperties):
    cases = [
        Case(WARP, SHAPES, [normal, between]),
        Case(WARP, [(1, 2, 5, 7), (1, 2, 5, 7)], [normal, to_one_place]),
        Case(
            WARP, [(1, 2, 1, 40), (1, 2, 1, 40)], [normal, lambda rng, shape: 0.5 * between(rng, shape)], gradient=[0]
        ),
        Case(ABSOLUTE, SHAPES, [normal, positions]),
    ]


@pytest.mark.parametrize(("text", "border"), [(WARP, "inside"), (ABSOLUTE, "zeros")])
def test_against_loops(text, border, engine):
    rng = np.random.default_rng(0)
    x, flow = rng.standard_normal(SHAPES[0]), between(rng, SHAPES[1])
    flow[0, :, 0, 0], flow[0, :, 1, 1], flow[1, :, 1, 1] = (4, 3), (3, 2), (0, 0)  # the last corner; whole positions
    flow[1, :, 2, 2] = np.nan
    bottom1 = flow + np.indices(SHAPES[0][2:])[::-1] if border == "zeros" else flow
    expected = np.empty_like(x)
    for n, c, h, w in np.ndindex(x.shape):
        u, v = flow[n, :, h, w]
        value = None if np.isnan(u) else sampled(x[n, c], h + v, w + u, border)
        expected[n, c, h, w] = 0 if value is None else value
    assert_close(top_of(text, x, bottom1, dtype=np.float32), expected)


def gradients(text, x, flow, dy):
    layer, bottom, top = run_layer(text, x, flow, dtype=np.float32)
    top[0].diff[...] = dy
    layer.backward(top, [True, True], bottom)
    return [blob.diff.copy() for blob in bottom]


def test_the_slope_at_whole_positions_is_the_mean_of_both_sides(engine):
    x = np.array([1.0, 3, 9])[None, None, None]
    _, diff = gradients(WARP, x, np.zeros((1, 2, 1, 3)), 1)
    assert_close(diff[0], [[[1, 4, 3]], [[0, 0, 0]]])  # at the ends half of the only slope


def test_many_places_that_read_one(engine):
    """All of the gradient arrives, in the order of the places."""
    shape = (1, 1, 20, 30)
    flow = to_one_place(None, (1, 2, 20, 30))
    dy = np.random.default_rng(0).standard_normal(shape)
    diff, _ = gradients(WARP, np.zeros(shape), flow, dy)
    expected = np.zeros(shape)
    expected[0, 0, 1:3, 2:4] = dy.sum() * np.outer([0.5, 0.5], [0.75, 0.25])
    assert_close(diff, expected, rtol=1e-3)
    np.testing.assert_array_equal(diff, gradients(WARP, np.zeros(shape), flow, dy)[0])


def test_values_that_no_place_reads_are_of_no_effect(engine):
    """An infinite number at the first place does not spread to places outside of the picture."""
    x = np.ones((1, 1, 3, 3))
    x[..., 0, 0] = np.inf
    y = top_of(WARP, x, np.full((1, 2, 3, 3), -9.0), dtype=np.float32)
    np.testing.assert_array_equal(y, 0)


# -- the two forks -----------------------------------------------------------------------------------------------------

LITE = """
layer { name: 'in' type: 'Input' top: 'x' top: 'flow' input_param { shape { dim: [1, 2, 4, 5] } } }
layer { name: 'grid' type: 'Grid' bottom: 'flow' top: 'grid' propagate_down: false }
layer { name: 'at' type: 'Eltwise' bottom: 'flow' bottom: 'grid' top: 'at' }
layer { name: 'warp' type: 'Warp' bottom: 'x' bottom: 'at' top: 'y' }
"""


def test_beside_a_grid_bottom_1_has_positions(engine):
    net = Net(upgrade_net(parse_text(LITE + "force_backward: true", caffe_pb2.NetParameter())), phase=1)
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 5))
    y = net.forward(x=x, flow=np.zeros((1, 2, 4, 5)))["y"]
    assert_close(y, x)
    net.blobs["y"].diff[...] = 1
    net.backward()
    assert_close(net.blobs["x"].diff, np.ones_like(x))


def test_what_is_written_for_the_fork_has_no_mark():
    net = upgrade_net(parse_text(LITE, caffe_pb2.NetParameter()))
    assert net.layer[-1].warp_param.absolute
    convert.clear_marks(net)
    assert net == parse_text(LITE, caffe_pb2.NetParameter())


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([(2, 3, 4), (2, 2, 4)], r"bottom 0 must be \(N, C, H, W\), got \(2, 3, 4\)"),
        ([(2, 3, 4, 5), (2, 3, 4, 5)], r"bottom 1 must be \(N, 2, H, W\), here \(2, 2, 4, 5\), got \(2, 3, 4, 5\)"),
    ],
)
def test_errors_name_the_layer(shapes, words):
    with pytest.raises(LayerError, match=f"^Warp layer 'layer': {words}"):
        top_of(WARP, *map(np.zeros, shapes))
