"""geometry_param: views of a picture, and the boxes on it."""

import numpy as np
import pytest

from minicaffe.data.geometry import Geometry, quad_map
from minicaffe.data.transformer import BatchTransformer
from minicaffe.errors import DataError
from minicaffe.philox import Stream
from minicaffe.proto import caffe_pb2, parse_text

NONE = "prob: 1 zoom_in: false zoom_out: false persp_horizontal: false persp_vertical: false"


def geometry(text):
    return Geometry(parse_text(text, caffe_pb2.GeometryParameter()))


def views(text, count=300):
    made, generator = geometry(text), np.random.default_rng(0)
    return [made.draw(generator, 40, 60) for _ in range(count)]


def corners(view):
    """Where the corners of the result come from, (4, 2)."""
    at = view @ np.array([[0, 0, 1], [59, 0, 1], [59, 39, 1], [0, 39, 1]]).T
    return (at[:2] / at[2]).T


def row(*box):
    return np.array([[1, 0, *box, 0]], np.float32)


def test_a_map_takes_points_to_points():
    old = np.array([[0, 0], [5, 0.5], [6, 7], [-1, 6]])
    new = np.array([[1, 1], [4, 0], [5, 5], [0, 4]])
    at = quad_map(old, new) @ np.column_stack([old, np.ones(4)]).T
    np.testing.assert_allclose((at[:2] / at[2]).T, new, atol=1e-9)


def test_how_often_and_nothing_to_do():
    assert abs(sum(view is not None for view in views("prob: 0.3")) - 90) < 30
    np.testing.assert_allclose(views(NONE, 1)[0], np.eye(3), atol=1e-12)


def test_zoom():
    near = [corners(view)[0] for view in views(NONE.replace("zoom_in: false", ""))]
    assert all(0 <= x <= 15 and 0 <= y <= 10 for x, y in near) and max(x for x, _ in near) > 12
    both = [corners(view)[0][0] for view in views(f"{NONE}".replace("zoom_in: false zoom_out: false", ""))]
    assert 100 < sum(x < 0 for x in both) < 200 and -15 <= min(both) and max(both) <= 15
    first = views(NONE.replace("zoom_in: false", ""), 1)[0]
    np.testing.assert_allclose(corners(first)[0] + corners(first)[2], [60, 40])


def test_perspective():
    for text, axis in (("persp_horizontal", 1), ("persp_vertical", 0)):
        made = [np.linalg.inv(view) for view in views(NONE.replace(f"{text}: false", ""))]
        back = [(m @ np.array([[0, 0, 1], [59, 0, 1], [59, 39, 1], [0, 39, 1]]).T) for m in made]
        moved = np.array([(at[:2] / at[2]).T for at in back]) - [[0, 0], [59, 0], [59, 39], [0, 39]]
        np.testing.assert_allclose(moved[:, :, 1 - axis], 0, atol=1e-6)
        assert 0.1 < (np.abs(moved[:, 0, axis]) > 0.5).mean() < 0.6  # one side of two moves


def test_boxes_follow_the_picture():
    """A bright rectangle is where its box is."""
    made, generator, found = geometry("prob: 1 pad_mode: CONSTANT"), np.random.default_rng(1), 0
    for _ in range(30):
        picture = np.zeros((1, 80, 90), np.uint8)
        picture[:, 30:50, 40:60] = 255
        view = made.draw(generator, 80, 90)
        image, rows = made.image(picture, view)[0], made.rows(row(40 / 90, 30 / 80, 60 / 90, 50 / 80), view, 80, 90)
        if not len(rows):
            continue
        lines, columns = (image > 128).any(1).nonzero()[0], (image > 128).any(0).nonzero()[0]
        seen = np.array([columns[0], lines[0], columns[-1] + 1, lines[-1] + 1]) / [90, 80, 90, 80]
        assert np.abs(rows[0, 2:6] - seen).max() < 0.04 and rows[0, 0] == 1
        found += 1
    assert found > 15


def test_boxes_of_mirror_images():
    # the picture is the part from 20 to 80 of the result; its mirror images are seen on all sides
    source = np.array([[100 / 60, 0, -100 / 3], [0, 100 / 60, -100 / 3], [0, 0, 1]])
    box = row(0.02, 0.4, 0.2, 0.6)
    (own,) = geometry("pad_mode: CONSTANT").rows(box, source, 100, 100)[:, 2:6]
    np.testing.assert_allclose(own, [0.212, 0.44, 0.32, 0.56], atol=1e-5)
    mirrored = geometry("").rows(box, source, 100, 100)[:, 2:6]
    expected = [[0.2 + 0.6 * x for x in pair] for pair in ((-0.2, -0.02), (0.02, 0.2))]
    np.testing.assert_allclose(sorted(mirrored[:, [0, 2]].tolist()), expected, atol=1e-5)


def test_images_without_boxes():
    images = np.random.default_rng(0).integers(0, 256, (200, 3, 20, 30), np.uint8)
    text = f"geometry_param {{ {NONE} zoom_in: true }}".replace("zoom_in: false", "").replace("prob: 1", "prob: 0.5")
    param = parse_text(text, caffe_pb2.TransformationParameter())
    out = np.empty(images.shape, np.float32)
    BatchTransformer(param, True, Stream(1)).transform(images, out)
    assert 60 < (out == images).all((1, 2, 3)).sum() < 140
    param.geometry_param.prob = 0
    assert not BatchTransformer(param, True, Stream(1)).on_host_only


def test_errors():
    with pytest.raises(DataError, match="zoom_factor must be 0 or more and below 0.5, got 0.5"):
        geometry("zoom_factor: 0.5")
