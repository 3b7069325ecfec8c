"""EvalData: images of one size, or each of its own, and boxes that follow their pictures."""

import numpy as np
import pytest

from helpers.readers import assert_same_batches, batches
from helpers.truth_lists import BOX, TALL, WIDE, draw, entry, layer, write
from minicaffe.errors import LayerError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw()


def evaluation(more="", transform="", **settings):
    return layer(more, transform, maps=(), kind="EvalData", **settings)


@pytest.mark.parametrize(
    ("more", "size"),
    [
        ("", (64, 96)),
        ("short_size: 100 long_size: 120", (96, 128)),  # 100 and 150, of which 120 are left, and multiples of 32
        ("short_size: 32 long_size: 96", (32, 64)),  # of 48
        ("resize_width: 100 resize_height: 31", (32, 96)),
    ],
)
def test_images_to_evaluate(more, size):
    made, blobs = evaluation(more, "mean_value: 40", tops=3, phase=1)
    made.forward([], blobs)
    assert blobs[0].shape == (1, 3, *size)
    assert blobs[2].shape == (1, 2, 1, 1) and blobs[2].data.ravel().tolist() == list(size)
    factor = np.array(size[::-1] * 2) / (*WIDE[::-1], *WIDE[::-1])
    _, *box, label, ignored, difficult = blobs[1].data.ravel()
    assert (label, ignored, difficult) == (2, 0, 1)
    np.testing.assert_allclose(box, BOX * factor, rtol=1e-6)
    rows, columns = np.nonzero(blobs[0].data[0, 0] > 80)
    np.testing.assert_allclose([columns.min(), rows.min(), columns.max(), rows.max()], box, atol=2)


def test_a_batch_to_evaluate():
    write(entry("a.png", boxes=()), entry("c.png", TALL), entry("b.png"))
    made, blobs = evaluation("resize_width: 64 resize_height: 64", batch=2)
    made.forward([], blobs)
    assert blobs[1].data[:, 0].ravel().tolist() == [1]
    made.forward([], blobs)
    assert blobs[1].data[:, 0].ravel().tolist() == [0]
    saved = made.state()
    expected = batches(made, blobs, 3)
    made.load_state(saved)
    assert_same_batches(batches(made, blobs, 3), expected)


def test_a_batch_needs_a_size():
    with pytest.raises(LayerError, match="batch_size must be 1 unless resize_width and resize_height are given"):
        evaluation(batch=2)
