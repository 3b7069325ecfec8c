"""BboxAccuracy, by plain loops."""

import numpy as np
import pytest

from helpers.pixel_scenes import decoded, iou, near, random_boxes, with_images
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, run_layer

STD = [0.1, 0.1, 0.2, 0.2]


def accuracy(aware=True):
    numbers = " ".join(f"bbox_mean: 0 bbox_std: {s}" for s in STD)
    return f"type: 'BboxAccuracy' bbox_reg_param {{ {numbers} cls_aware: {str(aware).lower()} }}"


def scene(columns=16, count=15):
    rng = np.random.default_rng(0)
    boxes, labels = random_boxes(rng, count), rng.integers(0, 4, count)
    regions = with_images(rng, near(rng, boxes, count), 2)
    overlaps = [iou(region[1:], box) for region, box in zip(regions, boxes)]
    overlaps[4] = 0.98
    return rng.standard_normal((count, columns)), regions, np.column_stack([labels, boxes, overlaps])


class TestProperties(LayerProperties):
    cases = [
        Case(accuracy(aware), [(15, columns), (15, 5), (15, 6)],
             [lambda rng, shape, i=i, columns=columns: scene(columns)[i] for i in range(3)], (), num_top=2)
        for aware, columns in ((True, 16), (False, 8))
    ]  # fmt: skip


@pytest.mark.parametrize(("aware", "columns"), [(True, 16), (False, 8)])
def test_against_a_loop(engine, aware, columns):
    codes, regions, boxes = scene(columns)
    after, before = [], []
    for i, (label, *box, overlap) in enumerate(boxes):
        if label > 0 and overlap <= 0.975:
            place = 4 * (int(label) if aware else 1)
            after.append(iou(decoded(codes[i, place : place + 4] * STD, regions[i, 1:]), box))
            before.append(iou(regions[i, 1:], box))
    assert 5 < len(after) < 15
    _, _, top = run_layer(accuracy(aware), codes, regions, boxes, num_top=2, dtype=np.float32)
    np.testing.assert_allclose([blob.data for blob in top], [np.mean(after), np.mean(before)], rtol=1e-4)


def test_without_objects(engine):
    codes, regions, boxes = scene()
    boxes[:, 0] = 0
    _, _, top = run_layer(accuracy(), codes, regions, boxes, num_top=2, dtype=np.float32)
    assert [blob.data for blob in top] == [-1, -1]
    _, _, top = run_layer(accuracy(), *(each[:0] for each in (codes, regions, boxes)), num_top=2, dtype=np.float32)
    assert [blob.data for blob in top] == [-1, -1]


def test_errors_name_the_layer():
    with pytest.raises(LayerError, match=r"^BboxAccuracy layer 'layer': bottoms must be codes \(R, 4 K\), regions"):
        build_layer(accuracy(), np.zeros((2, 6)), np.zeros((2, 5)), np.zeros((2, 6)))
    codes, regions, boxes = scene(8)
    with pytest.raises(LayerError, match="label 3 is out of range: bottom 0 has 2 classes"):
        run_layer(accuracy(), codes, regions, boxes)
