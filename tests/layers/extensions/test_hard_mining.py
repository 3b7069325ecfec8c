"""HardMining, by plain loops."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, run_layer


def mining(each=3, images=2):
    return f"type: 'HardMining' hard_mining_param {{ num_roi_per_image: {each} num_image: {images} }}"


def regions(rng, shape, images=2):
    return np.column_stack([rng.integers(0, images, shape[0]), rng.random((shape[0], 4))]).reshape(shape)


class TestProperties(LayerProperties):
    cases = [
        Case(mining(), [(9, 1), (9, 5), (9, 2, 3)], [np.random.Generator.random, regions, np.random.Generator.random],
             (), num_top=2),
        Case(mining(20), [(9,), (9, 5, 1, 1)], [np.random.Generator.random, regions], ()),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_against_a_loop(engine, seed):
    """Scores repeat; the best of each image, then the best of all others."""
    rng = np.random.default_rng(seed)
    count, each, images = (int(v) for v in rng.integers(1, [20, 6, 5]))
    scores, rois = rng.integers(0, 5, count) / 4, regions(rng, (count, 5), images)
    labels = np.arange(count, dtype=float)
    best, taken, counts = sorted(range(count), key=lambda i: (-scores[i], -i)), [], [0] * images
    for i in best:
        if counts[int(rois[i, 0])] < each:
            counts[int(rois[i, 0])] += 1
            taken.append(i)
    taken += [i for i in best if i not in taken]
    expected = sorted(taken[: min(count, each * images)])
    _, _, top = run_layer(mining(each, images), scores, rois, labels, num_top=2, dtype=np.float32)
    np.testing.assert_array_equal(top[1].data, expected)
    np.testing.assert_array_equal(top[0].data, rois[expected].astype(np.float32))


def test_errors_name_the_layer():
    scores, rois = np.zeros(2), np.array([[0, 0, 0, 1, 1], [2, 0, 0, 1, 1.0]])
    with pytest.raises(
        LayerError, match=r"^HardMining layer 'layer': regions must be of images 0 to 1, got \[0.0, 2.0\]"
    ):
        run_layer(mining(), scores, rois)
    with pytest.raises(LayerError, match="must have a top for each bottom but the first, got 2 bottoms, 2 tops"):
        build_layer(mining(), scores, rois, num_top=2)
    with pytest.raises(LayerError, match=r"bottom 1 must be regions \(R, 5\), got \(2, 4\)"):
        build_layer(mining(), scores, rois[:, :4])
    with pytest.raises(LayerError, match="num_roi_per_image and num_image must be at least 1"):
        build_layer(mining(0), scores, rois)
