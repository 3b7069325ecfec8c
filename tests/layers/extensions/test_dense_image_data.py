"""DenseImageData, and what it has in common with ImageSegData and ImageLabelmapData: images and label maps stay
together, and lists with faults."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.label_maps import MAPS, PIXEL, PIXELS, layer, save, write
from helpers.readers import batches, data_layer
from minicaffe.data import workers
from minicaffe.errors import DataError, LayerError

pytestmark = pytest.mark.layers("DenseImageData", "ImageSegData", "ImageLabelmapData")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save()


@pytest.mark.parametrize(("kind", "text"), [
    ("DenseImageData", ""), ("ImageSegData", PIXEL), ("ImageLabelmapData", "normalize: false"),
])  # fmt: skip
def test_images_with_their_maps_in_the_order_of_the_list(kind, text, engine):
    for pixels, maps, *others in batches(*layer(kind, text, "mean_value: 3 scale: 0.5", 5), 2):
        np.testing.assert_array_equal(pixels, (PIXELS[..., ::-1].transpose(0, 3, 1, 2) - 3.0) / 2)
        np.testing.assert_array_equal(maps, MAPS[:, None])
        for seen in others:
            np.testing.assert_array_equal(seen, [[[[6, 8]]]] * 5)


@pytest.mark.parametrize(("kind", "text", "transform", "both_phases"), [
    ("DenseImageData", "mirror: true crop_height: 3 crop_width: 4", "", True),
    ("ImageSegData", PIXEL, "mirror: true crop_height: 3 crop_width: 4", False),
    ("ImageLabelmapData", "normalize: false", "mirror: true crop_h: 3 crop_w: 4", True),
])  # fmt: skip
def test_a_map_follows_its_image(kind, text, transform, both_phases):
    for phase in (0, 1):
        seen = set()
        for pixels, maps, *_ in batches(*layer(kind, text, transform, 5, phase), 20):
            assert maps.shape == (5, 1, 3, 4)
            np.testing.assert_array_equal(pixels[:, :1], maps)
            for number, own in enumerate(maps[:, 0]):
                assert (pixels[number, 2] == number).all()
                seen.add((number, *place_of(own, MAPS[number])))
        crops = {(top, left) for _, top, left, _ in seen}
        assert crops == {(i, j) for i in range(4) for j in range(5)} if both_phases or phase == 0 else {(1, 2)}
        assert {flip for *_, flip in seen} == {False, True}


def place_of(part, whole):
    """First row and column of a part in a picture, and whether it is flipped."""
    windows = np.lib.stride_tricks.sliding_window_view(whole, part.shape)
    for flip in (False, True):
        found = np.argwhere((windows == (part[:, ::-1] if flip else part)).all((2, 3)))
        if len(found):
            return (*map(int, found[0]), flip)
    raise AssertionError("not a part")


def test_maps_are_resized_to_the_nearest_pixel_or_linearly():
    maps = np.repeat(np.repeat(MAPS[:, ::2, ::2], 2, 1), 2, 2)
    save(np.stack([maps] * 3, -1), maps)
    size = "new_height: 3 new_width: 4"
    ((_, nearest),) = batches(*layer("DenseImageData", size), 1)
    np.testing.assert_array_equal(nearest[0, 0], maps[0, ::2, ::2])
    ((pixels, linear, _),) = batches(*layer("ImageSegData", f"{PIXEL} new_height: 4 new_width: 6"), 1)
    np.testing.assert_array_equal(linear, pixels[:, :1])
    assert not np.isin(linear, maps[0]).all()


def test_the_size_of_images_may_be_left_out():
    """As in DeconvNet's ImageSegData."""
    text = f'type: "ImageSegData" image_data_param {{ source: "list.txt" {PIXEL} }}'
    ((pixels, maps),) = batches(*data_layer(text), 1)
    np.testing.assert_array_equal(pixels[0, 0], maps[0, 0])


def test_the_map_of_enet_is_smaller_by_a_factor():
    text = "label_divide_factor: 2 new_height: 12 new_width: 16"
    made, blobs = layer("DenseImageData", text, batch=2)
    assert blobs[1].shape == (2, 1, 6, 8)
    np.testing.assert_array_equal(batches(made, blobs, 1)[0][1], MAPS[:2, None])
    ((_, maps),) = batches(*layer("DenseImageData", "label_divide_factor: 4"), 1)
    np.testing.assert_array_equal(maps, MAPS[:1, None, [0]][..., [0, 4]])


def test_images_of_different_sizes():
    save([PIXELS[0], PIXELS[1, :5]], [MAPS[0], MAPS[1, :5]])
    made, blobs = layer("DenseImageData")
    assert [tops[1].shape for tops in batches(made, blobs, 3)] == [(1, 1, 6, 8), (1, 1, 5, 8), (1, 1, 6, 8)]
    ((_, maps),) = batches(*layer("DenseImageData", "crop_height: 4 crop_width: 4", batch=2), 1)
    assert maps.shape == (2, 1, 4, 4)
    with pytest.raises(DataError, match="image 1 of the batch .* gives 5x8 .*: images of different sizes need a crop"):
        batches(*layer("DenseImageData", batch=2), 1)


