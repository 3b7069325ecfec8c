"""Nms, by plain loops."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, normal, top_of


def nms(text="num_parts: 2 max_peaks: 4"):
    return f"type: 'Nms' nms_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [Case(nms(), [(2, 3, 7, 8)], normal, gradient=())]


def by_loops(scores, parts, most, threshold):
    out = np.zeros((len(scores), parts, most + 1, 3))
    for n, c in np.ndindex(len(scores), parts):
        own, found = scores[n, c], 0
        for y in range(1, own.shape[0] - 1):
            for x in range(1, own.shape[1] - 1):
                around = [own[y + i, x + j] for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
                if own[y, x] <= threshold or own[y, x] <= max(around):
                    continue
                found += 1
                if found <= most:
                    total = np.zeros(3)
                    for i in range(max(1, y - 3), min(own.shape[0], y + 4)):
                        for j in range(max(1, x - 3), min(own.shape[1], x + 4)):
                            total += np.array([j, i, 1]) * max(own[i, j], 0)
                    out[n, c, found] = *(total[:2] / total[2]), own[y, x]
        out[n, c, 0, 0] = found
    return out


@pytest.mark.parametrize(("most", "threshold"), [(20, 0.5), (3, -1), (5, 1.2)])
def test_against_a_loop(engine, most, threshold):
    scores = np.random.default_rng(0).standard_normal((2, 4, 11, 9))
    y = top_of(nms(f"num_parts: 3 max_peaks: {most} threshold: {threshold}"), scores, dtype=np.float32)
    assert_close(y, by_loops(scores.astype(np.float32), 3, most, threshold))


def test_a_blob_is_found_between_pixels():
    rows, columns = np.indices((12, 14))
    scores = np.exp(-((rows - 5.3) ** 2 + (columns - 7.6) ** 2) / 2)
    y = top_of(nms("num_parts: 1"), scores[None, None])[0, 0]
    assert y[0, 0] == 1
    np.testing.assert_allclose(y[1], [7.6, 5.3, scores[5, 8]], atol=0.05)


@pytest.mark.parametrize("shape", [(1, 1, 2, 5), (1, 1, 1, 1)])
def test_maps_without_an_inner_place_have_no_peak(shape):
    assert not top_of(nms("num_parts: 1"), np.ones(shape)).any()


def test_errors_name_the_layer():
    with pytest.raises(
        LayerError, match=r"^Nms layer 'layer': bottom 0 must be \(N, C, H, W\) with 2 channels \(num_parts"
    ):
        top_of(nms(), np.zeros((1, 1, 4, 4)))
