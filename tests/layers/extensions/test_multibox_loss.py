"""MultiBoxLoss."""

import itertools
import re

import numpy as np
import pytest

from helpers.multibox import Reference, param_of, priors_of, random_text, truth_of
from minicaffe.errors import LayerError
from minicaffe.gradient_check import check_gradient
from minicaffe.layers.shared.boxes import decode
from minicaffe.proto.caffe_pb2 import PriorBoxParameter
from minicaffe.testing import (
    Case,
    LayerProperties,
    assert_close,
    build_layer,
    computing_with,
    normal,
    run_layer,
    top_of,
)

IMAGES, PRIORS, ROWS = 3, 14, 7


def layer_text(text, more=""):
    return f"type: 'MultiBoxLoss' {more} multibox_loss_param {{ {text} }}"


def scene(rng, classes, sets, background=0):
    """Locations (N, P, L, 4), scores (N, P, K), priors (2, P, 4), rows (M, 8), as float32."""
    arrays = (
        0.7 * rng.standard_normal((IMAGES, PRIORS, sets, 4)),
        2 * rng.standard_normal((IMAGES, PRIORS, classes)),
        np.stack(priors_of(rng, PRIORS)),
        truth_of(rng, IMAGES, ROWS, classes, background),
    )
    return [array.astype(np.float32) for array in arrays]


def bottoms(loc, conf, priors, truth, *first):
    """The values in the shapes of bottoms."""
    shaped = [loc.reshape(len(loc), -1), conf.reshape(len(conf), -1), priors.reshape(1, 2, -1), truth[None, None]]
    return shaped + [each.reshape(len(each), -1) for each in first]


@pytest.mark.parametrize("seed", range(120))
def test_against_plain_loops(seed, engine):
    rng = np.random.default_rng(seed)
    text, classes, sets = random_text(rng)
    param = param_of(text)
    loc, conf, priors, truth = scene(rng, classes, sets, param.background_label_id)
    first = []
    if param.share_location and seed % 3 == 0:
        objectness, moved = rng.random((IMAGES, PRIORS, 2)), 0.3 * rng.standard_normal((IMAGES, PRIORS, 4))
        first = [each.astype(np.float32) for each in (objectness, moved)][: 1 + seed % 2]
    divisor = ("VALID", "FULL", "BATCH_SIZE", "NONE")[seed % 4]
    more = f"loss_param {{ normalization: {divisor} }}"
    layer, bottom, top = build_layer(
        layer_text(text, more), *bottoms(loc, conf, priors, truth, *first), dtype=np.float32
    )
    arrays = [each.astype(float) for each in (loc, conf, *priors, truth, *first)]
    expected = Reference(param, *arrays[:5], divisor, *arrays[5:])
    for _ in range(2):  # a second pass does not use the matches of the first
        layer.forward(bottom, top)
    assert_close(top[0].data, sum(expected.loss), "loss")
    layer.backward(top, [True, True] + [False] * len(bottom[2:]), bottom)
    for blob, diff in zip(bottom, expected.dx):
        assert_close(blob.diff.reshape(diff.shape), diff, "gradient")


