"""ImageData: lists, labels, sizes, shuffles, and lists or pictures that cannot be read."""

import numpy as np
import pytest
from PIL import Image

from helpers.readers import data_layer
from minicaffe.errors import DataError, LayerError

PIXELS = np.random.default_rng(4).integers(0, 256, (5, 6, 8, 3), dtype=np.uint8)  # (H, W, RGB)


@pytest.fixture
def folder(tmp_path):
    lines = []
    for index, pixels in enumerate(PIXELS):
        name = f"image {index}.png"
        Image.fromarray(pixels).save(tmp_path / name)
        lines.append(f"{name} {index * 10}\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    return tmp_path


def set_up(folder, text="", transform="", batch_size=2):
    return data_layer(
        f'name: "images" type: "ImageData" transform_param {{ {transform} }} image_data_param {{ '
        f'source: "{folder}/list.txt" root_folder: "{folder}/" batch_size: {batch_size} {text} }}'
    )


def labels_of(layer, blobs, count):
    result = []
    for _ in range(count):
        layer.forward([], blobs)
        result += blobs[1].data.tolist()
    return result


def test_blue_first_planes_in_the_order_of_the_list(folder):
    layer, blobs = set_up(folder)
    layer.forward([], blobs)
    assert np.array_equal(blobs[0].data, PIXELS[:2, :, :, ::-1].transpose(0, 3, 1, 2))
    assert blobs[1].data.tolist() == [0, 10]
    assert labels_of(layer, blobs, 3) == [20, 30, 40, 0, 10, 20]


def test_gray_and_resized(folder):
    layer, blobs = set_up(folder, "is_color: false")
    assert blobs[0].shape == (2, 1, 6, 8)
    layer, blobs = set_up(folder, "new_height: 3 new_width: 4")
    layer.forward([], blobs)
    assert blobs[0].shape == (2, 3, 3, 4)
    blue = PIXELS[0, :, :, 2].astype(float)
    assert np.abs(blobs[0].data[0, 0] - blue.reshape(3, 2, 4, 2).mean((1, 3))).max() <= 0.5  # half the size


def test_images_of_different_sizes_need_a_crop(folder):
    Image.fromarray(PIXELS[1, :5]).save(folder / "image 1.png")
    layer, blobs = set_up(folder, transform="crop_size: 4")
    layer.forward([], blobs)
    assert blobs[0].shape == (2, 3, 4, 4)
    layer, blobs = set_up(folder)
    with pytest.raises(DataError, match="ImageData layer 'images': image 1 of the batch .* need crop_size"):
        layer.forward([], blobs)


def test_shuffle_gives_a_new_order_every_round_and_can_be_resumed(folder):
    layer, blobs = set_up(folder, "shuffle: true", batch_size=5)
    rounds = [labels_of(layer, blobs, 1) for _ in range(5)]
    assert all(sorted(r) == [0, 10, 20, 30, 40] for r in rounds)
    assert len({tuple(r) for r in rounds}) > 1
    state = layer.state()
    expected = labels_of(layer, blobs, 3)
    other, other_blobs = set_up(folder, "shuffle: true", batch_size=5)
    other.load_state(state)
    assert labels_of(other, other_blobs, 3) == expected


def test_rand_skip_starts_within_the_first_entries(folder):
    starts = {labels_of(*set_up(folder, "rand_skip: 3", batch_size=1), 1)[0] for _ in range(40)}
    assert starts == {0, 10, 20}


@pytest.mark.parametrize("content, sentence", [
    ("", "image list .*list.txt is empty"),
    ("a.png 1\nb.png cat\n", 'list.txt, line 2: expected "path label" with a whole number as label, got \'b.png cat\''),
    ("a.png 1\nb.png 4000000000\n", "list.txt, line 2: label 4000000000 is beyond 32 bits"),
    ("7\n", 'list.txt, line 1: expected "path label" with a whole number as label, got \'7\''),
    ("a.png 1\0\n", "image list .*list.txt must be text, but it is a binary file"),
    ("a.png " + "9" * 5000, "list.txt, line 1: label 9{100} is beyond 32 bits"),
    ("x" * 5000, "list.txt, line 1: .* as label, got 'x{100}...': there is no label behind the path$"),
    ("none.png 1\n", "cannot read image .*none.png: No such file"),
    ("list.txt 1\n", "cannot decode .*list.txt"),
])  # fmt: skip
def test_bad_lists(folder, content, sentence):
    (folder / "list.txt").write_text(content)
    with pytest.raises(DataError, match=f"ImageData layer 'images': .*{sentence}"):
        set_up(folder)


def test_pictures_of_16_and_of_32_bits(folder):
    deep = np.array([[0, 255, 256], [32768, 65279, 65535]], np.uint16)
    Image.fromarray(deep).save(folder / "deep.tif")
    Image.fromarray(deep.astype(np.float32)).save(folder / "float.tif")
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbfdeep.tif 7\r\nfloat.tif 1\r\n")
    layer, blobs = set_up(folder, batch_size=1)
    layer.forward([], blobs)
    assert blobs[0].shape == (1, 3, 2, 3) and (blobs[0].data[0] == deep >> 8).all() and blobs[1].data[0] == 7
    with pytest.raises(DataError, match="'images': cannot decode .*float.tif: its pixels are 32-bit floats"):
        layer.forward([], blobs)


def test_a_shuffle_that_is_switched_on_or_off_before_resuming(folder):
    for first, second in (("", "shuffle: true"), ("shuffle: true", "")):
        layer, blobs = set_up(folder, first, batch_size=3)
        labels_of(layer, blobs, 1)
        other, other_blobs = set_up(folder, second, batch_size=1)
        other.load_state(layer.state())
        labels_of(other, other_blobs, 2)  # the rest of the first round
        rounds = [labels_of(other, other_blobs, 5) for _ in range(6)]
        assert all(sorted(r) == [0, 10, 20, 30, 40] for r in rounds)
        assert (len({tuple(r) for r in rounds}) > 1) == (second == "shuffle: true")


def test_bad_parameters(folder):
    with pytest.raises(LayerError, match="new_height and new_width must be given together, got 4 and 0"):
        set_up(folder, "new_height: 4")
    with pytest.raises(LayerError, match="image_data_param.batch_size must be positive, got 0"):
        set_up(folder, batch_size=0)
    (folder / "list.txt").unlink()
    with pytest.raises(DataError, match="cannot read image list .*list.txt: No such file"):
        set_up(folder)
