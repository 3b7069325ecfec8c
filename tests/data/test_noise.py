"""noise_param: order, random points, what it refuses, and its place in the transformation."""

import numpy as np
import pytest

from minicaffe.data import noise
from minicaffe.data.color import bgr_to_hsv, bgr_to_lab, bgr_to_ycrcb
from minicaffe.data.noise import Noise, NoiseDraw
from minicaffe.data.transformer import BatchTransformer
from minicaffe.errors import DataError
from minicaffe.philox import Stream
from minicaffe.proto import caffe_pb2, parse_text


def noise_of(text):
    return Noise(parse_text(text, caffe_pb2.NoiseParameter()))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (3, 20, 24), np.uint8)


def test_the_order_of_the_fork(image):
    every = "inverse: true posterize: true erode: true jpeg: 60 gauss_blur: true decolorize: true convert_to_hsv: true"
    expected = noise.blurred(noise.decolorized(image))
    expected = noise.eroded(noise.recompressed(expected, 60))
    expected = bgr_to_hsv(noise.inverted(noise.posterized(expected)))
    assert np.array_equal(noise_of(every)(image, None), expected)
    assert np.array_equal(noise_of("convert_to_ycrcb: true inverse: true")(image, None), bgr_to_ycrcb(255 - image))
    both = noise_of("convert_to_lab: true convert_to_hsv: true")(image, None)
    assert both.dtype == np.float32 and np.array_equal(both, bgr_to_lab(bgr_to_hsv(image)))


def test_gray_images(image):
    gray = image[:1]
    made = noise_of("gauss_blur: true hist_eq: true clahe: true jpeg: 50 erode: true inverse: true")(gray, None)
    assert made.shape == gray.shape and made.dtype == np.uint8
    assert np.array_equal(noise_of("posterize: true")(gray, None), gray // 64 * 64 + 32)
    for name in ("decolorize", "convert_to_hsv", "convert_to_ycrcb", "convert_to_lab"):
        with pytest.raises(DataError, match=f"noise_param: {name} needs images of 3 channels, got 1"):
            noise_of(f"{name}: true")(gray, None)


def test_one_grey_level(image):
    flat = np.full_like(image, 90)
    assert (noise_of("hist_eq: true")(flat, None) == 90).all()
    one = noise_of("gauss_blur: true hist_eq: true clahe: true erode: true")(image[:, :1, :1], None)
    assert one.shape == (3, 1, 1)


def test_random_points(image):
    text = "saltpepper: true saltpepper_param { fraction: 0.25 value: 0 value: 255 value: 7 }"
    salted, rng = noise_of(text), Stream(3)
    seeds = [salted.draw(rng) for _ in range(2)]
    first, again, second = (salted(image, seed) for seed in (seeds[0], seeds[0], seeds[1]))
    assert np.array_equal(first, again) and not np.array_equal(first, second)
    changed = (first != image).any(0)
    assert 60 < changed.sum() <= 120 and (first[:, changed].T == [0, 255, 7]).all()
    assert not np.array_equal(image, first)  # which is a copy
    one = noise_of("saltpepper: true saltpepper_param { fraction: 1 value: 300 }")
    assert (one(np.zeros((3, 1, 1), np.uint8), NoiseDraw((1, 2), frozenset())) == 300 - 256).all()  # cut to 8 bits
    assert noise_of("inverse: true").draw(rng).seed is None


def test_jolibrains_effects_have_a_probability(image):
    half, rng = noise_of("all_effects: false prob: 0.3 inverse: true posterize: true"), Stream(3)
    drawn = [half.draw(rng).applied for _ in range(2000)]
    for name in ("inverse", "posterize"):
        assert abs(sum(name in each for each in drawn) / 2000 - 0.3) < 0.05
    assert abs(sum(len(each) == 2 for each in drawn) / 2000 - 0.09) < 0.03
    inverse = NoiseDraw(None, frozenset({"inverse"}))
    assert np.array_equal(half(image, inverse), 255 - image)
    assert np.array_equal(half(image, NoiseDraw(None, frozenset())), image)
    assert not any(noise_of("all_effects: false inverse: true").draw(rng).applied for _ in range(9))


def test_all_effects(image):
    every = noise_of("all_effects: true prob: 1")
    assert every.draw(Stream(1)).applied == {*noise._FLAGS} - {"saltpepper", "convert_to_ycrcb"}
    assert "saltpepper" in noise_of("all_effects: true prob: 1 saltpepper_param { value: 3 }").draw(Stream(1)).applied
    assert every(image, every.draw(Stream(1))).dtype == np.uint8
    assert every(image[:1], every.draw(Stream(1))).shape == (1, 20, 24)
    only = every(image, NoiseDraw(None, frozenset({"convert_to_lab"})))
    assert np.array_equal(only, np.rint(bgr_to_lab(image)).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    "points",
    [
        "fraction: 0.5",
        "fraction: 1.5 value: 1",
        "fraction: -1 value: 1",
        "fraction: nan value: 1",
        "fraction: 0.5 value: inf",
        "fraction: 0.5 value: [1, nan, 2]",
    ],
)
def test_points_that_cannot_be_drawn(points):
    with pytest.raises(DataError, match="noise_param: saltpepper needs a fraction from 0 to 1, and one value"):
        noise_of(f"saltpepper: true saltpepper_param {{ {points} }}")


@pytest.mark.parametrize("quality", ["100", "101", "inf"])
def test_the_best_quality_of_a_jpeg(image, quality):
    assert np.array_equal(noise_of(f"jpeg: {quality}")(image, None), noise.recompressed(image, 100))
    assert np.array_equal(noise_of("jpeg: nan")(image, None), image)


def test_other_images_are_refused(image):
    with pytest.raises(DataError, match="expected images of bytes with 1 or 3 channels, got float32 with 3"):
        noise_of("inverse: true")(image.astype(np.float32), None)
    with pytest.raises(DataError, match="expected images of bytes with 1 or 3 channels, got uint8 with 2"):
        noise_of("inverse: true")(image[:2], None)
    with pytest.raises(DataError, match="saltpepper_param must have one value or one per channel, got 2"):
        two = noise_of("saltpepper: true saltpepper_param { fraction: 1 value: 1 value: 2 }")
        two(image, two.draw(Stream(1)))


def test_the_place_in_the_transformation(image):
    """resize_param, noise_param, crop, mean."""
    text = """resize_param { height: 10 width: 12 interp_mode: NEAREST } noise_param { inverse: true } crop_size: 8
        mean_value: 3"""
    transformer = BatchTransformer(parse_text(text, caffe_pb2.TransformationParameter()), False, Stream(0))
    assert transformer.on_host_only
    out = np.empty((1, 3, 8, 8), np.float32)
    transformer.transform(image[None], out)
    assert np.array_equal(out[0], 252 - image[:, ::2, ::2][:, 1:9, 2:10].astype(np.float32))


def test_points_do_not_depend_on_how_work_is_distributed(image):
    text = "noise_param { saltpepper: true saltpepper_param { fraction: 0.1 value: 9 } }"
    images, results = np.stack([image, image]), []
    for order in (lambda count: range(count), lambda count: reversed(range(count))):
        transformer = BatchTransformer(parse_text(text, caffe_pb2.TransformationParameter()), True, Stream(4))
        out = np.empty(images.shape, np.float32)
        transformer.transform(images, out, lambda task, count, order=order: [task(i) for i in order(count)])
        results.append(out)
    assert np.array_equal(*results) and not np.array_equal(*results[0])
