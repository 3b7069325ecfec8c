"""InnerDistance, by plain loops."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, distinct, labels, normal, run_layer


def distance(text=""):
    return f"type: 'InnerDistance' inner_distance_param {{ weight_filler {{ type: 'gaussian' std: 1 }} {text} }}"


L1 = "distance_type: 'L1' "


class TestProperties(LayerProperties):
    cases = [
        Case(distance("num_output: 4"), [(3, 2, 3)]),
        Case(distance(L1 + "num_output: 3"), [(3, 4)]),
        Case(distance("axis: 2"), [(2, 3, 4), (5, 2, 2)]),
        Case(distance(L1), [(3, 4), (2, 4)], distinct),
        Case(distance("num_output: 20"), [(18, 33)], options={"most": 10}),
        Case(distance("num_output: 4 normalize: true"), [(3, 5)], params=False),
        Case(distance("num_output: 4 update_center_only: true"), [(6, 3), (6,)], [normal, labels(4)],
             gradient=[0], params=False),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["L1", "L2"])
@pytest.mark.parametrize("center_only", [False, True])
@pytest.mark.parametrize("stored", [False, True])
def test_against_a_loop(kind, center_only, stored, engine):
    rng = np.random.default_rng(0)
    x, w, t = rng.standard_normal((6, 3)), rng.standard_normal((4, 3)), rng.integers(0, 4, 6)
    dy = rng.standard_normal((6, 4))
    text = distance(f"distance_type: '{kind}' update_center_only: {str(center_only).lower()} num_output: 4")
    inputs = [x, *([] if stored else [w]), *([t] if center_only else [])]
    layer, bottom, top = build_layer(text, *inputs, dtype=np.float32)
    weights = layer.blobs[0] if stored else bottom[1]
    weights.data[...] = w
    layer.forward(bottom, top)
    top[0].diff[...] = dy
    weights.diff[...] = 5
    layer.backward(top, [i < 1 + (not stored) for i in range(len(bottom))], bottom)
    y, dx, dw = np.zeros((6, 4)), np.zeros_like(x), np.full_like(w, 5 if stored else 0)
    for m in range(6):
        for n in range(4):
            d = x[m] - w[n]
            y[m, n] = np.abs(d).sum() if kind == "L1" else (d * d).sum()
            slope = np.sign(d) if kind == "L1" else 2 * d
            dx[m] += dy[m, n] * slope
            if not center_only or t[m] == n:
                dw[n] -= dy[m, n] * slope
    assert_close(top[0].data, y)
    assert_close(bottom[0].diff, dx)
    assert_close(weights.diff, dw)


def test_normalize_changes_the_stored_rows(engine):
    layer, bottom, top = run_layer(distance("num_output: 4 normalize: true"), np.zeros((2, 5)), dtype=np.float32)
    assert_close(np.square(layer.blobs[0].data).sum(1), np.ones(4))
    assert_close(top[0].data, np.ones((2, 4)))


@pytest.mark.parametrize(
    ("text", "shapes", "sentence"),
    [
        ("", [(2, 3)], "there must be vectors and numbers in them, got 0 and 3"),
        ("num_output: 2 transpose: true", [(2, 3)], "transpose must be false"),
        ("num_output: 2 distance_type: 'L3'", [(2, 3)], 'distance_type must be "L1" or "L2", got "L3"'),
        ("", [(2, 3), (4, 5)], r"bottom 1, the vectors, must hold 12 numbers, got \(4, 5\)"),
        ("", [(2, 3), (4, 3), (2,)], "bottoms are x, optionally the vectors, and with update_center_only the labels"),
        ("update_center_only: true", [(2, 3), (4, 3), (3,)], r"bottom 2, the labels, must hold 2 numbers, got \(3,\)"),
    ],
)
def test_what_is_refused(text, shapes, sentence):
    with pytest.raises(LayerError, match="^InnerDistance layer 'layer': " + sentence):
        run_layer(distance(text), *(np.zeros(shape) for shape in shapes))
