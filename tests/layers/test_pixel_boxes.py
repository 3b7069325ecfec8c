"""Boxes whose last pixel belongs to them, by plain loops."""

import math

import numpy as np

from minicaffe.layers.shared.pixel_boxes import decode_pixels, encode_pixels, pixel_overlaps


def some_boxes(count, seed):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(-5, 30, (count, 2)).round(), rng.integers(0, 20, (count, 2))
    return np.concatenate([corner, corner + size], 1)


def test_overlaps_count_pixels():
    these, those = some_boxes(6, 0), some_boxes(9, 1)

    def pixels(box):
        x1, y1, x2, y2 = map(int, box)
        return {(x, y) for x in range(x1, x2 + 1) for y in range(y1, y2 + 1)}

    expected = [[len(pixels(a) & pixels(b)) / len(pixels(a) | pixels(b)) for b in those] for a in these]
    np.testing.assert_allclose(pixel_overlaps(these, those), expected, rtol=1e-15)


def test_codes_against_the_formulas():
    boxes, priors = some_boxes(7, 2), some_boxes(7, 3)
    for code, (x1, y1, x2, y2), (px1, py1, px2, py2) in zip(encode_pixels(boxes, priors), boxes, priors):
        w, h = px2 - px1 + 1, py2 - py1 + 1
        dx = (x1 + (x2 - x1 + 1) / 2 - px1 - w / 2) / w
        dy = (y1 + (y2 - y1 + 1) / 2 - py1 - h / 2) / h
        np.testing.assert_allclose(code, [dx, dy, math.log((x2 - x1 + 1) / w), math.log((y2 - y1 + 1) / h)], atol=1e-14)


def test_a_decoded_box_ends_one_pixel_further():
    boxes, priors = some_boxes(7, 4), some_boxes(7, 5)
    np.testing.assert_allclose(decode_pixels(encode_pixels(boxes, priors), priors), boxes + [0, 0, 1, 1], atol=1e-12)


def test_codes_of_several_classes_share_the_prior():
    codes, priors = np.random.default_rng(6).standard_normal((3, 2, 4)), some_boxes(3, 7)
    each = [decode_pixels(codes[:, k], priors) for k in range(2)]
    np.testing.assert_array_equal(decode_pixels(codes, priors[:, None]), np.stack(each, 1))


def test_the_type_is_kept():
    boxes, priors = some_boxes(4, 8).astype(np.float32), some_boxes(4, 9).astype(np.float32)
    codes = encode_pixels(boxes, priors)
    assert {x.dtype for x in (codes, decode_pixels(codes, priors), pixel_overlaps(boxes, priors))} == {boxes.dtype}
