"""BatchTransformer compared with a loop over pixels, and its errors."""

import os
import re

import numpy as np
import pytest

from minicaffe.core.random import Stream
from minicaffe.data.mean import read_mean, write_mean
from minicaffe.data.transformer import BatchTransformer
from minicaffe.errors import DataError
from minicaffe.proto import caffe_pb2, parse_text


def make(text="", train=True, seed=1):
    param = parse_text(text, caffe_pb2.TransformationParameter())
    return BatchTransformer(param, train, Stream(seed))


def run(transformer, images):
    out = np.full((len(images), *transformer.output_shape(images[0].shape)), np.nan, np.float32)
    transformer.transform(images, out)
    return out


def by_hand(images, plan, crop, mean, scale):
    """Transform an image with a loop over pixels; mean (C, H, W)."""
    result = np.empty((len(images), images.shape[1], crop, crop), np.float32)
    for n, c, h, w in np.ndindex(*result.shape):
        y, x = plan.top[n] + h, plan.left[n] + w
        column = crop - 1 - w if plan.flip[n] else w
        result[n, c, h, column] = (np.float32(images[n, c, y, x]) - mean[c, y, x]) * np.float32(scale)
    return result


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 3, 9, 9), dtype=np.uint8)


@pytest.fixture
def mean_file(tmp_path):
    write_mean(tmp_path / "mean.binaryproto", np.random.default_rng(1).random((3, 9, 9)) * 255)
    return tmp_path / "mean.binaryproto"


def test_nothing_to_do_is_a_copy(images):
    assert np.array_equal(run(make(), images), images.astype(np.float32))
    assert np.array_equal(run(make(), images / np.float32(3)), images / np.float32(3))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("mirror", ["", "mirror: true"])
@pytest.mark.parametrize("crop", [5, 9])
def test_against_a_plain_loop(images, mean_file, train, mirror, crop):
    text = f'crop_size: {crop} scale: 0.25 mean_file: "{mean_file}" {mirror}'
    plan = make(text, train).plan(20, 9, 9)
    expected = by_hand(images, plan, crop, read_mean(mean_file), 0.25)
    assert np.allclose(run(make(text, train), images), expected, rtol=1e-6, atol=1e-6)


def test_crops_are_random_in_train_and_central_in_test():
    plan = make("crop_size: 5").plan(2000, 9, 8)
    assert set(plan.top) == set(range(5)) and set(plan.left) == set(range(4))
    assert np.bincount(plan.top).min() > 300
    plan = make("crop_size: 5", train=False).plan(10, 9, 8)
    assert set(plan.top) == {2} and set(plan.left) == {1}


@pytest.mark.parametrize("train", [True, False])
def test_mirror_flips_half_in_both_phases(train):
    assert 0.45 < make("mirror: true", train).plan(4000, 4, 4).flip.mean() < 0.55


def test_mean_values(images):
    for text, mean in (("mean_value: 100", 100), ("mean_value: 1 mean_value: 2 mean_value: 3", np.array([1, 2, 3]))):
        expected = images - np.float32(mean).reshape(-1, 1, 1)
        assert np.array_equal(run(make(text), images), expected)


def test_a_stream_set_back_gives_the_same_numbers(images):
    text = "crop_size: 4 mirror: true"
    transformer = make(text)
    run(transformer, images)
    state = transformer.rng.get_state()
    second = run(transformer, images)
    other = make(text, seed=9)
    other.rng.set_state(state)
    assert np.array_equal(run(other, images), second)


def test_images_of_different_sizes(images):
    ragged = [images[0], images[1, :, :7], images[2, :, :, :6]]
    out = run(make("crop_size: 5", train=False), ragged)
    assert np.array_equal(out[1], images[1, :, 1:6, 2:7]) and np.array_equal(out[2], images[2, :, 2:7, 0:5])
    with pytest.raises(DataError, match=r"image 1 of the batch has shape \(3, 7, 9\).*need crop_size"):
        run(make(), ragged)


@pytest.mark.parametrize(
    "text, shape",
    [
        ("height: 4 width: 6", (3, 4, 6)),
        ("resize_mode: FIT_SMALL_SIZE height: 4 width: 6", (3, 6, 6)),
        ("resize_mode: FIT_LARGE_SIZE_AND_PAD height: 5 width: 11 pad_value: 7", (3, 5, 11)),
        ("resize_mode: FIT_LARGE_SIZE_AND_PAD height: 5 width: 11 pad_mode: MIRRORED", (3, 5, 11)),
        ("height: 18 width: 18 interp_mode: NEAREST", (3, 18, 18)),
    ],
)
def test_resize_param(images, text, shape):
    out = run(make(f"resize_param {{ {text} }}"), images)
    assert out.shape == (20, *shape) and np.isfinite(out).all()
    if "pad_value" in text:
        assert (out[..., :3] == 7).all() and (out[..., 8:] == 7).all() and not (out[..., 3:8] == 7).all()
    if "NEAREST" in text:
        assert np.array_equal(out, images.repeat(2, 2).repeat(2, 3))


