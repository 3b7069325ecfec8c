"""ImgReader."""

import numpy as np
import pytest
from PIL import Image

from minicaffe.errors import DataError, LayerError
from minicaffe.testing import run_layer, top_of


def reader(text):
    return f"type: 'ImgReader' reader_param {{ {text} }}"


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    return tmp_path / "x.png", pixels[:, :, ::-1].transpose(2, 0, 1)  # blue, green, red


def test_a_picture_in_each_sample(picture):
    path, pixels = picture
    layer, _, top = run_layer(reader(f"file: '{path}' num: 3"))
    np.testing.assert_array_equal(top[0].data, [pixels] * 3)
    top[0].data[...] = 0
    layer.forward([], top)
    np.testing.assert_array_equal(top[0].data, [pixels] * 3)


def test_transformation(picture):
    path, pixels = picture
    y = top_of(reader(f"file: '{path}'") + " transform_param { scale: 2 crop_size: 2 mean_value: 5 }", phase=1)
    np.testing.assert_array_equal(y[0], 2 * (pixels[:, 1:3, 2:4] - 5.0))


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("", LayerError, "reader_param must name a file"),
        ("file: 'none.png' num: 0", LayerError, "num must be above 0"),
        ("file: 'none.png'", DataError, "none.png"),
    ],
)
def test_errors_name_the_layer(text, kind, words):
    with pytest.raises(kind, match=f"^ImgReader layer 'layer': .*{words}"):
        top_of(reader(text))
