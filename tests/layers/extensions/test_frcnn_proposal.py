"""FrcnnProposal, by plain loops, and what its JSON file may hold."""

import json

import numpy as np
import pytest

from helpers import proposals
from minicaffe.errors import DataError, LayerError
from minicaffe.testing import assert_close, run_layer

ANCHORS = [[-8, -8, 23, 23], [-16, -4, 31, 19]]
CONFIG = {
    "feat_stride": "16", "rpn_nms_thresh": "0.7", "rpn_pre_nms_top_n": "30", "rpn_post_nms_top_n": "9",
    "rpn_min_size": "6", "test_rpn_nms_thresh": "0.4", "test_rpn_pre_nms_top_n": "20", "test_rpn_post_nms_top_n": "5",
    "test_rpn_min_size": "10", "anchors": ",\n ".join(str(number) for anchor in ANCHORS for number in anchor),
}  # fmt: skip
SHAPES = [(1, 4, 3, 4), (1, 8, 3, 4), (1, 3)]


def frcnn(path, more=""):
    return f"type: 'FrcnnProposal' window_data_param {{ config: '{path}' }} {more}"


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG).replace("\\n", "\n"))  # the fork's files have line breaks inside texts
    return path


@pytest.mark.parametrize("phase", [0, 1])
def test_proposals(config, phase, engine):
    rng = np.random.default_rng(phase)
    scores, codes, info = rng.random(SHAPES[0]), 0.3 * rng.standard_normal(SHAPES[1]), np.array([[45.0, 60, 1.5]])
    _, _, (rois, kept) = run_layer(frcnn(config), scores, codes, info, num_top=2, phase=phase, dtype=np.float32)
    least, *limits = ((6 * 1.5, 30, 9, 0.7), (10 * 1.5, 20, 5, 0.4))[phase]
    found = [
        (score, box)
        for score, box, _ in proposals.candidates(ANCHORS, scores[0], codes[0], (45, 60), 16)
        if proposals.is_large(box, least, least)
    ]
    expected = [[0, *box, score] for score, box in proposals.proposals(found, *limits)]
    assert rois.shape == (len(expected), 5, 1, 1) and kept.shape == (len(expected), 1, 1, 1)
    assert_close(np.column_stack([rois.data[..., 0, 0], kept.data[:, 0, 0, 0]]), expected, rtol=1e-4)


def test_the_prototxt_may_give_the_stride(config):
    rng = np.random.default_rng(0)
    values = rng.random(SHAPES[0]), 0 * rng.random(SHAPES[1]), np.array([[45.0, 60, 1]])
    other = frcnn(config, "proposal_param { feat_stride: 8 }")
    tops = [run_layer(text, *values)[2][0].data for text in (frcnn(config), other)]
    assert tops[1][:, 1:].max() < tops[0][:, 1:].max()


def test_a_net_without_the_file_is_an_error_that_says_where_it_goes():
    with pytest.raises(
        LayerError, match=r'makefile/frcnn\'s .* in this layer, window_data_param \{ config: "FILE" \}$'
    ):
        run_layer("type: 'FrcnnProposal'", *(np.ones(shape) for shape in SHAPES))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "config .* is no JSON: "),
        ("[]", "must have one object with the settings, got list"),
        (json.dumps(CONFIG | {"anchors": "1, 2, x, 4"}), "must give 'anchors' as numbers, got '1, 2, x, 4'"),
        (json.dumps(CONFIG | {"anchors": "1, 2, 3"}), "must give 'anchors' as finite numbers, four for each anchor"),
        (json.dumps({"feat_stride": "16 16"}), "must give 'feat_stride' as numbers, got '16 16'"),
        (json.dumps({"feat_stride": "16, 16"}), "must give one number as 'feat_stride', got 2"),
    ],
)
def test_files_that_are_wrong(tmp_path, text, words):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        run_layer(frcnn(path), *(np.ones(shape) for shape in SHAPES))
