"""WindowSegData: windows of images with those of their label maps."""

import numpy as np
import pytest
from PIL import Image

from helpers.readers import batches, data_layer
from minicaffe.errors import DataError, LayerError

MAPS = np.random.default_rng(4).integers(0, 256, (2, 6, 8), dtype=np.uint8)
LINES = "0.png map0.png 1 2 5 4\n1.png\tmap1.png -2 -1 2 1\n0.png map0.png 4 3 9 5\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Images that show their map in all three channels."""
    monkeypatch.chdir(tmp_path)
    for index, labels in enumerate(MAPS):
        Image.fromarray(np.stack([labels] * 3, -1)).save(f"{index}.png")
        Image.fromarray(labels).save(f"map{index}.png")
    write(LINES)


def write(text):
    with open("list.txt", "w") as file:
        file.write(text)


def layer(text="label_type: PIXEL", transform="", tops=2, phase=0):
    made, blobs = data_layer(
        f"""name: "d" type: "WindowSegData" transform_param {{ {transform} }}
        image_data_param {{ source: "list.txt" {text} }}""",
        tops, phase,
    )  # fmt: skip
    state = made.state()
    made.load_state(state | {"rng": state["rng"] | {"key": [3, 4], "counter": [0] * 4}})
    return made, blobs


def test_windows_in_the_order_of_the_list():
    made, blobs = layer("label_type: PIXEL ignore_label: 300", "mean_value: 3", 3)
    first, second, third, again = batches(made, blobs, 4)
    np.testing.assert_array_equal(first[1][0, 0], MAPS[0, 2:5, 1:6])
    expected = np.full((3, 5), 300)
    expected[1:, 2:] = MAPS[1, :2, :3]
    np.testing.assert_array_equal(second[1][0, 0], expected)
    np.testing.assert_array_equal(second[0][0, 1], np.where(expected == 300, 0, expected) - 3)
    np.testing.assert_array_equal(third[1][0, 0, :, :4], MAPS[0, 3:, 4:])
    assert (third[1][0, 0, :, 4:] == 300).all() and third[2].tolist() == [[[[3, 6]]]]
    np.testing.assert_array_equal(again[1], first[1])


def test_windows_are_resized_and_cropped_with_their_maps():
    size = "label_type: PIXEL new_height: 6 new_width: 10"
    made, blobs = layer(size)
    pixels, maps = batches(made, blobs, 1)[0]
    np.testing.assert_array_equal(maps[0, 0], np.repeat(np.repeat(MAPS[0, 2:5, 1:6], 2, 0), 2, 1))
    assert pixels.shape == (1, 3, 6, 10) and not np.isin(pixels, MAPS).all()
    seen = set()
    for _, cropped in batches(*layer(size + " batch_size: 3", "crop_size: 5 mirror: true"), 10):
        assert cropped.shape == (3, 1, 5, 5)
        seen.add(cropped[0].tobytes())
    assert len(seen) > 5


def test_a_list_without_labels():
    ((_, maps),) = batches(*layer("label_type: NONE ignore_label: 9"), 1)
    assert maps.shape == (1, 1, 3, 5) and (maps == 9).all()
    ((alone,),) = batches(*layer("label_type: NONE", tops=1), 1)
    assert alone.shape == (1, 3, 3, 5)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0.png map0.png 1 2 5", 'line 1: expected "image map x1 y1 x2 y2", without spaces in paths, got'),
        ("0.png map0.png 1 2 5 x", 'line 1: expected "image map x1 y1 x2 y2"'),
        ("0.png map0.png 1 2 0 4", "line 1: expected x1 <= x2 and y1 <= y2, got"),
    ],
)
def test_lines_that_are_no_windows(line, words):
    write(line)
    with pytest.raises(DataError, match=words):
        layer()


@pytest.mark.parametrize(
    ("text", "transform", "words"),
    [
        ("", "", "label_type must be PIXEL or NONE, got IMAGE, its default"),
        ("label_type: PIXEL", "mean_file: 'm'", "mean_file must be absent, as windows have different sizes"),
    ],
)
def test_errors_name_the_layer(text, transform, words):
    with pytest.raises(LayerError, match=f"^WindowSegData layer 'd': {words}"):
        layer(text, transform)


def test_files_that_are_missing_are_named():
    write("0.png map7.png 0 0 3 3")
    with pytest.raises(DataError, match="WindowSegData layer 'd'.*map7.png"):
        made, blobs = layer()
        made.forward([], blobs)
