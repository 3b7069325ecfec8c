"""MapDetectionLoss, MS-CNN's DetectionLoss, by plain loops."""

import math

import numpy as np
import pytest

from helpers.map_truth import CLASSES, FIELD, RATE, code_differences, map_scene
from minicaffe.errors import LayerError
from minicaffe.layers.shared.map_sampling import negatives
from minicaffe.philox import Stream
from minicaffe.proto import caffe_pb2, parse_text, upgrade_net
from minicaffe.testing import Case, LayerProperties, build_layer, run_layer

STD = "bbox_reg_param { bbox_mean: 0.1 bbox_mean: 0 bbox_mean: 0.2 bbox_mean: 0 bbox_std: 0.5 bbox_std: 0.5 " + (
    "bbox_std: 1 bbox_std: 1 }"
)


def loss(more="", outside="", classes=CLASSES):
    return (
        f"type: 'MapDetectionLoss' detection_loss_param {{ cls_num: {classes} field_w: {FIELD[0]} field_h: {FIELD[1]} "
        f"downsample_rate: {RATE} {more} }} {outside}"
    )


ALL = "sample_mode: 'all' field_whr: 100 field_xyr: 0.01 bg_threshold: 0.6"  # within the limits, nothing random
SHAPES = [(2, CLASSES + 4, 4, 5), (2, 6, 4, 5)]
VALUES = [lambda rng, shape, i=i: map_scene()[i] for i in range(2)]


class TestProperties(LayerProperties):
    cases = [Case(loss("sample_mode: 'all'"), SHAPES, VALUES, ())]


def by_loops(x, labels, lam=1.0, whr=2.0, xyr=2.0, background=0.5, smooth=True, mean=(0,) * 4, std=(1,) * 4, own=None):
    """The loss, its second term and the gradient, if all of the background counts; own: weights (objects, others)."""
    slopes, terms, boxes = np.zeros_like(x), [], []
    for n, row, column in np.ndindex(labels[:, 0].shape):
        label = int(labels[n, 0, row, column])
        if label == 0 and labels[n, 5, row, column] >= background:
            continue
        scores = x[n, :-4, row, column]
        p = np.exp(scores - scores.max())
        p /= p.sum()
        weight = 1 if own is None else own(label, labels[n, 5, row, column])
        terms.append(-weight * math.log(p[label]))
        p[label] -= 1
        slopes[n, :-4, row, column] = weight * p
        if label:
            code, box = x[n, -4:, row, column], labels[n, 1:5, row, column]
            for k, d in enumerate(code_differences(code, box, (column, row), (whr, xyr), mean, std)):
                far = smooth and abs(d) >= 1
                boxes.append(abs(d) - 0.5 if far else d * d / 2)
                slopes[n, k - 4, row, column] = lam * (math.copysign(1, d) if far else d)
    slopes[:, :-4] /= max(1, len(terms))
    slopes[:, -4:] /= max(1, len(boxes))
    second = lam * sum(boxes) / max(1, len(boxes))
    return sum(terms) / max(1, len(terms)) + second, second, slopes


@pytest.mark.parametrize(
    ("more", "outside", "settings"),
    [
        ("sample_mode: 'all'", "", {}),
        ("sample_mode: 'all' bb_smooth: false lambda: 3", "", {"smooth": False, "lam": 3}),
        (ALL, STD, {"whr": 100, "xyr": 0.01, "background": 0.6, "mean": (0.1, 0, 0.2, 0), "std": (0.5, 0.5, 1, 1)}),
        ("sample_mode: 'all' iou_weighted: true", "", {"own": lambda label, overlap: overlap if label else 1}),
    ],
)
def test_against_loops(engine, more, outside, settings):
    x, labels = map_scene()
    x *= 2
    layer, bottom, top = run_layer(loss(more, outside), x, labels)
    value, second, slopes = by_loops(x, labels, **settings)
    np.testing.assert_allclose(top[0].data.ravel(), [value, second], rtol=1e-6)
    top[0].diff[...] = [[[[3, 7]]]]
    layer.backward(top, [True, False], bottom)
    np.testing.assert_allclose(bottom[0].diff, 3 * slopes, rtol=1e-5, atol=1e-8)