def values_of(classes, background=0):
    """Functions that give values to bottoms: locations, scores, priors, rows of true boxes, objectness, locations."""

    def priors(rng, shape):
        return np.stack(priors_of(rng, shape[2] // 4)).reshape(shape)

    def truth(rng, shape):
        return truth_of(rng, IMAGES, shape[2], classes, background).reshape(shape)

    def first(rng, shape):
        return 0.3 * rng.standard_normal(shape)

    return [normal, normal, priors, truth, lambda rng, shape: rng.random(shape), first]


def case(text, classes=3, more="", bottoms=4):
    """A small layer; L follows from share_location."""
    param = param_of(f"num_classes: {classes} {text}")
    sets = 1 if param.share_location else classes
    shapes = [
        (IMAGES, PRIORS * 4 * sets), (IMAGES, PRIORS * classes), (1, 2, PRIORS * 4), (1, 1, ROWS, 8),
        (IMAGES, PRIORS * 2), (IMAGES, PRIORS * 4),
    ]  # fmt: skip
    values = values_of(classes, param.background_label_id)
    return Case(
        layer_text(f"num_classes: {classes} overlap_threshold: 0.3 {text}", more), shapes[:bottoms], values[:bottoms],
        gradient=[0, 1], options={"most": 25},
    )  # fmt: skip


class TestProperties(LayerProperties):
    cases = [
        case(""),
        case("conf_loss_type: LOGISTIC loc_loss_type: L2 loc_weight: 0.5", more="loss_param { normalization: FULL }"),
        case("mining_type: NONE match_type: BIPARTITE", more="loss_param { normalize: false }"),
        case("mining_type: NONE conf_loss_type: LOGISTIC share_location: false use_prior_for_matching: false"),
        case("mining_type: NONE share_location: false code_type: CENTER_SIZE background_label_id: 2"),
        case(
            "mining_type: HARD_EXAMPLE sample_size: 6 code_type: CORNER_SIZE", more="loss_param { normalization: NONE }"
        ),
        case("nms_param { nms_threshold: 0.3 top_k: 10 } code_type: CENTER_SIZE bp_inside: true"),
        case("use_prior_for_matching: false ignore_cross_boundary_bbox: true bp_inside: true use_difficult_gt: false"),
        case("map_object_to_agnostic: true", classes=2),
        case("code_type: CENTER_SIZE objectness_score: 0.3", bottoms=5),
        case("code_type: CENTER_SIZE objectness_score: 0.3", bottoms=6),
    ]


CHOICES = list(
    itertools.product(
        ("SMOOTH_L1", "L2"),
        ("SOFTMAX", "LOGISTIC"),
        ("CORNER", "CENTER_SIZE", "CORNER_SIZE"),
        ("mining_type: NONE", "mining_type: NONE share_location: false", "mining_type: MAX_NEGATIVE")
        + ("mining_type: HARD_EXAMPLE sample_size: 9",),
        ("", "use_prior_for_matching: false bp_inside: true"),
    )
)


@pytest.mark.parametrize("box, of_class, code, mining, more", CHOICES)
def test_gradient_of_each_combination(box, of_class, code, mining, more, engine):
    small = case(f"loc_loss_type: {box} conf_loss_type: {of_class} code_type: {code} {mining} {more}")
    check_gradient(small.text, small.arrays(), check_bottom=[0, 1], most=15)


def test_the_gradient_with_the_variance_in_the_target_is_that_of_the_divided_prediction(engine):
    """The derivative times the variance: the original's numbers."""
    rng = np.random.default_rng(0)
    loc, conf, priors, truth = (each.astype(float) for each in scene(rng, 3, 1))
    text = "num_classes: 3 overlap_threshold: 0.3 encode_variance_in_target: true loc_loss_type: L2"
    layer, bottom, top = run_layer(layer_text(text), *bottoms(loc, conf, priors, truth), dtype=np.float32)
    layer.backward(top, [True, True, False, False], bottom)
    moved = bottom[0].diff.reshape(loc.shape).copy()
    assert np.count_nonzero(moved) > 8

    def loss(x):
        expected = Reference(param_of(text), x, conf, *priors, truth)
        return sum(expected.loss)

    for at in np.argwhere(moved):
        step = np.zeros_like(loc)
        step[tuple(at)] = 1e-4
        derivative = (loss(loc + step) - loss(loc - step)) / 2e-4
        variance = priors[1][at[1], at[3]]
        np.testing.assert_allclose(moved[tuple(at)], derivative * variance, rtol=1e-3)


@pytest.mark.gpu
def test_backward_on_the_gpu_is_that_of_the_last_forward_on_the_cpu(cuda_device):
    """Not that of an earlier batch, whose targets are still on the device."""
    layer, bottom, top = build_layer(layer_text("num_classes: 3"), *case("").arrays(seed=0), dtype=np.float32)
    for modes in ((False, True), (True, True), (False, True), (True, False)):
        gradients = []
        for gpus in (modes, (False, False)):
            with computing_with(gpu=gpus[0]):
                layer.forward(bottom, top)
            with computing_with(gpu=gpus[1]):
                layer.backward(top, [True, True, False, False], bottom)
            gradients.append([blob.read_diff().copy() for blob in bottom[:2]])
        for one, other in zip(*gradients):
            assert_close(one, other)
        bottom[3].data = bottom[3].read_data()[:, :, ::-1, :] * ([1] * 3 + [0.9] * 4 + [1])  # another batch


def test_nothing_counts_without_boxes(engine):
    rng = np.random.default_rng(0)
    loc, conf, priors, truth = scene(rng, 3, 1)
    truth[:, 0] = -1
    text = layer_text("num_classes: 3")
    layer, bottom, top = run_layer(text, *bottoms(loc, conf, priors, truth), dtype=np.float32)
    layer.backward(top, [True, True, False, False], bottom)
    assert top[0].data == 0 and not bottom[0].diff.any() and not bottom[1].diff.any()
    _, _, top = run_layer(layer_text("num_classes: 3 mining_type: NONE"), *bottoms(loc, conf, priors, truth))
    expected = Reference(param_of("num_classes: 3 mining_type: NONE"), loc, conf, *priors, truth)
    assert_close(top[0].data, sum(expected.loss))


@pytest.mark.parametrize("mining", ["NONE", "MAX_NEGATIVE", "HARD_EXAMPLE"])
@pytest.mark.parametrize("images, priors, rows", [(0, 4, 0), (2, 0, 1), (2, 4, 0)])
def test_nothing_to_compare(images, priors, rows, mining, engine):
    shapes = [(images, priors * 4), (images, priors * 3), (1, 2, priors * 4), (1, 1, rows, 8)]
    arrays = [np.ones(shape) for shape in (*shapes, (images, priors * 2), (images, priors * 4))]
    text = layer_text(f"num_classes: 3 mining_type: {mining}")
    layer, bottom, top = run_layer(text, *arrays, dtype=np.float32)
    layer.backward(top, [True, True] + [False] * 4, bottom)
    expected = images * priors * np.log(3) if mining == "NONE" else 0
    np.testing.assert_allclose(top[0].data, expected, rtol=1e-6)


def test_a_loss_whose_gradient_is_not_wanted_does_not_count(engine):
    rng = np.random.default_rng(1)
    loc, conf, priors, truth = scene(rng, 3, 1)
    parts = Reference(param_of("num_classes: 3"), loc, conf, *priors, truth).loss
    for wanted in ((True, False), (False, True), (False, False)):
        more = " ".join(f"propagate_down: {str(each).lower()}" for each in (*wanted, False, False))
        layer, bottom, top = run_layer(
            layer_text("num_classes: 3", more), *bottoms(loc, conf, priors, truth), dtype=np.float32
        )
        assert_close(top[0].data, parts[0] * wanted[0] + parts[1] * wanted[1], atol=1e-6)
        layer.backward(top, [*wanted, False, False], bottom)


def test_the_largest_loss_of_a_softmax_is_that_of_the_smallest_float(engine):
    """As in SoftmaxWithLoss; its gradient is not cut."""
    conf = np.zeros((1, 2, 2))
    conf[0, :, 0] = 1000
    priors = np.array([[[0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.8, 0.8]], np.full((2, 4), 0.1)])
    truth = np.array([[0, 1, 0, 0.1, 0.1, 0.5, 0.5, 0]])
    layer, bottom, top = run_layer(
        layer_text("num_classes: 2"), *bottoms(np.zeros((1, 2, 1, 4)), conf, priors, truth), dtype=np.float32
    )
    assert_close(top[0].data, -np.log(np.finfo(np.float32).tiny))
    layer.backward(top, [False, True, False, False], bottom)
    np.testing.assert_allclose(bottom[1].diff, [[1, -1, 0, 0]], atol=1e-6)


def test_nan_is_among_the_negatives(engine):
    """So that the loss of a net that diverged is nan."""
    rng = np.random.default_rng(1)
    loc, conf, priors, truth = scene(rng, 3, 1)
    conf[:, :, 1] = np.nan
    with np.errstate(invalid="ignore"):
        _, _, top = run_layer(layer_text("num_classes: 3"), *bottoms(loc, conf, priors, truth), dtype=np.float32)
    assert np.isnan(top[0].data)


def test_a_refined_prior_is_the_box_of_the_first_stage(engine):
    """Matches and codes are those of priors at the boxes that the first stage predicts."""
    rng = np.random.default_rng(2)
    loc, conf, priors, truth = scene(rng, 3, 1)
    codes = 0.5 * rng.standard_normal((IMAGES, PRIORS, 4)).astype(np.float32)
    codes[:] = codes[0]
    text = "num_classes: 3 code_type: CENTER_SIZE"
    refined = decode(codes[0], *priors, PriorBoxParameter.CENTER_SIZE)
    objectness = np.ones((IMAGES, PRIORS, 2), np.float32)
    two = run_layer(layer_text(text), *bottoms(loc, conf, priors, truth, objectness, codes), dtype=np.float32)
    moved = np.stack([refined, priors[1]])
    one = run_layer(layer_text(text), *bottoms(loc, conf, moved, truth), dtype=np.float32)
    for layer, bottom, top in (one, two):
        layer.backward(top, [True, True] + [False] * len(bottom[2:]), bottom)
    assert one[2][0].data == two[2][0].data
    for i in (0, 1):
        np.testing.assert_array_equal(one[1][i].diff, two[1][i].diff)


def test_bottoms_without_a_gradient(engine):
    """0 where learned layers need one; an error where propagate_down wants one."""
    small = case("code_type: CENTER_SIZE", bottoms=6)
    layer, bottom, top = run_layer(small.text, *small.arrays(), dtype=np.float32)
    for blob in bottom:
        blob.diff[...] = 7
    layer.backward(top, [True] * 6, bottom)
    assert bottom[0].diff.any() and not any(blob.diff.any() for blob in bottom[2:])
    more = "propagate_down: true propagate_down: true propagate_down: true propagate_down: false"
    small = case("", more=more)
    layer, bottom, top = run_layer(small.text, *small.arrays(), dtype=np.float32)
    with pytest.raises(LayerError, match=r"there is no gradient with respect to the priors \(bottom 2\)"):
        layer.backward(top, [True, True, True, False], bottom)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "num_classes must be at least 1, got 0"),
        ("num_classes: 3 background_label_id: 3", "background_label_id must be below num_classes 3, got 3"),
        (
            "num_classes: 3 map_object_to_agnostic: true",
            "map_object_to_agnostic needs num_classes 2 and background_label_id 0, got num_classes 3 and "
            "background_label_id 0",
        ),
        (
            "num_classes: 3 do_neg_mining: false",
            "do_neg_mining: false needs mining_type NONE, got MAX_NEGATIVE",
        ),
        (
            "num_classes: 3 do_neg_mining: true mining_type: NONE",
            "do_neg_mining: true needs mining_type MAX_NEGATIVE or HARD_EXAMPLE, got NONE",
        ),
        ("num_classes: 3 share_location: false", "share_location: false needs mining_type NONE, got MAX_NEGATIVE"),
        (
            "num_classes: 3 mining_type: HARD_EXAMPLE sample_size: 0",
            "sample_size must be at least 1 and neg_pos_ratio finite and not negative, got 0 and 3",
        ),
        (
            "num_classes: 3 neg_pos_ratio: -1",
            "sample_size must be at least 1 and neg_pos_ratio finite and not negative, got 64 and -1",
        ),
    ],
)
def test_parameters_that_are_refused(text, message):
    arrays = bottoms(*scene(np.random.default_rng(0), 3, 1))
    with pytest.raises(LayerError, match=r"^MultiBoxLoss layer 'layer': " + message + "$"):
        build_layer(layer_text(text), *arrays)