@pytest.mark.parametrize(("kind", "text", "transform"), [
    ("DenseImageData", "shuffle: true mirror: true crop_height: 4 crop_width: 5", ""),
    ("ImageSegData", f"shuffle: true {PIXEL}", "mirror: true crop_size: 7 scale_factors: 1 scale_factors: 1.5"),
])  # fmt: skip
def test_the_same_batches_after_a_resume_and_with_any_number_of_threads(kind, text, transform, monkeypatch):
    made, blobs = layer(kind, text, transform, 2)
    batches(made, blobs, 3)
    state = made.state()
    expected = batches(made, blobs, 6)
    for threads in (1, 4):
        monkeypatch.setattr(workers, "cores", lambda: threads)  # noqa: B023
        other, own = layer(kind, text, transform, 2)
        other.load_state(state)
        for got, wanted in zip(batches(other, own, 6), expected, strict=True):
            for a, b in zip(got, wanted, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("kind", "text", "words"), [
    ("DenseImageData", "0.png map0.png\n1.png\n", "line 2: expected the path of an image and the path of its"),
    ("DenseImageData", "a b.png map0.png\n", "line 1: expected .*, without spaces in them, got 'a b.png map0.png'"),
    ("ImageSegData", "0.png map0.png\n", "line 1: expected a whole number as label, got 'map0.png'"),
    ("ImageSegData", "0.png 4000000000\n", "line 1: label 4000000000 is beyond 32 bits"),
    ("ImageLabelmapData", "0.png none.png\n", "cannot read image none.png"),
    ("ImageLabelmapData", "0.png small.png\n", "must have a label map of its own size, 6x8, got 5x8"),
    ("DenseImageData", "", "image list list.txt is empty"),
])  # fmt: skip
def test_bad_lists(kind, text, words):
    Image.fromarray(MAPS[0, :5]).save("small.png")
    write(text)
    with pytest.raises(DataError, match=f"{kind} layer 'd': .*{words}"):
        batches(*layer(kind), 1)


@pytest.mark.parametrize(("kind", "text", "transform", "words"), [
    ("DenseImageData", "new_height: 3", "", "new_height and new_width must be given together, got 3 and 0"),
    ("DenseImageData", "crop_height: 3", "", "crops need a height and a width, got 3 and 0"),
    ("DenseImageData", "", "mirror: true", "mirror of transform_param must be absent: write mirror in dense_image_"),
    ("DenseImageData", "", "crop_size: 3", "crop_size of transform_param must be absent: write crop_height and"),
    ("DenseImageData", "label_divide_factor: 0", "", "label_divide_factor must be positive, got 0"),
    ("DenseImageData", "label_divide_factor: 7", "", r"label_divide_factor must be at most .* \(6, 8\), got 7"),
    ("ImageSegData", PIXEL, 'mean_file: "m"', "mean_file must be absent"),
    ("ImageSegData", PIXEL, "scale_factors: 1 scale_factors: 0", "scale_factors must be positive, got 1.0, 0.0"),
    ("ImageLabelmapData", "", "crop_h: 3", "crops need a height and a width, got 3 and 0"),
])  # fmt: skip
def test_bad_parameters(kind, text, transform, words):
    with pytest.raises(LayerError, match=f"{kind} layer 'd': .*{words}"):
        layer(kind, text, transform)


def test_a_crop_that_does_not_fit():
    for kind, text, transform in (("DenseImageData", "crop_height: 7 crop_width: 7", ""),
                                  ("ImageLabelmapData", "", "crop_size: 7")):  # fmt: skip
        with pytest.raises(DataError, match=f"{kind} layer 'd': .*crop 7x7 is larger than the image, 6x8"):
            layer(kind, text, transform)


def test_shapes_without_building_the_layer():
    for kind, text, transform, expected in (
        ("DenseImageData", "crop_height: 4 crop_width: 6 label_divide_factor: 2", "", [(2, 3, 4, 6), (2, 1, 2, 3)]),
        ("ImageSegData", "is_color: false", "crop_size: 9", [(2, 1, 9, 9), (2, 1, 9, 9), (2, 1, 1, 2)]),
        ("ImageLabelmapData", "", "", [(2, 3, 6, 8), (2, 1, 6, 8)]),  # of the first image of the list
    ):
        write("0.png 0\n1.png 0\n" if kind == "ImageSegData" else "0.png map0.png\n1.png map1.png\n")
        made, blobs = layer(kind, text, transform, 2)
        made.layer_param.top.extend(["x"] * len(blobs))
        assert type(made).source_shapes(made.layer_param) == expected
        assert [blob.shape for blob in blobs] == expected
        Path("list.txt").unlink()
        assert (type(made).source_shapes(made.layer_param)[0] is None) == (kind == "ImageLabelmapData")
