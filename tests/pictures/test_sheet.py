"""Sheets of pictures."""

import numpy as np
import pytest

from minicaffe.pictures.plot import save
from minicaffe.pictures.sheet import BYTES, Frame, Range, Tile, channel_names, channel_table, draw_sheet


def pixels(figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def images_of(figure) -> list[np.ndarray]:
    return [image.get_array() for image in figure.axes[0].images]


def colored(value: tuple[float, ...]) -> np.ndarray:
    return np.tile(np.array(value, np.float32)[:, None, None], (1, 4, 4))


def test_colours_are_bgr_unless_they_are_rgb():
    tile = Tile(colored((255, 0, 0)), ["first channel"])
    for bgr, color in ((True, (0, 0, 255)), (False, (255, 0, 0))):
        figure = draw_sheet([tile], "t", [], BYTES, bgr)
        assert (pixels(figure).reshape(-1, 3) == color).all(1).sum() > 1000


def test_gray_and_other_numbers_of_channels():
    gray, two, many = (draw_sheet([Tile(np.ones((c, 4, 5)))], "t", [], Range(0, 1)) for c in (1, 2, 20))
    assert images_of(gray)[0].shape == (4, 5)
    assert images_of(two)[0].shape == (4, 2 * 5 + 1)
    assert images_of(many)[0].shape == (4, 8 * 5 + 7)


def test_values_outside_the_range_and_nan():
    picture = np.array([[[-5, 0, 1, 2, 9, np.nan, np.inf]]])
    (image,) = images_of(draw_sheet([Tile(picture)], "t", [], Range(0, 2)))
    np.testing.assert_array_equal(image, [[0, 0, 0.5, 1, 1, 0, 1]])
    assert Range.of([picture]) == (-5, 9)
    assert Range.of([np.full((1, 2, 2), np.nan)]) == (0, 1)
    constant = images_of(draw_sheet([Tile(np.full((1, 2, 2), 7.0))], "t", [], Range(7, 7)))[0]
    assert np.isfinite(constant).all()


def test_captions_are_literal_and_fit(tmp_path):
    tiles = [Tile(colored((1, 2, 3)), ["$x_{1$ \x1b[31m", "a very long name of a class that has no end"])] * 7
    figure = draw_sheet(tiles, "title $", ["note"], BYTES)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "title \\$" in texts and not any("\x1b" in text for text in texts)
    assert sum(text.endswith("…") for text in texts) == 7
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    lefts = sorted({round(image.get_extent()[0], 3) for image in figure.axes[0].images})
    step = (lefts[1] - lefts[0]) * figure.dpi
    assert all(text.get_window_extent(renderer).width < step for text in figure.axes[0].texts if "…" in text.get_text())
    save(figure, tmp_path / "sheet.svg")
    assert b"\x1b" not in (tmp_path / "sheet.svg").read_bytes()


@pytest.mark.parametrize("count", [1, 2, 7, 12, 40])
def test_pictures_are_apart_and_in_the_page(count):
    figure = draw_sheet([Tile(np.zeros((1, 3, 9)), ["a"])] * count, "t", [], BYTES)
    width, height = figure.get_size_inches()
    boxes = [image.get_extent() for image in figure.axes[0].images]
    assert len({(left, top) for left, _, _, top in boxes}) == count
    assert all(0 <= left < right <= width and 0 <= top < bottom <= height for left, right, bottom, top in boxes)


def test_table_of_channels():
    pictures = np.zeros((2, 3, 2, 2))
    pictures[0, 1] = [[4, np.nan], [0, 0]]
    rows = channel_table(pictures, bgr=True)
    assert rows[0] == ["channel", "min", "max", "mean", "std", ""]
    assert rows[2][:4] == ["green", "0", "4", "0.5714"] and rows[2][5] == "1 not finite"
    assert channel_names(3, bgr=False) == ["red", "green", "blue"]
    assert channel_names(1, True) == ["gray"] and channel_names(2, True) == ["channel 0", "channel 1"]
    assert channel_table(np.full((1, 1, 1, 1), np.nan), True)[1][1] == "nan"


def test_frames_end_at_the_edges_of_their_picture():
    frames = [Frame(-50, 0.25, 1e30, 0.5, text="a"), Frame(0.25, 0.25, 0.5, 0.5)]
    figure = draw_sheet([Tile(np.zeros((1, 8, 8), np.uint8), [], frames)], "t", [], BYTES)
    (ax,) = figure.axes
    left, right, bottom, top = ax.images[0].get_extent()
    (x, y, width, height), inner = ax.patches[0].get_bbox().bounds, ax.patches[2].get_bbox()
    np.testing.assert_allclose([x, x + width], [left, right])
    np.testing.assert_allclose([y, height], [inner.y0, inner.height])
    np.testing.assert_allclose(height, (bottom - top) / 4)