@pytest.mark.parametrize(
    "shapes, message",
    [
        ({2: (1, 1, 56)}, r"bottom 2 must be priors (1, 2, P * 4), got (1, 1, 56)"),
        ({3: (1, 1, 7, 7)}, r"bottom 3 must be true boxes (1, 1, M, 8), got (1, 1, 7, 7)"),
        ({0: (3, 52)}, r"bottom 0 must hold 4 numbers for each of 14 priors and 3 images, got (3, 52)"),
        ({1: (2, 42)}, r"bottom 1 must hold 3 numbers for each of 14 priors and 3 images, got (2, 42)"),
        ({4: (3, 14)}, r"bottom 4 must hold 2 numbers for each of 14 priors and 3 images, got (3, 14)"),
        ({5: (3, 14)}, r"bottom 5 must hold 4 numbers for each of 14 priors and 3 images, got (3, 14)"),
        ({0: ()}, r"bottom 0 must be (N, ...), got a scalar, a blob without axes"),
    ],
)
def test_shapes_that_are_refused(shapes, message):
    right = [(3, 56), (3, 42), (1, 2, 56), (1, 1, 7, 8), (3, 28), (3, 56)]
    arrays = [np.zeros(shapes.get(i, shape)) for i, shape in enumerate(right)]
    with pytest.raises(LayerError, match=re.escape(message)):
        build_layer(layer_text("num_classes: 3"), *arrays)


