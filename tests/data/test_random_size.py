"""Sizes drawn at random: Intel's and NVIDIA's fields of transform_param."""

import numpy as np
import pytest

from minicaffe.data.image import resize
from minicaffe.data.mean import write_mean
from minicaffe.data.random_size import random_size_of
from minicaffe.data.transformer import BatchTransformer
from minicaffe.errors import DataError
from minicaffe.philox import Stream
from minicaffe.proto import caffe_pb2, parse_text


def param(text):
    return parse_text(f"crop_size: 8 {text}", caffe_pb2.TransformationParameter())


def drawn(text, height, width, count=400):
    sizes, rng = random_size_of(param(text), (8, 8)), Stream(3)
    return [sizes.draw(rng, height, width) for _ in range(count)]


def transformed(text, images):
    transformer = BatchTransformer(param(text), False, Stream(1))
    out = np.full((len(images), *transformer.output_shape(images[0].shape)), np.nan, np.float32)
    transformer.transform(images, out)
    return out


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (3, 20, 30), np.uint8)


def test_the_shorter_side():
    sizes = {each.size for each in drawn("random_resize_param { min_size: 10 max_size: 12 }", 20, 31)}
    assert sizes == {(10, 15), (11, 17), (12, 18)}  # 31 / 20 of the side, rounded down
    assert {each.size for each in drawn("random_resize_param { min_size: 9 max_size: 9 }", 31, 20)} == {(13, 9)}
    assert {min(each.size) for each in drawn("random_resize_param { }", 10, 12)} == {10, 11, 12}
    modes = drawn("random_resize_param { min_size: 9 max_size: 9 resize_param { interp_mode: CUBIC } }", 31, 20)
    assert {each.mode for each in modes} == {"CUBIC"}


def test_a_part_of_random_area_and_ratio():
    text = "random_aspect_ratio_param { min_area_ratio: 0.25 max_area_ratio: 0.5 aspect_ratio_change: 0.8 }"
    for each in drawn(text, 40, 60):
        (height, width), area = each.part, np.prod(each.part) / 2400
        assert each.size == (8, 8) and 0.22 < area <= 0.5 and 0.6 < height / width < 1.7
        assert 0 <= each.top <= 40 - height and 0 <= each.left <= 60 - width
    tall = [each.part[0] > each.part[1] for each in drawn(text, 60, 60)]
    assert 120 < sum(tall) < 280
    # no part of the area of this picture and of such a ratio is inside
    outside = drawn("random_aspect_ratio_param { min_area_ratio: 1 aspect_ratio_change: 1 }", 10, 40)
    assert {(each.part, each.size) for each in outside} == {((10, 40), (8, 32))}


def test_nvidias_sizes():
    side = drawn("img_rand_resize_lower: 10 img_rand_resize_upper: 12", 20, 30)
    assert {each.size for each in side} == {(10, 15), (11, 17), (12, 18)}  # 16.5 is rounded up
    ratio = drawn("rand_resize_ratio_lower: 1.5 rand_resize_ratio_upper: 2 allow_upscale: true", 20, 20)
    assert {min(each.size) for each in ratio} == {20} and {max(each.size) for each in ratio} == set(range(30, 41))
    assert 120 < sum(each.size[0] > 20 for each in ratio) < 280
    stretch = drawn("vertical_stretch_lower: 0.1 vertical_stretch_upper: 2 horizontal_stretch_upper: 1", 20, 30)
    assert {each.size[0] for each in stretch} == set(range(8, 21)) and {each.size[1] for each in stretch} == {30}
    assert {each.mode for each in stretch} == {"NEAREST"}
    larger = drawn("vertical_stretch_lower: 2 vertical_stretch_upper: 2 allow_upscale: true", 20, 30)
    assert {(each.size, each.mode) for each in larger} == {((40, 30), "CUBIC")}


def test_images_are_resized_cropped_and_padded(image):
    out = transformed(
        "random_resize_param { min_size: 10 max_size: 10 } mean_value: 7 pad: 2", [image, image[:, :, :25]]
    )
    assert out.shape == (2, 3, 12, 12) and not out[..., :2].any() and not out[:, :, 10:].any()
    assert np.array_equal(out[0, :, 2:10, 2:10], resize(image, 10, 15)[:, 1:9, 3:11] - np.float32(7))
    assert np.array_equal(out[1, :, 2:10, 2:10], resize(image[:, :, :25], 10, 12)[:, 1:9, 2:10] - np.float32(7))
    out = transformed("img_rand_resize_lower: 9 img_rand_resize_upper: 9 interpolation_algo_down: INTER_AREA", [image])
    assert np.array_equal(out[0], resize(image, 9, 14, "AREA")[:, 0:8, 3:11])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("random_resize_param { min_size: 9 max_size: 8 }", "min_size must not be above max_size, got 9 and 8"),
        ("random_aspect_ratio_param { max_area_ratio: 2 }", "needs 0 < min_area_ratio <= max_area_ratio <= 1 and"),
        ("img_rand_resize_lower: 9 img_rand_resize_upper: 8", "img_rand_resize_lower must not be above img_rand"),
        ("crop_size: 0 vertical_stretch_upper: 2", "images of random sizes need crop_size"),
    ],
)
def test_errors(text, message):
    text = text if "crop_size" in text else f"crop_size: 8 {text}"
    with pytest.raises(DataError, match=message):
        read = parse_text(text, caffe_pb2.TransformationParameter())
        random_size_of(read, (read.crop_size, read.crop_size))


def test_the_centre_of_the_mean_file_is_subtracted(image, tmp_path):
    """As in NVIDIA's fork: of a size that is drawn anew, no other part of the file fits."""
    mean = np.arange(3 * 12 * 11, dtype=np.float32).reshape(3, 12, 11)
    write_mean(tmp_path / "m", mean)
    size = f"img_rand_resize_lower: 9 img_rand_resize_upper: 20 mean_file: '{tmp_path}/m'"
    out, plain = (transformed(text, [image, image[:, :, :25]]) for text in (size, size.partition("mean_file")[0]))
    assert np.array_equal(out, plain - mean[:, 2:10, 1:9])
    write_mean(tmp_path / "m", mean[:, :7])
    with pytest.raises(DataError, match=r"m has shape \(3, 7, 11\), smaller than the crop, \(8, 8\)"):
        transformed(size, [image])
