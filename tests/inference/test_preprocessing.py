"""Preprocessing against the data layers whose work it does, bit for bit, and what cannot be one."""

import numpy as np
import pytest
from PIL import Image

import minicaffe
from helpers.nets import net_from_text
from minicaffe import TEST
from minicaffe.data.datum import array_to_datum
from minicaffe.data.db import open_db
from minicaffe.data.image import read_image
from minicaffe.data.mean import write_mean
from minicaffe.data.workers import Workers
from minicaffe.errors import DataError
from minicaffe.inference.preprocessing import Block, Preprocessing, read_block
from minicaffe.proto import caffe_pb2, parse_text

SIZES = [(40, 30), (30, 40), (33, 33), (64, 48)]


@pytest.fixture
def pictures(tmp_path):
    """Four images of different sizes, one of them gray, and a list of them."""
    rng = np.random.default_rng(0)
    paths = []
    for i, (height, width) in enumerate(SIZES):
        pixels = rng.integers(0, 256, (height, width, 3) if i != 2 else (height, width), np.uint8)
        paths.append(tmp_path / f"{i}.{'jpg' if i % 2 else 'png'}")
        Image.fromarray(pixels).save(paths[-1])
    (tmp_path / "list.txt").write_text("".join(f"{path} {i}\n" for i, path in enumerate(paths)))
    return paths


def image_data(tmp_path, rest):
    text = f"""layer {{ name: "data" type: "ImageData" top: "data" top: "label"
      image_data_param {{ source: "{tmp_path}/list.txt" batch_size: 4 {rest[0]} }} transform_param {{ {rest[1]} }} }}"""
    (tmp_path / "train_val.prototxt").write_text(text)
    return net_from_text(text, TEST).forward()["data"]


@pytest.mark.parametrize(
    ("reading", "transform"),
    [
        ("new_height: 32 new_width: 28", ""),
        ("new_height: 32 new_width: 28", "crop_size: 24 mean_value: 104 mean_value: 117 mean_value: 123"),
        ("new_height: 32 new_width: 28", "crop_h: 20 crop_w: 15 mean_value: 100 scale: 0.017"),
        ("new_height: 32 new_width: 28", "mean_file: 'MEAN' crop_size: 25 scale: 0.5"),
        ("new_height: 32 new_width: 28 is_color: false", "mean_value: 33"),
        ("", "crop_size: 30 scale: 0.00390625"),
        ("", "resize_param { height: 20 width: 26 resize_mode: FIT_LARGE_SIZE_AND_PAD pad_value: 7 } mean_value: 9"),
        ("", "resize_param { height: 20 width: 20 resize_mode: FIT_SMALL_SIZE interp_mode: CUBIC } crop_size: 20"),
        ("new_height: 32 new_width: 28", "noise_param { hist_eq: true erode: true convert_to_hsv: true } scale: 0.5"),
    ],
)
def test_equal_to_image_data_bit_for_bit(tmp_path, pictures, reading, transform):
    write_mean(tmp_path / "m.binaryproto", np.random.default_rng(1).uniform(0, 255, (3, 32, 28)))
    expected = image_data(tmp_path, (reading, transform.replace("MEAN", f"{tmp_path}/m.binaryproto")))
    block = read_block(tmp_path / "train_val.prototxt", ["data"])
    preprocessing = Preprocessing(block, expected.shape)
    images = [preprocessing.read(path) for path in pictures]
    for each in ({}, {"each": Workers(3).each}):
        assert np.array_equal(preprocessing.batch(images, **each), expected)
    assert preprocessing.batch(images).dtype == np.float32


def test_equal_to_a_data_layer_of_records(tmp_path):
    rng = np.random.default_rng(2)
    records = rng.integers(0, 256, (5, 3, 12, 10), np.uint8)
    with open_db(tmp_path / "db", "lmdb", "w") as database:
        for i, record in enumerate(records):
            database.put(f"{i:03d}", array_to_datum(record, i).SerializeToString())
    text = f"""layer {{ name: "set" type: "Data" top: "images" top: "label" include {{ stage: "deploy" }}
      data_param {{ source: "{tmp_path}/db" batch_size: 5 backend: LMDB }}
      transform_param {{ crop_size: 8 mean_value: 100 scale: 0.1 mirror: false }} }}"""
    (tmp_path / "net.prototxt").write_text(text)
    block = read_block(tmp_path / "net.prototxt", ["data"], stages=["deploy"])
    assert (block.param.new_height, block.param.new_width) == (12, 10)
    preprocessing = Preprocessing(block, (1, 3, 8, 8))
    expected = minicaffe.Net(str(tmp_path / "net.prototxt"), phase=TEST, stages=["deploy"]).forward()["images"]
    assert np.array_equal(preprocessing.batch([preprocessing.resized(record) for record in records]), expected)
    with pytest.raises(DataError, match="no preprocess block and, in TEST, no data layer"):
        read_block(tmp_path / "net.prototxt", ["data"])


def block(text):
    return Block(parse_text(text, caffe_pb2.PreprocessParameter()), "here")


