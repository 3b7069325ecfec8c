"""MemoryData: a script's arrays, again from the start after the last."""

import numpy as np
import pytest

from helpers.readers import data_layer
from minicaffe.data.datum import array_to_datum
from minicaffe.errors import LayerError, UsageError

DATA = np.random.default_rng(6).standard_normal((6, 3, 4, 5)).astype(np.float32)
LABELS = np.arange(6, dtype=np.float32)


def set_up(text="batch_size: 2 channels: 3 height: 4 width: 5", more=""):
    return data_layer(f'name: "m" type: "MemoryData" memory_data_param {{ {text} }} {more}', phase=1)


def test_batches_in_order_round_and_round():
    layer, blobs = set_up()
    assert [blob.shape for blob in blobs] == [(2, 3, 4, 5), (2,)]
    layer.set_input_arrays(DATA, LABELS)
    for i in range(5):
        layer.forward([], blobs)
        rows = np.arange(2 * i, 2 * i + 2) % 6
        assert np.array_equal(blobs[0].data, DATA[rows]) and np.array_equal(blobs[1].data, LABELS[rows])


def test_legacy_label_shape_and_another_batch_size():
    layer, blobs = set_up()
    layer.set_input_arrays(DATA, LABELS.reshape(6, 1, 1, 1))
    layer.forward([], blobs)
    layer.set_batch_size(3)
    layer.set_input_arrays(DATA, LABELS)
    layer.forward([], blobs)
    assert blobs[0].shape == (3, 3, 4, 5) and blobs[1].data.tolist() == [0, 1, 2]


def test_datums_are_transformed():
    layer, blobs = set_up(
        more="transform_param { scale: 0.5 crop_size: 4 }", text="batch_size: 2 channels: 3 height: 4 width: 4"
    )
    images = np.random.default_rng(7).integers(0, 256, (2, 3, 6, 6), dtype=np.uint8)
    layer.add_datums([array_to_datum(image, i + 3) for i, image in enumerate(images)])
    layer.forward([], blobs)
    assert np.array_equal(blobs[0].data, images[:, :, 1:5, 1:5] * np.float32(0.5))
    assert blobs[1].data.tolist() == [3, 4]


def test_what_is_refused():
    with pytest.raises(LayerError, match="MemoryData layer 'm': batch_size, channels, height and width must be given"):
        set_up("batch_size: 2 channels: 3 height: 4")
    layer, blobs = set_up()
    with pytest.raises(LayerError, match="there are no images yet: call net.set_input_arrays"):
        layer.forward([], blobs)
    with pytest.raises(LayerError, match=r"data must have shape \(M, 3, 4, 5\), got \(6, 3, 4, 4\)"):
        layer.set_input_arrays(DATA[..., :4], LABELS)
    with pytest.raises(LayerError, match="one label for each of 6 images, got 5"):
        layer.set_input_arrays(DATA, LABELS[:5])
    with pytest.raises(LayerError, match="must be a multiple of batch_size 2, got 5"):
        layer.set_input_arrays(DATA[:5], LABELS[:5])


def test_axes_of_length_1_may_come_and_go():
    layer, blobs = set_up("batch_size: 2 channels: 1 height: 4 width: 5")
    images = DATA[:, 0].copy()
    layer.set_input_arrays(images, LABELS[:, None])
    images[0] = 8
    layer.forward([], blobs)
    assert np.array_equal(blobs[0].data[:, 0], images[:2]) and blobs[1].data.tolist() == [0, 1]


def test_images_in_another_order_of_axes_are_named():
    layer, _ = set_up()
    with pytest.raises(LayerError, match=r"got \(6, 4, 5, 3\); its channels are the last axis: transpose it"):
        layer.set_input_arrays(DATA.transpose(0, 2, 3, 1), LABELS)
    with pytest.raises(LayerError, match=r"one label for each of 6 images, got 12, \(6, 2\)"):
        layer.set_input_arrays(DATA, np.zeros((6, 2)))
    with pytest.raises(UsageError, match="MemoryData layer 'm': labels: expected an array of numbers, got list"):
        layer.set_input_arrays(DATA, ["cat"] * 6)
    with pytest.raises(LayerError, match=r"\(M, 3, 4, 5\), got \(\)"):
        layer.set_input_arrays(3, 4)


def test_datums_may_come_from_a_generator():
    layer, blobs = set_up()
    layer.add_datums(array_to_datum(image, i + 3) for i, image in enumerate(DATA[:2]))
    layer.forward([], blobs)
    assert np.array_equal(blobs[0].data, DATA[:2]) and blobs[1].data.tolist() == [3, 4]


def test_a_batch_size_of_nothing_is_refused():
    layer, _ = set_up()
    with pytest.raises(LayerError, match="the batch size must be positive, got 0"):
        layer.set_batch_size(0)


def test_a_position_beyond_the_arrays_begins_again():
    layer, blobs = set_up()
    layer.set_input_arrays(DATA, LABELS)
    layer.forward([], blobs)
    layer.forward([], blobs)
    state = layer.state()
    layer.set_input_arrays(DATA[:4], LABELS[:4])
    layer.load_state(state)
    layer.forward([], blobs)
    assert blobs[1].data.tolist() == [0, 1]


def test_a_shape_of_any_number_of_axes_without_labels():
    layer, blobs = data_layer("name: 'm' type: 'MemoryData' memory_data_param { dim: 2 dim: 3 dim: 4 }", tops=1)
    layer.set_input_arrays(DATA[..., 0], LABELS)
    layer.forward([], blobs)
    assert [blob.shape for blob in blobs] == [(2, 3, 4)] and np.array_equal(blobs[0].data, DATA[:2, ..., 0])
    with pytest.raises(LayerError, match=r"datums are images, for tops \(N, C, H, W\); dim is \(2, 3, 4\)"):
        layer.add_datums([])
