"""The Python layers of py-faster-rcnn that run where the user's modules are missing, by plain loops."""

import logging
import math
import sys

import numpy as np
import pytest

from helpers import proposals
from helpers.nets import net_from_text
from minicaffe.core import python_layers
from minicaffe.errors import LayerError
from minicaffe.layers.extensions.faster_rcnn.sampling import Sampling, by_class
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, positive, run_layer

SCALES = (1, 2)
SETTINGS = "'feat_stride': 16\\n'scales': [1, 2]\\n"
COUNT = 3 * len(SCALES)


def python(module, layer, text):
    return f"""type: 'Python' python_param {{ module: '{module}' layer: '{layer}' param_str: "{text}" }}"""


def proposal(more=""):
    return python("rpn.proposal_layer", "ProposalLayer", SETTINGS + more)


def anchor_target(more=""):
    return python("rpn.anchor_target_layer", "AnchorTargetLayer", SETTINGS + more)


def proposal_target(more="'batch_size': 8\\n", classes=4):
    return python("rpn.proposal_target_layer", "ProposalTargetLayer", f"'num_classes': {classes}\\n" + more)


def codes(rng, shape):
    return 0.3 * rng.standard_normal(shape)


def info(rng=None, shape=(1, 3)):
    return np.array([[60.0, 75.0, 1.5]])


def boxes(rng, shape):
    """Boxes (G, 5) with classes inside the image of `info`."""
    corner, size = rng.uniform(0, 35, (shape[0], 2)), rng.uniform(8, 24, (shape[0], 2))
    return np.column_stack([corner, corner + size, rng.integers(1, 4, shape[0])])


def regions(rng, shape):
    return np.roll(boxes(rng, shape), 1, 1) * [0, 1, 1, 1, 1]


class TestProperties(LayerProperties):
    test_in_place_is_the_same = test_layers_in_place_behind_change_nothing = None  # these classes refuse in place
    cases = [
        Case(proposal(), [(1, 12, 4, 5), (1, 24, 4, 5), (1, 3)], [positive, codes, info], gradient=(), num_top=2),
        Case(anchor_target(), [(1, 12, 4, 5), (3, 5), (1, 3)], [positive, boxes, info], gradient=(), num_top=4),
        Case(proposal_target(), [(20, 5), (3, 5)], [regions, boxes], gradient=(), num_top=5),
    ]


# -- proposals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [0, 1])
@pytest.mark.parametrize("normalized", [False, True])
def test_proposals(phase, normalized):
    rng = np.random.default_rng(phase)
    scores, deltas = rng.random((1, 12, 4, 5)), codes(rng, (1, 24, 4, 5))
    text = proposal(f"'rpn_min_size': 6\\n'rpn_pre_nms_top_n': 40\\n'rpn_post_nms_top_n': 9\\n'rpn_nms_thresh': 0.5\\n"
                    f"'rpn_normalize_targets': {normalized}")  # fmt: skip
    _, _, (rois, kept) = run_layer(text, scores, deltas, info(), num_top=2, phase=phase)
    first = proposals.anchors((0.5, 1, 2), SCALES)
    if normalized and phase == 0:
        deltas = deltas * np.tile([0.1, 0.1, 0.2, 0.2], COUNT)[:, None, None]
    found = [
        (score, box)
        for score, box, _ in proposals.candidates(first, scores[0], deltas[0], info()[0], 16)
        if proposals.is_large(box, 9, 9)
    ]
    expected = [[0, *box, score] for score, box in proposals.proposals(found, 40, 9, 0.5)]
    assert rois.shape == (len(expected), 5) and kept.shape == (len(expected), 1)
    assert_close(np.column_stack([rois.data, kept.data]), expected, rtol=1e-9)


def test_limits_of_the_two_phases():
    layer = [run_layer(proposal(), np.ones((1, 12, 1, 1)), np.zeros((1, 24, 1, 1)), info(), phase=p)[0] for p in (0, 1)]
    assert [each.user.limits for each in layer] == [(12000, 2000, 0.7), (6000, 300, 0.7)]


