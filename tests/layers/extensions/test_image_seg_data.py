"""ImageSegData: padding, labels that are numbers, and random sizes; what it has in common with others is in
test_dense_image_data.py."""

import numpy as np
import pytest

from helpers.label_maps import MAPS, PIXEL, PIXELS, layer, save, write
from helpers.readers import batches

pytestmark = pytest.mark.layers("ImageSegData")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save()


def test_padding_is_the_mean_and_the_label_to_ignore():
    """A crop that is larger in one direction: rows are padded, columns are cropped."""
    text = "mean_value: 10 scale: 2 crop_height: 9 crop_width: 5 mirror: true"
    for pixels, maps, seen in batches(*layer("ImageSegData", f"{PIXEL} ignore_label: 300", text, 5), 10):
        np.testing.assert_array_equal(seen, [[[[6, 5]]]] * 5)
        assert (pixels[:, :, 6:] == 0).all() and (maps[:, :, 6:] == 300).all()
        np.testing.assert_array_equal(pixels[:, :1, :6], (maps[:, :, :6] - 10) * 2)


def test_labels_that_are_numbers_or_absent():
    write("0.png 7\n1.png -2\n")
    ((_, maps, _),) = batches(*layer("ImageSegData", "", "crop_size: 7", 2), 1)
    np.testing.assert_array_equal(maps[:, 0, :6], np.full((2, 6, 7), [[[7]], [[-2]]]))
    assert (maps[:, 0, 6] == 255).all()
    write("0.png\n1.png what is here\n")
    ((_, maps, _),) = batches(*layer("ImageSegData", "label_type: NONE ignore_label: 9", "", 2), 1)
    assert maps.shape == (2, 1, 6, 8) and (maps == 9).all()


def test_images_without_labels():
    """Nets that only compute labels, as DeepLab's test nets, have no second top."""
    write("0.png\n1.png\n")
    ((pixels,),) = batches(*layer("ImageSegData", "label_type: NONE", "", 2, tops=1), 1)
    np.testing.assert_array_equal(pixels, PIXELS[:2, ..., ::-1].transpose(0, 3, 1, 2))


def test_scale_factors():
    """In TRAIN one of the factors is drawn for each image, whose map takes the nearest pixels; in TEST none is."""
    text = "scale_factors: 0.5 scale_factors: 1 scale_factors: 2 crop_size: 16"
    sizes = set()
    for pixels, maps, seen in batches(*layer("ImageSegData", PIXEL, text, 5), 10):
        assert pixels.shape == (5, 3, 16, 16)
        for number, (own, (height, width)) in enumerate(zip(maps[:, 0], seen[:, 0, 0].astype(int))):
            sizes.add((height, width))
            rows, columns = (np.arange(n) * whole // n for n, whole in ((height, 6), (width, 8)))
            np.testing.assert_array_equal(own[:height, :width], MAPS[number][np.ix_(rows, columns)])
            assert (own[height:] == 255).all() and (own[:, width:] == 255).all()
            assert (pixels[number, 2, :height, :width] == number).all()
    assert sizes == {(3, 4), (6, 8), (12, 16)}
    assert all((seen == [6, 8]).all() for *_, seen in batches(*layer("ImageSegData", PIXEL, text, 5, phase=1), 3))