@pytest.mark.parametrize(
    "row, message",
    [
        ([0, 0, 0], "a true box has label 0, that of the background (background_label_id)"),
        ([0, 3, 0], "label 3 is out of range: there are 3 classes, 0 to 2"),
        ([0, -1, 0], "label -1 is out of range: there are 3 classes, 0 to 2"),
        ([3, 1, 0], "a true box is of image 3: there are 3 images, 0 to 2, and -1 for none"),
        ([-2, 1, 0], "a true box is of image -2: there are 3 images, 0 to 2, and -1 for none"),
    ],
)
def test_true_boxes_that_are_refused(row, message, engine):
    loc, conf, priors, truth = scene(np.random.default_rng(0), 3, 1)
    truth[4, :3] = row
    with pytest.raises(LayerError, match=re.escape(f"MultiBoxLoss layer 'layer': {message}")):
        run_layer(layer_text("num_classes: 3"), *bottoms(loc, conf, priors, truth), dtype=np.float32)


@pytest.mark.parametrize("code", ["CENTER_SIZE", "CORNER_SIZE"])
def test_priors_without_width_are_refused_where_boxes_are_decoded(code, engine):
    loc, conf, priors, truth = scene(np.random.default_rng(0), 3, 1)
    priors[0, 5] = [0.25, 0.5, 0.25, 0.75]
    arrays = bottoms(loc, conf, priors, truth)
    text = f"num_classes: 3 code_type: {code}"
    run_layer(layer_text(text), *arrays, dtype=np.float32)  # it matches nothing
    message = f"code_type {code} needs priors with a width and a height above 0, got prior 5, (0.25, 0.5, 0.25, 0.75)"
    with pytest.raises(LayerError, match=re.escape(message)):
        run_layer(layer_text(text + " use_prior_for_matching: false"), *arrays, dtype=np.float32)


def test_variances_that_are_refused(engine):
    loc, conf, priors, truth = scene(np.random.default_rng(0), 3, 1)
    priors[1, 5, 2] = 0
    with pytest.raises(LayerError, match="the variances of priors must be above 0, got 0"):
        run_layer(layer_text("num_classes: 3"), *bottoms(loc, conf, priors, truth), dtype=np.float32)


def test_two_classes_are_an_object_and_the_background():
    """As in RefineDet, where the first stage is trained with the labels of the second."""
    loc, conf, priors, truth = scene(np.random.default_rng(0), 2, 1)
    losses = []
    for label in (1, 5):
        truth[:, 1] = label
        losses.append(float(top_of(layer_text("num_classes: 2"), *bottoms(loc, conf, priors, truth))))
    assert losses[0] == losses[1] > 0