def test_no_box_is_large_enough():
    text = proposal("'rpn_min_size': 1000")
    _, _, (rois, scores) = run_layer(text, np.ones((1, 12, 2, 2)), np.zeros((1, 24, 2, 2)), info(), num_top=2)
    assert rois.shape == (0, 5) and scores.shape == (0, 1)


# -- targets of anchors ------------------------------------------------------------------------------------------------


def labels_by_loops(anchors, truth, image, border=0, negative=0.3, positive=0.7, clobber=False):
    """{index: label} of the anchors inside the image, before sampling, and {index: best box}."""
    inside = [
        i for i, (x1, y1, x2, y2) in enumerate(anchors)
        if min(x1, y1) >= -border and x2 < image[1] + border and y2 < image[0] + border
    ]  # fmt: skip
    shared = {i: [proposals.iou(anchors[i], box) for box in truth] for i in inside}
    best = {g: max(shared[i][g] for i in inside) for g in range(len(truth))}
    labels = {}
    for i in inside:
        background = max(shared[i]) < negative
        chosen = any(shared[i][g] == best[g] for g in best) or max(shared[i]) >= positive
        labels[i] = 0 if background and (clobber or not chosen) else 1 if chosen else -1
    return labels, {i: int(np.argmax(shared[i])) for i in inside}


def shifted(height, width):
    first = proposals.anchors((0.5, 1, 2), SCALES)
    return [
        [c + 16 * (j, i)[n % 2] for n, c in enumerate(anchor)] for i, j in np.ndindex(height, width) for anchor in first
    ]


