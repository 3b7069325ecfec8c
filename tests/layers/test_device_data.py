"""Batches on the GPU, from a resident or a streamed data set, are those of the host, crops and flips included."""

import numpy as np
import pytest

from helpers.readers import assert_same_batches, batches, data_layer, write_images
from minicaffe.testing import computing_with

pytestmark = pytest.mark.gpu

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 3, 6, 5), np.uint8)
CROPS_AND_FLIPS = "crop_size: 4 mirror: true scale: 2"
TRANSFORMS = ["", "scale: 0.5", "mean_value: 3 mean_value: 4 mean_value: 5", CROPS_AND_FLIPS]


@pytest.fixture
def database(tmp_path):
    return write_images(tmp_path / "db", IMAGES)


@pytest.fixture(params=["Resident", "Streamed"])
def source(request, cuda_device, monkeypatch):
    if request.param == "Streamed":
        monkeypatch.setattr("minicaffe.cuda.transform.room", lambda: 0)
    return f"{request.param}Source"


class Reader:
    """A Data layer with a fixed state of its random stream."""

    def __init__(self, path, transform, phase=0, tops=2):
        data = f"data_param {{ source: '{path}' backend: LMDB batch_size: 3 }}"
        text = f"type: 'Data' transform_param {{ {transform} }} {data}"
        self.layer, self.top = data_layer(text, tops, phase)
        self.layer.rng.set_state(self.layer.rng.get_state() | {"key": [1, 2], "counter": [0] * 4})

    def batches(self, count, gpu):
        with computing_with(gpu=gpu):
            return batches(self.layer, self.top, count)


@pytest.mark.parametrize("tops", [1, 2])
@pytest.mark.parametrize("phase", [0, 1])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_same_batches_as_on_the_host(database, source, transform, phase, tops):
    device, host = (Reader(database, transform, phase, tops) for _ in range(2))
    assert_same_batches(device.batches(6, gpu=True), host.batches(6, gpu=False))
    assert type(device.layer._source).__name__ == source
    assert device.layer.state()["rng"] == host.layer.state()["rng"]
    assert device.layer.state()["position"]["key"] == host.layer.state()["position"]["key"]


def test_a_resumed_reader_goes_on_where_it_was(database, source):
    first = Reader(database, CROPS_AND_FLIPS)
    first.batches(4, gpu=True)
    state = first.layer.state()
    expected = first.batches(3, gpu=True)
    second = Reader(database, CROPS_AND_FLIPS)
    second.batches(1, gpu=True)
    second.layer.load_state(state)
    assert second.layer.state() == state
    assert_same_batches(second.batches(3, gpu=True), expected)


def test_host_and_device_may_take_turns(database, source):
    turns, host = (Reader(database, CROPS_AND_FLIPS) for _ in range(2))
    assert_same_batches(
        [batch for gpu in (True, False, True) for batch in turns.batches(2, gpu)], host.batches(6, gpu=False)
    )


def test_what_is_not_bytes_of_one_size_is_transformed_on_the_host(tmp_path, cuda_device):
    images = {"floats": IMAGES.astype(float), "sizes": [IMAGES[0], IMAGES[1][:, :4, :4], IMAGES[2]]}
    for name, values in images.items():
        write_images(tmp_path / name, values[:3])
        reader = Reader(tmp_path / name, "crop_size: 4", phase=1)
        assert_same_batches(
            reader.batches(2, gpu=True), Reader(tmp_path / name, "crop_size: 4", phase=1).batches(2, gpu=False)
        )
        assert reader.layer._source is None and not reader.layer.capturable