@pytest.mark.parametrize(
    ("text", "shape", "size"),
    [
        ("new_height: 9 new_width: 8 transform_param { crop_size: 7 }", (1, 3, 7, 7), (9, 8)),
        ("transform_param { crop_size: 7 mean_file: 'MEAN' }", (1, 3, 7, 7), (12, 11)),
        ("transform_param { crop_size: 7 }", (1, 3, 7, 7), (7, 7)),
        ("", (1, 3, 5, 6), (5, 6)),
        ("transform_param { resize_param { height: 5 width: 6 } }", (1, 3, 5, 6), None),
    ],
)
def test_where_the_size_comes_from(tmp_path, text, shape, size):
    write_mean(tmp_path / "m", np.zeros((3, 12, 11)))
    assert Preprocessing(block(text.replace("MEAN", str(tmp_path / "m"))), shape).size == size


def test_a_block_of_its_own_and_one_in_a_deploy_prototxt(tmp_path):
    own = "preprocess { new_height: 6 new_width: 7 channel_order: RGB transform_param { mean_value: 3 } }\n"
    (tmp_path / "own.prototxt").write_text(own)
    net = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 7 } } }'
    (tmp_path / "deploy.prototxt").write_text(own + net)
    for name in ("own.prototxt", "deploy.prototxt"):
        found = read_block(tmp_path / name)
        assert found.origin == f"preprocess block of {tmp_path / name}"
        assert Preprocessing(found, (1, 3, 6, 7)).order == "RGB"
    assert list(minicaffe.Net(str(tmp_path / "deploy.prototxt"), phase=TEST).blobs) == ["data"]


def test_the_order_of_channels(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (4, 5, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "i.png")
    data = (tmp_path / "i.png").read_bytes()
    bgr = Preprocessing(Block(), (1, 3, 4, 5))
    rgb = Preprocessing(Block().changed(rgb=True), (1, 3, 4, 5))
    gray = Preprocessing(Block(), (1, 1, 4, 5))
    assert np.array_equal(bgr.decode(data), pixels.transpose(2, 0, 1)[::-1])
    assert np.array_equal(rgb.decode(data), pixels.transpose(2, 0, 1))
    assert np.array_equal(gray.decode(data), read_image(tmp_path / "i.png", color=False))
    assert [each.order for each in (bgr, rgb, gray)] == ["BGR", "RGB", ""]
    assert bgr.describe() == (
        "preprocessing (no preprocessing given): resized to 4x5, no mean, times 1; channels BGR, as ImageData and "
        "convert_imageset store them; a net trained on RGB records, such as CIFAR-10's own, needs --rgb"
    )
    assert "channels RGB; a net trained through" in rgb.describe()
    assert gray.describe().endswith("times 1; channels gray")


def test_changes_of_a_block():
    changed = block("transform_param { mean_file: 'absent' crop_size: 4 }").changed((8, 9), [1.0, 2.0, 3.0], rgb=True)
    assert changed.origin == "here, size 8x9, other mean values, channels RGB"
    made = Preprocessing(changed, (2, 3, 4, 4))
    expected = "resized to 8x9, the central 4x4, minus the mean 1, 2, 3, times 1; channels RGB"
    assert expected in made.describe()


@pytest.mark.parametrize(
    ("text", "shape", "error"),
    [
        ("new_height: 9", (1, 3, 9, 9), "here: new_height and new_width must be given together, got 9 and 0"),
        ("transform_param { crop_size: 7 }", (1, 3, 8, 8), "here: images become 3x7x7, but .* 'data' reads 3x8x8"),
        ("transform_param { mean_file: 'absent' }", (1, 3, 8, 8), "here: cannot read mean file absent"),
        ("transform_param { mean_value: 1 mean_value: 2 }", (1, 3, 8, 8), "here: .*got 2 for 3 channels"),
        ("new_height: 6 new_width: 6 transform_param { crop_size: 8 }", (1, 3, 8, 8), "here: .*larger than the image"),
        ("", (1, 10), r"input 'data' of the net has shape \(1, 10\)"),
    ],
)
def test_what_is_refused(text, shape, error):
    with pytest.raises(DataError, match=error):
        Preprocessing(block(text), shape)


def test_images_that_do_not_fit(tmp_path, pictures):
    keeps = Block(block("transform_param { crop_size: 31 }").param, "here", keeps_size=True)
    preprocessing = Preprocessing(keeps, (1, 3, 31, 31))
    with pytest.raises(DataError, match="image 0 of the batch: .*crop 31x31 is larger than the image, 40x30"):
        preprocessing.batch([preprocessing.read(pictures[0])])
    with pytest.raises(DataError, match=r"image 1 of the batch: its shape 1x33x33 gives 1x31x31, but .* reads 3x31x31"):
        preprocessing.batch([np.zeros((3, 33, 33)), np.zeros((1, 33, 33))])
    with pytest.raises(DataError, match="but the net's input 'data' reads 5: give arrays or records"):
        Preprocessing(Block(), (1, 5, 4, 4)).read(pictures[0])


def test_of_several_data_layers_the_input_decides(tmp_path):
    layers = [f'layer {{ name: "{n}" type: "Data" top: "{n}" transform_param {{ scale: {i} }} }}'
              for i, n in enumerate("ab", 2)]  # fmt: skip
    (tmp_path / "two.prototxt").write_text("\n".join(layers))
    assert read_block(tmp_path / "two.prototxt", ["b"]).param.transform_param.scale == 3
    with pytest.raises(DataError, match="has several data layers: 'a', 'b'"):
        read_block(tmp_path / "two.prototxt", ["c"])
