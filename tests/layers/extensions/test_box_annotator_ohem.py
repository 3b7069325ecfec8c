"""BoxAnnotatorOHEM."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, run_layer


def annotator(text="roi_per_img: 2"):
    return f"type: 'BoxAnnotatorOHEM' box_annotator_ohem_param {{ {text} }}"


def rois(rng, shape):
    return np.concatenate([rng.integers(0, 3, (shape[0], 1)), rng.uniform(0, 9, (shape[0], 4))], 1).reshape(shape)


class TestProperties(LayerProperties):
    cases = [
        Case(annotator(), [(7, 5), (7, 1), (7,), (7, 8)], [rois] + [np.random.Generator.random] * 3, (), num_top=2),
        Case(
            annotator("roi_per_img: 5 ignore_label: 9"),
            [(6, 5, 1, 1), (6, 1, 2, 3), (6, 1, 2, 3), (6, 4, 2, 3)],
            [rois] + [np.random.Generator.random] * 3,
            gradient=(),
            num_top=2,
        ),
    ]


def annotated(text, *bottoms):
    return tuple(blob.data for blob in run_layer(annotator(text), *bottoms, num_top=2, dtype=np.float32)[2])


def regions_of(images):
    return np.array([[image, 0, 0, 5, 5] for image in images], float)


def test_the_largest_loss_of_each_image_keeps_its_label(engine):
    bottoms = regions_of([0, 0, 1, 1]), np.array([1, 3, 2, 5]), np.array([4, 5, 6, 7]), np.arange(1, 9).reshape(4, 2)
    labels, weights = annotated("roi_per_img: 1", *bottoms)
    assert labels.tolist() == [-1, 5, -1, 7]
    assert weights.tolist() == [[0, 0], [3, 4], [0, 0], [7, 8]]


@pytest.mark.parametrize("seed", range(20))
def test_against_a_loop(engine, seed):
    """Down all positions by loss, each image takes its first ones; losses repeat, images have fewer than are kept."""
    rng = np.random.default_rng(seed)
    regions, channels, height, width, most = (int(v) for v in rng.integers(1, [12, 4, 4, 4, 9]))
    images = rng.integers(0, 4, regions)
    losses = rng.integers(0, 6, (regions, 1, height, width)) / 4
    labels = rng.integers(0, 5, losses.shape)
    weights = rng.random((regions, channels, height, width)).astype(np.float32)
    expected_labels, expected_weights = np.full(losses.shape, -7), np.zeros_like(weights)
    counts = {image: 0 for image in images}
    for at in sorted(range(losses.size), key=lambda i: -losses.flat[i]):
        r, _, h, w = np.unravel_index(at, losses.shape)
        if counts[images[r]] < most:
            counts[images[r]] += 1
            expected_labels[r, 0, h, w], expected_weights[r, :, h, w] = labels[r, 0, h, w], weights[r, :, h, w]
    bottoms = regions_of(images), losses, labels, weights
    got_labels, got_weights = annotated(f"roi_per_img: {most} ignore_label: -7", *bottoms)
    np.testing.assert_array_equal(got_labels, expected_labels)
    np.testing.assert_array_equal(got_weights, expected_weights)


def test_a_loss_that_is_nan_is_the_least(engine):
    bottoms = regions_of([0, 0, 0]), np.array([np.nan, 1, 2]), np.array([4, 5, 6]), np.ones((3, 1))
    assert annotated("roi_per_img: 2", *bottoms)[0].tolist() == [-1, 5, 6]


def test_no_regions(engine):
    labels, weights = annotated("roi_per_img: 2", *map(np.zeros, [(0, 5), (0, 1), (0,), (0, 4)]))
    assert labels.shape == (0,) and weights.shape == (0, 4)


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        ("", [(2, 5), (2,), (2,), (2, 4)], "roi_per_img must be at least 1"),
        ("roi_per_img: 1", [(2, 4), (2,), (2,), (2, 4)], r"bottom 0 must be regions \(R, 5\), got \(2, 4\)"),
        ("roi_per_img: 1", [(2, 5), (2,), (3,), (2, 4)], "bottoms 1 and 2 must be a loss and a label for each"),
        ("roi_per_img: 1", [(2, 5), (3,), (3,), (3, 4)], "each position of 2 regions"),
        ("roi_per_img: 1", [(2, 5), (2, 1, 3), (2, 3), (2, 4)], r"bottom 3 must be \(R, C, ...\) with the positions"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^BoxAnnotatorOHEM layer 'layer': .*{words}"):
        build_layer(annotator(text), *(np.zeros(shape) for shape in shapes), num_top=2)
