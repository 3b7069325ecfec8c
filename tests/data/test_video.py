"""Frames of videos from folders, from files of pictures, and by OpenCV."""

import sys
import types

import numpy as np
import pytest
from PIL import Image

from minicaffe.data.video import FrameFolder, video_file
from minicaffe.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)  # (frames, H, W, RGB)
PLANES = PIXELS[..., ::-1].transpose(0, 3, 1, 2)


@pytest.fixture
def tiff(tmp_path):
    first, *others = (Image.fromarray(each) for each in PIXELS)
    first.save(tmp_path / "v.tif", save_all=True, append_images=others)
    return str(tmp_path / "v.tif")


def test_a_folder(tmp_path):
    for i, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / f"f_{i:03d}.png")
        Image.fromarray(pixels[..., 0]).save(tmp_path / f"x_{i:03d}.png")
        Image.fromarray(pixels[..., 1]).save(tmp_path / f"y_{i:03d}.png")
    np.testing.assert_array_equal(FrameFolder(str(tmp_path), "f_%03d.png").read([2, 0], True), PLANES[[2, 0]])
    assert FrameFolder(str(tmp_path), "f_%03d.png").read([1], False)[0].shape == (1, 5, 6)
    (flow,) = FrameFolder(str(tmp_path), "%c_%03d.png", "xy").read([3], True)
    np.testing.assert_array_equal(flow, PIXELS[3, ..., :2].transpose(2, 0, 1))
    with pytest.raises(DataError, match="cannot read image .*f_009.png: No such file"):
        FrameFolder(str(tmp_path), "f_%03d.png").read([9], True)
    for pattern, planes in (("frame.png", ""), ("%s %d", ""), ("%d %c", "xy"), ("%04d.png", "xy")):
        with pytest.raises(DataError, match="name_pattern must have"):
            FrameFolder(str(tmp_path), pattern, planes).read([1], True)


def test_a_file_of_pictures(tiff):
    video = video_file(tiff)
    assert video.count() == 4
    np.testing.assert_array_equal(video.read([3, 1], True), PLANES[[3, 1]])
    assert video.read([0], False)[0].shape == (1, 5, 6)
    with pytest.raises(DataError, match="v.tif has 4 frames: there is no frame 4, counted from 0"):
        video.read([4], True)


def test_other_files_need_opencv(tmp_path, monkeypatch):
    (tmp_path / "v.avi").write_bytes(b"RIFF    AVI ")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DataError, match="opencv-python is not installed; or write the frames into a folder"):
        video_file(str(tmp_path / "v.avi")).count()
    with pytest.raises(DataError, match="cannot read video .*none.avi: No such file"):
        video_file(str(tmp_path / "none.avi"))


class Capture:
    """What is used of cv2.VideoCapture; frame 2 is damaged."""

    def __init__(self, path):
        self.opened, self.at = path.endswith(".avi"), 0

    def isOpened(self):  # noqa: N802  (OpenCV's name)
        return self.opened

    def get(self, name):
        return {1: self.at, 7: len(PIXELS)}[name]

    def set(self, name, value):
        assert name == 1
        self.at = value

    def read(self):
        self.at += 1
        return (False, None) if self.at == 3 else (True, PIXELS[self.at - 1][..., ::-1])


def test_frames_by_opencv(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", types.SimpleNamespace(VideoCapture=Capture))
    for name in ("v.avi", "v.mkv"):
        (tmp_path / name).write_bytes(b"no picture")
    video = video_file(str(tmp_path / "v.avi"))
    assert video.count() == 4
    np.testing.assert_array_equal(video.read([0, 1, 3], True), PLANES[[0, 1, 3]])
    assert video.read([3], False)[0].shape == (1, 5, 6)
    for number, words in ((2, "cannot decode frame 2 of video"), (7, "there is no frame 7")):
        with pytest.raises(DataError, match=words):
            video.read([number], True)
    with pytest.raises(DataError, match="v.mkv: OpenCV cannot open it"):
        video_file(str(tmp_path / "v.mkv")).count()