def test_one_of_several_policies_is_drawn_for_each_image(images):
    text = "crop_size: 4 resize_param { prob: 0.3 height: 4 width: 4 } resize_param { prob: 0.1 height: 9 width: 9 }"
    many = images[:1].repeat(2000, 0)
    small = run(make("resize_param { height: 4 width: 4 }"), images[:1])[0]
    share = (run(make(text, train=False), many) == small).all((1, 2, 3)).mean()
    assert abs(share - 0.75) < 0.05
    inverse = run(make("noise_param { prob: 0.2 inverse: true } noise_param { prob: 0.8 }"), many) == 255 - images[0]
    assert abs(inverse.all((1, 2, 3)).mean() - 0.2) < 0.05
    with pytest.raises(DataError, match=r"noise_param: of several, .* not all 0, got 0, 0$"):
        make("noise_param { } noise_param { }")


def test_random_crops_in_test(images):
    text = "crop_size: 3 random_crop_on_test: true"
    assert np.array_equal(run(make(text, train=False), images), run(make("crop_size: 3"), images))


def test_turns(images):
    """Every combination of a flip, upside down, and quarters, clockwise, is as likely."""
    many = images[:1].repeat(800, 0)
    out = run(make("vertical_mirror: true random_90_deg_rot: true scale: 2"), many)
    flipped = images[0, :, ::-1] * np.float32(2), images[0] * np.float32(2)
    turned = [np.rot90(each, -quarters, (1, 2)) for each in flipped for quarters in range(4)]
    counts = [int((out == each).all((1, 2, 3)).sum()) for each in turned]
    assert sum(counts) == 800 and min(counts) > 60
    assert set(run(make("vertical_mirror: true"), many)[:, 0, 0, 0]) == {images[0, 0, 0, 0], images[0, 0, -1, 0]}
    with pytest.raises(DataError, match="random_90_deg_rot needs square images after the crop, got 9x5"):
        run(make("random_90_deg_rot: true crop_w: 5"), images)


def test_a_mean_of_the_wrong_shape_names_both(tmp_path):
    write_mean(tmp_path / "mean.binaryproto", np.zeros((3, 8, 8)))
    transformer = make(f'mean_file: "{tmp_path}/mean.binaryproto"')
    with pytest.raises(DataError, match=r"mean.binaryproto has shape \(3, 8, 8\), but the images \(3, 9, 9\)"):
        run(transformer, np.zeros((1, 3, 9, 9), np.uint8))
    with pytest.raises(DataError, match="mean_value must be given once or once per channel: got 2 for 3 channels"):
        run(make("mean_value: 1 mean_value: 2"), np.zeros((1, 3, 9, 9), np.uint8))


def test_contradictions_are_refused(tmp_path):
    with pytest.raises(DataError, match="mean_file and mean_value cannot both be given"):
        make('mean_file: "m" mean_value: 1')
    with pytest.raises(DataError, match="force_color and force_gray cannot both be set"):
        make("force_color: true force_gray: true")
    with pytest.raises(DataError, match="crop 5x5 is larger than the image, 4x9"):
        make("crop_size: 5").output_shape((3, 4, 9))
    with pytest.raises(DataError, match="resize_param: height and width must be positive, got 0 and 4"):
        make("resize_param { width: 4 }").output_shape((3, 4, 9))


def test_mean_files_that_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=re.escape(f"No such file or directory (looked in {os.getcwd()})")):
        read_mean("none")
    with pytest.raises(DataError, match="cannot read mean file .*none: No such file"):
        read_mean(tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"\xff\xff")
    with pytest.raises(DataError, match="mean file .*bad is no BlobProto"):
        read_mean(tmp_path / "bad")
    blob = caffe_pb2.BlobProto(num=1, channels=3, height=2, width=2, data=[1.0])
    (tmp_path / "short").write_bytes(blob.SerializeToString())
    with pytest.raises(DataError, match=r"short holds 1 values for shape \(1, 3, 2, 2\)"):
        read_mean(tmp_path / "short")
