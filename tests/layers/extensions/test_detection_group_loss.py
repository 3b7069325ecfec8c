"""DetectionGroupLoss, by plain loops."""

import math

import numpy as np
import pytest

from helpers.detection_groups import FIELDS, SHAPES, TEXT, VALUES, scene
from helpers.map_truth import CLASSES, code_differences
from minicaffe.errors import LayerError
from minicaffe.layers.shared.map_sampling import sampled
from minicaffe.philox import Stream
from minicaffe.testing import Case, LayerProperties, build_layer, run_layer

EVERY = "bg_multiple: 100"  # all of the background
LIMITS = "field_whr: 2 field_xyr: 2"
WIDE_LIMITS = "field_whr: 100 field_xyr: 0.01"
MEAN, STD = (0.1, 0, 0.2, 0), (0.5, 0.5, 1, 1)
CODES = "bbox_reg_param { bbox_mean: 0.1 bbox_mean: 0 bbox_mean: 0.2 bbox_mean: 0 bbox_std: 0.5 bbox_std: 0.5 " + (
    "bbox_std: 1 bbox_std: 1 }"
)


def loss(more="", outside="", classes=CLASSES):
    return f"type: 'DetectionGroupLoss' detection_group_loss_param {{ cls_num: {classes} {TEXT} {more} }} {outside}"


class TestProperties(LayerProperties):
    cases = [Case(loss(EVERY), SHAPES, VALUES, ())]


def loss_by_loops(
    scores, codes, labels, lam=1.0, limits=None, background=0.5, smooth=True, mean=(0,) * 4, std=(1,) * 4
):
    """The loss, its second term and the gradients, if all places count."""
    slopes, terms, boxes = [np.zeros_like(scores), np.zeros_like(codes)], [], []
    for n, row, column in np.ndindex(labels[:, 0].shape):
        label = int(labels[n, 0, row, column])
        if label == 0 and labels[n, 5, row, column] >= background:
            continue
        p = np.exp(scores[n, :, row, column])
        p /= p.sum()
        terms.append(-math.log(p[label]))
        p[label] -= 1
        slopes[0][n, :, row, column] = p
        if label:
            code, box = codes[n, :, row, column], labels[n, 1:5, row, column]
            found = code_differences(code, box, (column, row), limits, mean, std, FIELDS[n % 2])
            for k, d in enumerate(found):
                far = smooth and abs(d) >= 1
                boxes.append(abs(d) - 0.5 if far else d * d / 2)
                slopes[1][n, k, row, column] = lam * (math.copysign(1, d) if far else d)
    slopes[0] /= len(terms)
    slopes[1] /= len(boxes)
    second = lam * sum(boxes) / len(boxes)
    return sum(terms) / len(terms) + second, second, slopes


