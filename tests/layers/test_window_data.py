"""WindowData: which windows, where they are placed in the square, and window files that cannot be read."""

import numpy as np
import pytest
from PIL import Image

from helpers.readers import data_layer
from minicaffe.data.mean import write_mean
from minicaffe.data.windows import ImageWindow, Warper
from minicaffe.errors import DataError, LayerError

PIXELS = np.random.default_rng(8).integers(1, 256, (20, 30, 3), dtype=np.uint8)
IMAGE = PIXELS[:, :, ::-1].transpose(2, 0, 1).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    windows = ["3 0.9 2 3 9 10", "5 0.6 10 0 17 7", "3 0.2 0 0 7 7", "1 0.4 20 10 27 17"]
    (tmp_path / "w.txt").write_text(f"# 0\na.png\n3\n20\n30\n{len(windows)}\n" + "\n".join(windows) + "\n")
    return tmp_path


def set_up(folder, text="batch_size: 8 fg_fraction: 0.5 bg_threshold: 0.3", transform="crop_size: 8"):
    return data_layer(
        f'name: "w" type: "WindowData" transform_param {{ {transform} }} window_data_param {{ '
        f'source: "{folder}/w.txt" root_folder: "{folder}/" {text} }}'
    )


def test_background_first_then_objects_cut_out_exactly(folder):
    layer, (images, labels) = set_up(folder)
    layer.forward([], [images, labels])
    assert images.shape == (8, 3, 8, 8)
    assert labels.data[:4].tolist() == [0, 0, 0, 0] and {*labels.data[4:]} <= {3, 5}
    known = {0: IMAGE[:, :8, :8], 3: IMAGE[:, 3:11, 2:10], 5: IMAGE[:, :8, 10:18]}  # 8x8 windows need no warping
    for image, label in zip(images.data, labels.data, strict=True):
        assert np.array_equal(image, known[int(label)])


def test_mean_scale_and_mirror(folder):
    layer, blobs = set_up(
        folder, transform="crop_size: 8 mirror: true scale: 0.5 mean_value: 10 mean_value: 20 mean_value: 30"
    )
    layer.forward([], blobs)
    expected = (IMAGE[:, :8, :8] - np.array([10, 20, 30]).reshape(3, 1, 1)) * 0.5
    flips = [np.array_equal(image, expected[:, :, ::-1]) for image in blobs[0].data[:4]]
    plain = [np.array_equal(image, expected) for image in blobs[0].data[:4]]
    assert all(a or b for a, b in zip(flips, plain, strict=True))


def test_context_outside_of_the_image_is_zero():
    warper = Warper(16, 4, False, np.full((3, 1, 1), 5, np.float32), 2.0)
    result = warper(IMAGE, ImageWindow("a", 1, 0, 0, 7, 7), False)  # grows to -4 .. 12
    assert not result[:, :3].any() and not result[:, :, :3].any()
    assert (result[:, 4:, 4:] != 0).any(axis=0).all()
    mirrored = warper(IMAGE, ImageWindow("a", 1, 0, 0, 7, 7), True)
    assert np.array_equal(mirrored, result[:, :, ::-1])


def test_square_mode_widens_the_shorter_side():
    wide = ImageWindow("a", 1, 4, 8, 19, 11)  # 16 x 4, so rows 2 to 18 are shown
    square = Warper(8, 0, True, None, 1.0)(IMAGE, wide, False)
    assert abs(square.mean() - IMAGE[:, 2:18, 4:20].mean()) < 8
    warped = Warper(8, 0, False, None, 1.0)(IMAGE, wide, False)
    assert warped.shape == square.shape == (3, 8, 8) and not np.allclose(warped, square)


def test_resuming(folder):
    layer, blobs = set_up(folder)
    layer.forward([], blobs)
    state = layer.state()
    layer.forward([], blobs)
    expected = blobs[1].data.copy(), blobs[0].data.copy()
    other, other_blobs = set_up(folder)
    other.load_state(state)
    other.forward([], other_blobs)
    assert np.array_equal(other_blobs[1].data, expected[0]) and np.array_equal(other_blobs[0].data, expected[1])


