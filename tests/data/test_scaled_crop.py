"""TSN's crops of several sizes and at fixed places, and the mirroring of flow."""

import numpy as np
import pytest

from minicaffe.data.image import resize
from minicaffe.data.scaled_crop import scaled_crop
from minicaffe.data.transformer import BatchTransformer
from minicaffe.errors import DataError
from minicaffe.philox import Stream
from minicaffe.proto import caffe_pb2, parse_text


def transform_param(text):
    return parse_text(text, caffe_pb2.TransformationParameter())


def crops(text, crop=(224, 224)):
    return scaled_crop(transform_param(text), crop)


def test_sizes_of_crops():
    assert crops("fix_crop: true").sizes(256, 340) == [(224, 224)]
    sides = [256, 224, 192, 168]
    near = [(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]
    assert crops("multi_scale: true").sizes(256, 340) == near
    ratios = "multi_scale: true max_distort: 0 scale_ratios: [1, .5]"
    assert crops(ratios, (8, 8)).sizes(17, 40) == [(17, 17), (8, 8)]
    assert crops(ratios, (10, 6)).sizes(17, 40) == [(17, 17), (10, 6)]  # sides that are near those of the crop
    assert crops("mirror: true") is None and crops("multi_scale: true", (0, 0)) is None


@pytest.mark.parametrize(("more", "count"), [("", 5), ("more_fix_crop: true", 13)])
def test_fixed_places(more, count):
    rng, crop = Stream(0), crops(f"fix_crop: true {more}", (4, 4))
    places = {crop.draw(rng, 13, 21)[:2] for _ in range(400)}
    assert len(places) == count and {(0, 0), (0, 16), (8, 0), (8, 16), (4, 8)} <= places
    if more:
        assert {(0, 8), (8, 8), (4, 0), (4, 16), (2, 4), (2, 12), (6, 4), (6, 12)} <= places


def test_crops_in_training_are_resized_parts():
    text = "crop_size: 8 multi_scale: true scale_ratios: 1 scale_ratios: .5 mean_value: 3 scale: 2"
    images = np.random.default_rng(0).integers(0, 256, (6, 2, 16, 20), dtype=np.uint8)
    transformer = BatchTransformer(transform_param(text), True, Stream(1))
    out = np.empty((6, 2, 8, 8), np.float32)
    transformer.transform(images, out)
    crop, rng = transformer.scaled_crop, Stream(1)
    parts = [crop.draw(rng, 16, 20) for _ in images]
    expected = [(resize(part.of(image), 8, 8).astype(np.float32) - 3) * 2 for image, part in zip(images, parts)]
    np.testing.assert_array_equal(out, expected)
    assert len({part[2:] for part in parts}) > 1
    centre = BatchTransformer(transform_param(text), False, Stream(1))
    centre.transform(images, out)
    np.testing.assert_array_equal(out, (images[:, :, 4:12, 6:14].astype(np.float32) - 3) * 2)


def test_flow_is_reversed_where_it_is_mirrored():
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 3, 5), dtype=np.uint8)
    text = "mirror: true is_flow: true mean_value: 128 scale: .5"
    out = np.empty(images.shape, np.float32)
    flip = BatchTransformer(transform_param(text), True, Stream(3)).transform(images, out).flip
    assert 0 < flip.sum() < 20
    for image, y, flipped in zip(images.astype(np.float32), out, flip):
        if flipped:
            image = image[..., ::-1].copy()
            image[::2] = 255 - image[::2]
        np.testing.assert_array_equal(y, (image - 128) / 2)
    text = "mirror: true is_flow: true"
    BatchTransformer(transform_param(text), True, Stream(3)).transform(images, out)
    np.testing.assert_array_equal(out[flip][:, 1::2], images[flip][:, 1::2, :, ::-1])
    np.testing.assert_array_equal(out[flip][:, ::2], 255 - images[flip][:, ::2, :, ::-1].astype(np.float32))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("crop_size: 8 fix_crop: true mean_file: 'm'", "multi_scale and fix_crop need mean_value instead of mean_file"),
        ("crop_size: 8 multi_scale: true scale_ratios: 2", "scale_ratios must be above 0, and at most 1"),
        ("crop_size: 30 fix_crop: true", "crop 30x30 is larger than the image, 16x20"),
    ],
)
def test_errors(text, words):
    with pytest.raises(DataError, match=words):
        crop = scaled_crop(transform_param(text), (30, 30))
        crop.draw(Stream(0), 16, 20)