def test_the_gradient_is_the_derivative_of_the_first_number(engine):
    x, labels = map_scene()
    text = loss(ALL + " pos_neg_weighted: true bg_multiple: 2", STD)
    layer, bottom, top = run_layer(text, x, labels, dtype=np.float64)
    top[0].diff[...] = [[[[1, 0]]]]
    layer.backward(top, [True, False], bottom)
    direction = np.random.default_rng(3).standard_normal(x.shape)
    up, down = (run_layer(text, x + h * direction, labels, dtype=np.float64)[2][0].data.flat[0] for h in (1e-5, -1e-5))
    assert (up - down) / 2e-5 == pytest.approx(float((bottom[0].diff * direction).sum()), rel=1e-6)


def test_objects_and_background_weigh_as_bg_multiple_says():
    x, labels = map_scene()
    x[:, :-4] = 0  # each class has the probability 1/3
    layer, bottom, top = run_layer(loss("sample_mode: 'all' pos_neg_weighted: true bg_multiple: 3"), x, labels)
    top[0].diff[...] = 1
    layer.backward(top, [True, False], bottom)
    size = np.abs(bottom[0].diff[:, :-4]).sum(1)
    objects = labels[:, 0] > 0
    assert size[~objects].sum() / size[objects].sum() == pytest.approx(3, rel=1e-5)


def test_all_objects_as_one_class():
    x, labels = map_scene()
    x = np.concatenate([x[:, :2], x[:, -4:]], 1)
    _, _, top = run_layer(loss("sample_mode: 'all' objectness: true", classes=2), x, labels)
    labels[:, 0] = np.minimum(labels[:, 0], 1)
    np.testing.assert_allclose(top[0].data.ravel(), by_loops(x, labels)[:2], rtol=1e-6)


def test_no_objects_and_nothing_that_counts():
    x, labels = map_scene()
    labels[:, 0], labels[:, 5] = 0, 1
    layer, bottom, top = run_layer(loss(), x, labels)
    layer.backward(top, [True, False], bottom)
    assert top[0].data.tolist() == [[[[0, 0]]]] and not bottom[0].diff.any()


class Param:
    cls_num, bg_multiple = 3, 2

    def __init__(self, sample_mode):
        self.sample_mode = sample_mode


@pytest.mark.parametrize("mode", ["random", "bootstrap", "mixture", "none"])
def test_sampling(mode):
    rng = np.random.default_rng(1)
    classes = np.zeros((2, 10, 10), int)
    classes[0, 0, :6] = 1
    classes[0, 1, :4] = 2
    eligible = (classes == 0) & (rng.uniform(size=classes.shape) < 0.7)
    scores = rng.standard_normal((2, 3, 10, 10))
    kept = negatives(Param(mode), classes, eligible, scores, Stream(7))
    assert not (kept & ~eligible).any()
    if mode == "none":
        assert (kept == eligible).all()
    if mode == "random":  # 20 and, without objects, 8 draws, of which some are not eligible or come twice
        assert 5 < kept[0].sum() <= 20 and 2 < kept[1].sum() <= 8
    if mode == "bootstrap":
        best = [np.argsort(-np.where(eligible[n], scores[n, k], -np.inf), axis=None)[:count]
                for n, k, count in ((0, 1, 12), (0, 2, 8), (1, 1, 4), (1, 2, 4))]  # fmt: skip
        expected = [set(best[0]) | set(best[1]), set(best[2]) | set(best[3])]
        assert [set(np.flatnonzero(each)) for each in kept] == expected
    if mode == "mixture":
        assert 6 + 4 <= kept[0].sum() <= 20
    other = negatives(Param(mode), classes, eligible, scores, Stream(8))
    assert (kept != other).any() == (mode in ("random", "mixture"))


def test_prototxts_call_it_detection_loss():
    text = "layer { name: 'a' type: 'DetectionLoss' detection_loss_param { %s } }"
    types = [upgrade_net(parse_text(text % field, caffe_pb2.NetParameter())).layer[0].type
             for field in ("cls_num: 2", "num_class: 20")]  # fmt: skip
    assert types == ["MapDetectionLoss", "DetectionLoss"]


def test_errors():
    with pytest.raises(LayerError, match="cls_num must be at least 2"):
        build_layer(loss(classes=1), *(np.zeros(shape) for shape in SHAPES))
    x, labels = map_scene()
    labels[0, 0, 0, 0] = 3
    with pytest.raises(LayerError, match="label 3 is out of range"):
        run_layer(loss(), x, labels)