@pytest.mark.parametrize("content, sentence", [
    ("", "w.txt is empty"),
    ("# 0\na.png\n3\n20\n", "w.txt ends in the middle of an image"),
    ("# 0\na.png\n3\n20\n30\n2\n1 0.9 1 1 5\n", "w.txt ends in the middle of an image"),
    ("# 0\na.png\n3\n20\n30\n2\n1 0.9 1 1 5 5\n", "w.txt, line 7: image a.png has 1 windows, but its header states 2"),
    ("# 0\na.png\n3\n20\n30\n2\n1 0.9 1 1 5 5\n# 1\nb.png\n3\n1\n1\n0", "line 7: image a.png has 1 windows, but .* 2"),
    ("# 0\na.png\n3\n20\n30\n0\n1 0.9 1 1 5 5\n", "w.txt, line 6: image a.png has more windows than the 0 that its"),
    ("# 0\na.png\n3\n20\n30\n-1\n", "w.txt, line 6: expected the number of windows, 0 or more, got -1"),
    ("# 0\na.png\n3\n20\n30\n2147483647\n1 0.9 1 1 5 5\n", "image a.png has 1 windows, but .* 2147483647"),
    ("# 0\na.png\n3\n20\n30\n1_0\n", "expected the number of windows, a whole number, got '1_0'"),
    ("# 0\na.png\n3\n20\n30\n1\n1 nan 1 1 5 5\n", "expected the overlap of a window, a number, got 'nan'"),
    ("# 0\na.png\n3\n20\n30\n1\n1 1e999 1 1 5 5\n", "expected the overlap of a window, a number, got '1e999'"),
    ("# 0\na.png\n3\n20\n30\n1\n1 0.9 1 1 5 " + "9" * 5000, "y2 of a window 9{100} is beyond 32 bits"),
    ("# 0\na.png\n3\n20\n30\n1\n1 0.9 1 1 5 " + "x" * 5000, "y2 of a window, a whole number, got 'x{100}...'$"),
    ("# 0\na.png\n3\n20\n30\n1\n1 0.9 1 1 5 x\n", "w.txt, line 7: expected y2 of a window, a whole number, got 'x'"),
    ("# 0\na.png\n3\n20\n30\n1\n0 0.9 1 1 5 5\n", "w.txt, line 7: a foreground window of .*a.png has class 0"),
    ("# 0\na b.png\n3\n20\n30\n1\n", r"w.txt, line 2: expected the number of channels \(a path may not hold spaces\)"),
    ("# 0\na.png\n2\n20\n30\n1\n", "w.txt, line 3: expected 1 or 3 channels, got 2"),
    ("# 0\na.png\n3\n9\n9\n0\n# 1\nb.png\n1\n9\n9\n0\n", "w.txt, line 12: image b.png has 1 channels, but .* 3"),
    ("# 0\na.png\n3\n20\n30\n1\n1 high 1 1 5 5\n", "w.txt, line 7: expected the overlap of a window, a number"),
    ("# 0\na.png\n3\n20\n30\n1\n1 0.9 5 1 1 5\n", "w.txt, line 7: expected x1 <= x2 and y1 <= y2, got .* \\(5, 1\\)"),
    ("# 0\na.png\n3\n20\n30\n1\n1 0.9 1 1 5 5\n", "has no background windows, but every batch needs 4"),
    ("1 2 3", 'w.txt, line 1: expected "#" before the next image, got \'1\''),
])  # fmt: skip
def test_bad_window_files(folder, content, sentence):
    (folder / "w.txt").write_text(content)
    with pytest.raises(DataError, match=f"WindowData layer 'w': .*{sentence}"):
        set_up(folder)


def test_bad_parameters(folder):
    with pytest.raises(LayerError, match="crop_size must be positive, got 0"):
        set_up(folder, transform="")
    with pytest.raises(LayerError, match='crop_mode must be "warp" or "square", got "wrap"'):
        set_up(folder, 'batch_size: 8 crop_mode: "wrap"')
    with pytest.raises(LayerError, match="context_pad must be less than half of crop_size 8, got 4"):
        set_up(folder, "batch_size: 8 context_pad: 4")
    with pytest.raises(LayerError, match="fg_fraction must be between 0 and 1, got 2"):
        set_up(folder, "batch_size: 8 fg_fraction: 2")


def test_means_that_do_not_fit(folder):
    with pytest.raises(DataError, match="'w': the mean has 2 channels, but the images of .*w.txt 3"):
        set_up(folder, transform="crop_size: 8 mean_value: 1 mean_value: 2")
    for shape, sentence in (
        ((3, 8, 12), "must have as many rows as columns"),
        ((3, 7, 9), "is smaller than crop_size"),
        ((3, 1, 9), "is smaller than crop_size"),
    ):
        write_mean(folder / "mean", np.zeros(shape))
        with pytest.raises(DataError, match=f"'w': the mean image, .*{sentence}"):
            set_up(folder, transform=f'crop_size: 8 mean_file: "{folder}/mean"')


OUTSIDE = [(-9, -9, -2, -2), (-9, 0, -5, 5), (0, -9, 5, -1), (30, 0, 40, 5), (0, 20, 5, 25),
           (-(2**31), 0, -(2**31), 0), (2**31 - 1, 0, 2**31 - 1, 0)]  # fmt: skip


@pytest.mark.parametrize("corners", OUTSIDE)
def test_windows_outside_the_image(corners):
    with pytest.raises(DataError, match="a window of a.png, .*, lies outside the image, 30x20"):
        Warper(12, 0, False, None, 1.0)(IMAGE, ImageWindow("a.png", 1, *corners), False)


def test_a_window_larger_than_any_image():
    window = ImageWindow("a.png", 1, -(2**31), -(2**31), 2**31 - 1, 2**31 - 1)
    assert Warper(12, 3, True, None, 1.0)(IMAGE, window, True).shape == (3, 12, 12)


def test_pictures_of_16_bits(folder):
    deep = (IMAGE[0] * 256 + 255).astype(np.uint16)
    Image.fromarray(deep).save(folder / "a.png")
    layer, blobs = set_up(folder)
    layer.forward([], blobs)
    assert all(np.array_equal(plane, IMAGE[0, :8, :8]) for plane in blobs[0].data[0])
