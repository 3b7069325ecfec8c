"""Proposal, by plain loops."""

import numpy as np
import pytest

from helpers import proposals
from minicaffe.errors import LayerError
from minicaffe.layers.shared.anchors import as_map, by_anchor, make_anchors
from minicaffe.testing import Case, LayerProperties, assert_close, positive, run_layer

RATIOS, SCALES = (0.5, 1, 2), (1, 2)


def proposal(text="pre_nms_topn: 40 post_nms_topn: 8 nms_thresh: 0.5 min_size: 8"):
    anchors = "".join(f"ratio: {ratio} " for ratio in RATIOS) + "".join(f"scale: {scale} " for scale in SCALES)
    return f"type: 'Proposal' proposal_param {{ {anchors} {text} }}"


def codes(rng, shape):
    return 0.3 * rng.standard_normal(shape)


def info(rng=None, shape=(1, 4)):
    return np.tile([60.0, 75.0, 1.5, 1.25], (shape[0], 1))


class TestProperties(LayerProperties):
    cases = [
        Case(proposal(), [(1, 12, 4, 5), (1, 24, 4, 5), (1, 4)], [positive, codes, info], gradient=()),
        Case(proposal(), [(2, 12, 3, 3), (2, 24, 3, 3), (2, 4)], [positive, codes, info], gradient=(), num_top=2),
    ]


def test_anchors_of_faster_rcnn():
    """The numbers in the comment of py-faster-rcnn's generate_anchors.py, which count pixels from 1, less 1."""
    assert make_anchors().tolist() == [
        [-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199],
        [-56, -56, 71, 71], [-120, -120, 135, 135], [-248, -248, 263, 263],
        [-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359],
    ]  # fmt: skip


def test_anchors_by_loops():
    rng = np.random.default_rng(0)
    for _ in range(20):
        ratios, scales = rng.uniform(0.2, 5, 3), rng.uniform(0.5, 9, 4)
        base = int(rng.integers(4, 40))
        assert_close(make_anchors(base, ratios, scales), proposals.anchors(ratios, scales, base), rtol=1e-12)


def test_maps_and_rows_of_anchors_are_inverse():
    values = np.arange(5.0 * 3 * 2 * 4).reshape(20, 3, 2)
    rows = by_anchor(values, 5)
    assert rows[(2 * 2 + 1) * 5 + 3].tolist() == values[12:16, 2, 1].tolist()
    assert (as_map(rows, 3, 2) == values).all()


@pytest.mark.parametrize("seed", range(6))
def test_proposals(seed):
    rng = np.random.default_rng(seed)
    scores, deltas = rng.random((2, 12, 4, 5)), codes(rng, (2, 24, 4, 5))
    _, _, (rois, kept_scores) = run_layer(proposal(), scores, deltas, info(), num_top=2)
    expected, (height, width, scale_h, scale_w) = [], info()[0]
    for n in range(2):
        found = [
            (score * proposals.is_large(box, 8 * scale_w, 8 * scale_h), box)
            for score, box, _ in proposals.candidates(
                proposals.anchors(RATIOS, SCALES), scores[n], deltas[n], (height, width), 16
            )
        ]
        expected += [[n, *box, score] for score, box in proposals.proposals(found, 40, 8, 0.5)]
    assert_close(np.column_stack([rois.data, kept_scores.data]), expected, rtol=1e-9)


def test_what_follows_in_im_info_is_not_read():
    """PVANET's own scripts give the two scales twice."""
    rng = np.random.default_rng(0)
    scores, deltas = rng.random((1, 12, 4, 5)), codes(rng, (1, 24, 4, 5))
    four, six = (
        run_layer(proposal(), scores, deltas, np.append(info(), more)[None])[2][0].data for more in ([], [9.0, 7.0])
    )
    np.testing.assert_array_equal(six, four)
    assert len(four) == 8


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        (
            "type: 'Proposal'",
            [(1, 12, 2, 2), (1, 24, 2, 2), (1, 4)],
            r"proposal_param must give ratio, above 0, got \[\]",
        ),
        (proposal("feat_stride: 0"), [(1, 12, 2, 2), (1, 24, 2, 2), (1, 4)], "feat_stride and base_size must not be 0"),
        (proposal(), [(1, 10, 2, 2), (1, 24, 2, 2), (1, 4)], r"bottom 0 must be \(1, 12, H, W\), of 6 anchors"),
        (proposal(), [(1, 12, 2, 2), (1, 24, 2, 3), (1, 4)], r"bottom 1 must be \(1, 24, H, W\), of 6 anchors"),
        (proposal(), [(1, 12, 2, 2), (1, 24, 2, 2), (1, 3)], r"bottom 2 must be im_info \(1, 4\): height, width"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^Proposal layer 'layer': {words}"):
        run_layer(text, *(np.ones(shape) for shape in shapes))