def rows(blob, height, width):
    """The values of a top by place and anchor."""
    values = blob.data.reshape(COUNT, -1, height, width)
    return values.transpose(2, 3, 0, 1).reshape(height * width * COUNT, -1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("clobber", [False, True])
def test_labels_and_targets_of_anchors(seed, clobber):
    rng = np.random.default_rng(seed)
    truth, border = boxes(rng, (3, 5)), 4 * (seed % 2)
    text = anchor_target(f"'allowed_border': {border}\\n'rpn_clobber_positives': {clobber}\\n'rpn_batchsize': 1000")
    _, _, tops = run_layer(text, np.zeros((1, 12, 4, 5)), truth, info(), num_top=4)
    assert [blob.shape for blob in tops] == [(1, 1, COUNT * 4, 5), *[(1, 4 * COUNT, 4, 5)] * 3]
    found, targets, inside, outside = (rows(blob, 4, 5) for blob in tops)
    anchors = shifted(4, 5)
    labels, best = labels_by_loops(anchors, truth[:, :4], (60, 75), border, clobber=clobber)
    expected = np.array([labels.get(i, -1) for i in range(len(anchors))])
    np.testing.assert_array_equal(found[:, 0], expected)
    codes_of = [proposals.encode(a, truth[best[i]]) if i in best else [0] * 4 for i, a in enumerate(anchors)]
    assert_close(targets, codes_of, rtol=1e-5, atol=1e-6)
    assert_close(inside, np.repeat(expected[:, None] == 1, 4, 1).astype(float))
    each = 1 / np.count_nonzero(expected >= 0)
    assert_close(outside, np.repeat((expected[:, None] >= 0) * each, 4, 1), rtol=1e-6)


def test_sampling_of_anchors():
    """At most half of the batch are objects, the rest is background; all are among those without sampling."""
    rng = np.random.default_rng(0)
    truth = boxes(rng, (6, 5))
    arguments = (np.zeros((1, 12, 4, 5)), truth, info())
    everything = run_layer(anchor_target("'rpn_positive_overlap': 0.3\\n'rpn_batchsize': 1000"), *arguments, num_top=4)
    text = anchor_target("'rpn_positive_overlap': 0.3\\n'rpn_batchsize': 10\\n'rpn_positive_weight': 0.25")
    layer, bottom, tops = run_layer(text, *arguments, num_top=4)
    before, after = everything[2][0].data, tops[0].data.copy()
    assert (before == 1).sum() > 5 and (before == 0).sum() > 5
    assert (after == 1).sum() == 5 and (after == 0).sum() == 5
    assert (before[after >= 0] == after[after >= 0]).all()
    outside, labels = rows(tops[3], 4, 5)[:, 0], rows(tops[0], 4, 5)[:, 0]
    assert_close(outside[labels == 1], [0.25 / 5] * 5, rtol=1e-6)
    assert_close(outside[labels == 0], [0.75 / 5] * 5, rtol=1e-6)
    layer.forward(bottom, tops)
    assert (tops[0].data != after).any()


def test_targets_of_anchors_are_normalized():
    arguments = (np.zeros((1, 12, 4, 5)), boxes(np.random.default_rng(0), (3, 5)), info())
    plain, divided = (
        run_layer(anchor_target(f"'rpn_normalize_targets': {flag}"), *arguments, num_top=4)[2][1].data
        for flag in (False, True)
    )
    scale = np.tile([0.1, 0.1, 0.2, 0.2], COUNT)[:, None, None]
    inside = plain != 0
    assert_close((divided * scale)[inside], plain[inside], rtol=1e-5)


@pytest.mark.parametrize("count", [0, 2])
def test_no_anchor_inside_and_no_box(caplog, count):
    truth = boxes(np.random.default_rng(0), (count, 5))
    small = np.array([[12.0, 12.0, 1.0]])
    with caplog.at_level(logging.WARNING):
        _, _, tops = run_layer(anchor_target(), np.zeros((1, 12, 1, 1)), truth, small, num_top=4)
    assert (tops[0].data == -1).all() and not any(blob.data.any() for blob in tops[1:])
    assert "no anchor is inside an image of 12x12 pixels, so none is trained" in caplog.text
    _, _, tops = run_layer(anchor_target(), np.zeros((1, 12, 4, 5)), truth, info(), num_top=4)
    assert (tops[0].data == 1).any() == (count > 0) and (tops[0].data == 0).any()


# -- sampled regions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("agnostic", [False, True])
def test_sampled_regions(seed, agnostic):
    rng = np.random.default_rng(seed)
    proposed, truth = regions(rng, (30, 5)), boxes(rng, (3, 5))
    text = proposal_target("'batch_size': 8\\n", classes=2 if agnostic else 4)
    _, _, (rois, labels, targets, inside, outside) = run_layer(text, proposed, truth, num_top=5)
    columns = 8 if agnostic else 16
    assert [each.shape[1:] for each in (rois, labels, targets)] == [(5, 1, 1), (1, 1, 1), (columns, 1, 1)]
    candidates = {tuple(row[1:]) for row in proposed} | {tuple(row[:4]) for row in truth}
    objects = 0
    for roi, label, target, weight, out in zip(*(b.data.reshape(b.shape[0], -1) for b in (rois, labels, targets, inside, outside))):  # fmt: skip  # noqa: E501
        shared = [proposals.iou(roi[1:], box) for box in truth]
        expected = np.zeros(columns)
        assert roi[0] == 0 and tuple(roi[1:]) in candidates
        if max(shared) >= 0.5:
            objects += 1
            best = truth[int(np.argmax(shared))]
            block = 4 * (1 if agnostic else int(best[4]))
            assert label == best[4]
            expected[block : block + 4] = np.divide(proposals.encode(roi[1:], best), [0.1, 0.1, 0.2, 0.2])
            assert weight[block : block + 4].tolist() == [1] * 4 and weight.sum() == 4
        else:
            assert label == 0 and not weight.any()
        assert_close(target, expected, rtol=1e-5, atol=1e-6)
        assert (out == weight).all()
    assert objects == 2 and rois.shape[0] == 8


def test_all_regions():
    """With batch_size -1 each region and annotated box comes once, in a random order, objects first."""
    rng = np.random.default_rng(0)
    proposed, truth = regions(rng, (30, 5)), boxes(rng, (3, 5))
    _, _, (rois, labels, *_) = run_layer(proposal_target("'batch_size': -1"), proposed, truth, num_top=5)
    expected = [list(row[1:]) for row in proposed] + [list(row[:4]) for row in truth]
    assert sorted(rois.data[:, 1:, 0, 0].tolist()) == sorted(expected)
    kinds = (labels.data[:, 0, 0, 0] > 0).tolist()
    assert kinds == sorted(kinds, reverse=True) and sum(kinds) >= 3


def test_an_image_without_boxes_has_background_only():
    proposed = regions(np.random.default_rng(0), (5, 5))
    _, _, (rois, labels, *others) = run_layer(proposal_target(), proposed, np.zeros((0, 5)), num_top=5)
    assert rois.shape == (5, 5, 1, 1) and not labels.data.any() and not any(blob.data.any() for blob in others)


def test_background_has_a_least_overlap():
    sampling = Sampling(None, 0.25, 0.5, 0.5, 0.1)
    kept, objects = sampling.draw(np.array([0.05, 0.1, 0.49, 0.5, 0.0, 1.0]), np.random.default_rng(0))
    assert sorted(kept[:objects]) == [3, 5] and sorted(kept[objects:]) == [1, 2]


def test_targets_by_class():
    targets, inside = by_class(np.array([2.0, 0, 1]), np.arange(12.0).reshape(3, 4), 3, False, [1, 2, 3, 4])
    assert targets.tolist() == [[0] * 8 + [0, 1, 2, 3], [0] * 12, [0] * 4 + [8, 9, 10, 11] + [0] * 4]
    assert inside[0].tolist() == [0] * 8 + [1, 2, 3, 4] and not inside[1].any()


# -- whose class runs --------------------------------------------------------------------------------------------------

OWN = """
import caffe

class ProposalLayer(caffe.Layer):
    def setup(self, bottom, top):
        top[0].reshape(7)

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        top[0].data[...] = 7
"""
VALUES = (np.ones((1, 12, 1, 1)), np.zeros((1, 24, 1, 1)), np.array([[60.0, 75.0, 1.5]]))


@pytest.fixture
def rpn(tmp_path, monkeypatch):
    """A folder `rpn` on sys.path, without modules."""
    (tmp_path / "rpn").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "rpn"
    for name in [name for name in sys.modules if name.partition(".")[0] == "rpn"]:
        del sys.modules[name]


def test_the_users_module_comes_first(rpn, caplog):
    (rpn / "proposal_layer.py").write_text(OWN)
    with caplog.at_level(logging.INFO, "minicaffe"):
        assert run_layer(proposal(), *VALUES)[2][0].data.tolist() == [7] * 7
    assert "takes its place" not in caplog.text


def test_ours_runs_where_the_module_is_missing(rpn, caplog):
    with caplog.at_level(logging.INFO, "minicaffe"), python_layers.following(python_layers.Rule(False)):
        assert run_layer(proposal(), *VALUES)[2][0].shape[1] == 5
    assert caplog.text.count("module 'rpn.proposal_layer' is not on sys.path; ProposalLayer of minicaffe takes") == 1


def test_the_users_module_needs_a_permission(rpn):
    (rpn / "__init__.py").write_text("raise SystemExit('imported')")
    (rpn / "proposal_layer.py").write_text(OWN)
    with (
        python_layers.following(python_layers.Rule(False)),
        pytest.raises(LayerError, match="may not be imported here"),
    ):
        run_layer(proposal(), *VALUES)


def test_other_classes_of_the_module_are_the_users():
    with pytest.raises(LayerError, match="no module 'rpn.proposal_layer' on sys.path"):
        run_layer(python("rpn.proposal_layer", "Other", ""), *VALUES)


# -- param_str ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["'feat_stride': 8", "feat_stride: 8", "\\n# a comment\\n'feat_stride': 8 # pixels\\n", "{'feat_stride': 8}",
     "'feat_stride': 8 \\n'scales': !!python/tuple [8, 16, 32]", "'feat_stride': 8\\n'ratios': 1"],
)  # fmt: skip
def test_ways_to_write_settings(text):
    count = 3 if "ratios" in text else 9
    arguments = np.ones((1, 2 * count, 1, 1)), np.zeros((1, 4 * count, 1, 1)), info()
    layer = run_layer(python("rpn.proposal_layer", "ProposalLayer", text), *arguments)[0]
    assert layer.user.settings.feat_stride == 8 and layer.user.settings.scales == (8, 16, 32)
    assert all(isinstance(ratio, float) for ratio in layer.user.settings.ratios)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"""param_str must give 'feat_stride', for example "'feat_stride': 16", got ''"""),
        ("'feat_stride': 16.5", "'feat_stride' of param_str must be a whole number, got 16.5"),
        ("'feat_stride': true", "'feat_stride' of param_str must be a whole number, got True"),
        (
            "'feat_stride': 16\\n'scales': [8, x]",
            r"""each line of param_str must be 'key': value, got ''scales': \[8, x""",
        ),
        ("'feat_stride': 16\\n'scales': [8, 'x']", r"'scales' of param_str must be a list of numbers, got \[8, 'x'\]"),
        ("'feat_stride': 16\\n'scale': [8]", r'param_str has an unknown key \'scale\' \(did you mean "scales"\?\)'),
        ("'feat_stride' 16", "each line of param_str must be 'key': value, got '"),
        ("{'feat_stride': 16", "param_str must be {'key': value, ...}, got '"),
        ("'feat_stride': __import__('os')", "each line of param_str must be 'key': value, got '"),
    ],
)
def test_settings_that_are_wrong(text, words):
    with pytest.raises(LayerError, match=f"^Python layer 'layer': {words}"):
        run_layer(python("rpn.proposal_layer", "ProposalLayer", text), *VALUES)


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        (proposal(), [(1, 12, 2, 2), (1, 24, 2, 2)], "takes 3 bottoms and 1 or 2 tops, got 2 and 1"),
        (proposal(), [(1, 18, 2, 2), (1, 24, 2, 2), (1, 3)], r"bottom 0 must be \(1, 12, H, W\), of 6 anchors"),
        (proposal(), [(1, 12, 2, 2), (1, 24, 2, 2), (1, 2)], r"bottom 2 must be im_info \(1, 3\)"),
        (proposal_target(), [(4, 5), (2, 5)], "takes 2 bottoms and 5 tops, got 2 and 1"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^Python layer 'layer': {words}"):
        run_layer(text, *(np.ones(shape) for shape in shapes))


@pytest.mark.parametrize(
    ("module", "layer", "text", "words"),
    [
        ("rpn.anchor_target_layer", "AnchorTargetLayer", "'rpn_fg_fraction': 1.5", "'rpn_fg_fraction' must be in"),
        ("rpn.anchor_target_layer", "AnchorTargetLayer", "'rpn_batchsize': -1", "'rpn_batchsize' must be at least 1"),
        ("rpn.proposal_target_layer", "ProposalTargetLayer", "'fg_fraction': -0.1", "'fg_fraction' must be in"),
        ("roi_data_layer.layer", "RoIDataLayer", "'fg_fraction': 1.5", "'fg_fraction' must be in"),
    ],
)
def test_samples_that_cannot_be_drawn(module, layer, text, words):
    needed = "'feat_stride': 16\\n" if layer == "AnchorTargetLayer" else "'num_classes': 4\\n"
    bottoms, tops = {"AnchorTargetLayer": (3, 4), "ProposalTargetLayer": (2, 5), "RoIDataLayer": (0, 3)}[layer]
    with pytest.raises(LayerError, match=f"^Python layer 'layer': {words}"):
        build_layer(python(module, layer, needed + text), *[np.ones((1, 5, 2, 2))] * bottoms, num_top=tops)


def test_in_place_is_refused():
    net = """layer { name: "in" type: "Input" top: "rois" top: "gt" input_param { shape { dim: 9 dim: 5 } } }
    layer { name: "target" bottom: "rois" bottom: "gt" top: "rois" top: "b" top: "c" top: "d" top: "e" %s }"""
    with pytest.raises(LayerError, match="^Python layer 'target': cannot work in place"):
        net_from_text(net % proposal_target())


def test_a_class_beyond_num_classes():
    truth = np.array([[1.0, 1, 30, 30, 9]])
    with pytest.raises(LayerError, match="a box of bottom 1 has class 9, but 'num_classes' is 4"):
        run_layer(proposal_target(), np.array([[0, 1.0, 1, 30, 30]]), truth, num_top=5)
    assert math.isfinite(run_layer(proposal_target(classes=2), np.zeros((1, 5)), truth, num_top=5)[2][2].data.sum())