@pytest.mark.parametrize(
    ("more", "outside", "settings"),
    [
        ("", "", {}),
        ("bbox_loss_type: 'Euclidean_L2' lambda: 3 field_whr: 2", "", {"smooth": False, "lam": 3}),
        (LIMITS + " bg_threshold: 0.6", CODES, {"limits": (2, 2), "background": 0.6, "mean": MEAN, "std": STD}),
        ("batch_size: 1000 bg_multiple: 1", "", {}),
    ],
)
def test_loss_against_loops(engine, more, outside, settings):
    scores, codes, labels = scene()
    codes *= 2
    layer, bottom, top = run_layer(
        loss(f"{EVERY if 'multiple' not in more else ''} {more}", outside), scores, codes, labels
    )
    value, second, slopes = loss_by_loops(scores, codes, labels, **settings)
    np.testing.assert_allclose(top[0].data.ravel(), [value, second], rtol=1e-6)
    top[0].diff[...] = [[[[3, 7]]]]
    layer.backward(top, [True, True, False], bottom)
    for blob, expected in zip(bottom, slopes):
        np.testing.assert_allclose(blob.diff, 3 * expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("which", [0, 1])
def test_the_gradient_is_the_derivative_of_the_first_number(engine, which):
    given = list(scene())
    text = loss(f"{EVERY} {WIDE_LIMITS} pos_neg_weighted: true", CODES)
    layer, bottom, top = run_layer(text, *given, dtype=np.float64)
    top[0].diff[...] = [[[[1, 0]]]]
    layer.backward(top, [True, True, False], bottom)
    direction = np.random.default_rng(3).standard_normal(given[which].shape)
    values = []
    for h in (1e-5, -1e-5):
        moved = [x + h * direction if i == which else x for i, x in enumerate(given)]
        values.append(run_layer(text, *moved, dtype=np.float64)[2][0].data.flat[0])
    expected = float((bottom[which].diff * direction).sum())
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(expected, rel=1e-6)


def test_one_gradient_only(engine):
    layer, bottom, top = run_layer(loss(EVERY), *scene())
    bottom[0].diff[...] = 5
    layer.backward(top, [False, True, False], bottom)
    assert (bottom[0].diff == 5).all()
    with pytest.raises(LayerError, match="no gradient with respect to the label"):
        layer.backward(top, [True, True, True], bottom)


def test_all_objects_as_one_class():
    scores, codes, labels = scene(2)
    _, _, top = run_layer(loss(f"{EVERY} objectness: true", classes=2), scores, codes, labels)
    labels[:, 0] = np.minimum(labels[:, 0], 1)
    np.testing.assert_allclose(top[0].data.ravel(), loss_by_loops(scores, codes, labels)[:2], rtol=1e-6)


def test_the_ignored_label_does_not_count():
    scores, codes, labels = scene()
    _, _, top = run_layer(loss(EVERY, "loss_param { ignore_label: 2 }"), scores, codes, labels)
    dropped = labels.copy()
    dropped[:, 5][labels[:, 0] == 2] = 1
    dropped[:, 0][labels[:, 0] == 2] = 0
    np.testing.assert_allclose(top[0].data.ravel(), loss_by_loops(scores, codes, dropped)[:2], rtol=1e-6)


def test_nothing_that_counts():
    scores, codes, labels = scene()
    labels[:, 0], labels[:, 5] = 0, 1
    layer, bottom, top = run_layer(loss(), scores, codes, labels)
    layer.backward(top, [True, True, False], bottom)
    assert top[0].data.tolist() == [[[[0, 0]]]] and not bottom[0].diff.any() and not bottom[1].diff.any()


# -- which places count ------------------------------------------------------------------------------------------------


class Param:
    bg_multiple, min_num_neg = 3, 5

    def __init__(self, neg_mining_type, batch_size):
        self.neg_mining_type, self.batch_size = neg_mining_type, batch_size


@pytest.mark.parametrize("mode", ["random", "bootstrap", "mixture"])
@pytest.mark.parametrize(
    ("batch_size", "objects", "background"), [(-1, (20, 1, 0), (60, 5, 5)), (40, (10, 1, 0), (30, 39, 40))]
)
def test_sampling(mode, batch_size, objects, background):
    rng = np.random.default_rng(1)
    has_object, hardness = np.zeros((3, 200), bool), rng.standard_normal((3, 200))
    has_object[0, :20] = has_object[1, 7] = True
    eligible = ~has_object & (rng.uniform(size=has_object.shape) < 0.7)
    own, kept = sampled(Param(mode, batch_size), has_object, eligible, hardness, Stream(7))
    assert not (own & ~has_object).any() and not (kept & ~eligible).any()
    assert tuple(own.sum(1)) == objects and tuple(kept.sum(1)) == background
    hard = {"random": 0, "bootstrap": 1, "mixture": 0.5}[mode]
    for n in range(3):
        count = math.floor(background[n] * hard + 0.5)
        hardest = np.argsort(np.where(eligible[n], -hardness[n], np.inf))[:count]
        assert kept[n, hardest].all()
    others = sampled(Param(mode, batch_size), has_object, eligible, hardness, Stream(8))
    assert (kept != others[1]).any() == (mode != "bootstrap")
    assert (own != others[0]).any() == (batch_size == 40)


def test_few_places():
    param, every = Param("mixture", -1), np.ones((1, 4), bool)
    own, kept = sampled(param, every & False, every, np.zeros((1, 4)), Stream(1))
    assert not own.any() and kept.all()


def test_the_hardest_places_have_the_largest_loss():
    scores, codes, labels = scene()
    labels[:, 0] = 0
    labels[:, 5] = 0
    text = loss("neg_mining_type: 'bootstrap' min_num_neg: 3")
    layer, bottom, top = run_layer(text, scores, codes, labels)
    layer.backward(top, [True, True, False], bottom)
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    losses = -np.log(p[:, 0]).reshape(2, -1)  # of each image, whose boxes follow each other
    counted = bottom[0].diff.any(1).reshape(2, -1)
    for n in range(2):
        assert set(np.flatnonzero(counted[n])) == set(np.argsort(-losses[n])[:3])
    np.testing.assert_allclose(top[0].data.flat[0], np.sort(losses)[:, -3:].mean(), rtol=1e-6)


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (loss(), [(4, 2, 4, 5), *SHAPES[1:]], r"bottom 0 must be \(2 N, cls_num = 3, H, W\)"),
        (loss(), [(3, 3, 4, 5), *SHAPES[1:]], r"bottom 0 must be \(2 N, cls_num = 3, H, W\)"),
        (loss(), [SHAPES[0], (4, 8, 4, 5), SHAPES[2]], r"bottom 1 must have the codes of bottom 0, \(4, 4, 4, 5\)"),
        (loss("field_w: 3"), SHAPES, "there must be as many field_w as field_h"),
        (
            loss("neg_mining_type: 'all'"),
            SHAPES,
            "neg_mining_type must be one of random, bootstrap, mixture, got 'all'",
        ),
        (loss("bbox_loss_type: 'L1'"), SHAPES, "bbox_loss_type must be one of Smooth_L1, Euclidean_L2, got 'L1'"),
        (loss("batch_size: 0"), SHAPES, "batch_size must be above 0, or -1, got 0"),
    ],
)
def test_errors(text, shapes, message):
    with pytest.raises(LayerError, match=message):
        build_layer(text, *(np.zeros(shape) for shape in shapes))
