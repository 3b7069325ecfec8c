"""VideoWithVoxelTruthData and VideoSegmentationData: volumes and their truth, cropped and mirrored alike."""

import numpy as np
import pytest

from helpers.readers import assert_same_batches, batches, data_layer
from minicaffe import set_random_seed
from minicaffe.errors import DataError, LayerError
from minicaffe.proto import TEST, TRAIN, caffe_pb2, parse_text, upgrade_net

SHAPE = (5, 2, 6, 7)
VOLUMES = np.random.default_rng(0).integers(0, 200, (3, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("volumes")
    head = np.array([1, *SHAPE], "<i4").tobytes()
    for i, values in enumerate(VOLUMES):
        (root / f"{i}.bin").write_bytes(head + values.astype("<f4").tobytes())
        (root / f"{i}.byte").write_bytes(head + values.astype(np.uint8).tobytes())
    return root


def layer_of(folder, kind, text="", transform="", phase=TRAIN, paths=None):
    end = "byte" if kind == "VideoSegmentationData" else "bin"
    (folder / "list.txt").write_text("\n".join(paths or [f"{i}.{end}" for i in range(3)]))
    return data_layer(
        f'name: "v" type: "{kind}" transform_param {{ {transform} }} image_data_param {{ '
        f'source: "{folder}/list.txt" root_folder: "{folder}/" {text} }}',
        2,
        phase,
    )


def test_bytes_with_labels(folder):
    layer, blobs = layer_of(folder, "VideoSegmentationData", "batch_size: 2", "mean_value: 3 scale: .5")
    layer.forward([], blobs)
    assert blobs[1].shape == (2, 1, 2, 6, 7)
    np.testing.assert_array_equal(blobs[0].data, (VOLUMES[:2, :4] - 3) / 2)
    np.testing.assert_array_equal(blobs[1].data, VOLUMES[:2, 4:])


@pytest.mark.parametrize("is_flow", ["true", "false"])
def test_flow_is_cropped_and_mirrored_with_its_video(folder, is_flow):
    set_random_seed(2)
    text = f"batch_size: 12 num_truth_channels: 2 truth_scale: .25 is_flow: {is_flow}"
    transform = "crop_size: 4 mirror: true mean_value: 1 mean_value: 2 mean_value: 3"
    layer, blobs = layer_of(folder, "VideoWithVoxelTruthData", text, transform)
    layer.forward([], blobs)
    assert blobs[0].shape == (12, 3, 2, 4, 4) and blobs[1].shape == (12, 2, 2, 4, 4)
    seen = set()
    for i, (video, truth) in enumerate(zip(blobs[0].data, blobs[1].data)):
        volume = VOLUMES[i % 3] - np.array([1, 2, 3, 0, 0])[:, None, None, None]
        parts = {
            (a, b, f): volume[..., a : a + 4, b : b + 4][..., :: 1 - 2 * f]
            for a in range(3)
            for b in range(4)
            for f in (0, 1)
        }
        place = next(place for place, part in parts.items() if np.array_equal(part[:3], video))
        sign = -1 if place[2] and is_flow == "true" else 1
        np.testing.assert_array_equal(truth, parts[place][3:] * np.array([sign, 1])[:, None, None, None] / 4)
        seen.add(place)
    assert len(seen) > 3 and {place[2] for place in seen} == {0, 1}


def test_a_mean_of_volumes_and_the_centre_in_test(folder):
    mean = np.random.default_rng(1).random((4, *SHAPE[1:])).astype(np.float32)
    blob = caffe_pb2.BlobProto(data=mean.ravel().tolist())
    blob.shape.dim.extend((1, *mean.shape))
    (folder / "mean").write_bytes(blob.SerializeToString())
    transform = f'crop_size: 4 mean_file: "{folder}/mean"'
    layer, blobs = layer_of(folder, "VideoSegmentationData", "batch_size: 1", transform, TEST)
    layer.forward([], blobs)
    np.testing.assert_array_equal(blobs[0].data[0], (VOLUMES[0, :4] - mean)[..., 1:5, 1:5])
    np.testing.assert_array_equal(blobs[1].data[0], VOLUMES[0, 4:, :, 1:5, 1:5])


def test_a_resumed_run_gets_the_same_volumes(folder):
    arguments = folder, "VideoSegmentationData", "batch_size: 2 shuffle: true", "mirror: true crop_size: 4"
    layer, blobs = layer_of(*arguments)
    batches(layer, blobs, 2)
    state = layer.state()
    expected = batches(layer, blobs, 3)
    other, other_blobs = layer_of(*arguments)
    other.load_state(state)
    assert_same_batches(batches(other, other_blobs, 3), expected)


def test_layers_of_the_older_format():
    text = """layers { type: VIDEO_WITH_VOXEL_TRUTH_DATA image_data_param { source: "a" mean_value: 5 crop_size: 3
        num_truth_channels: 2 truth_scale: 0.125 is_flow: true show_data: 0 } }
        layers { type: VIDEO_SEGMENTATION_DATA image_data_param { source: "b" } }"""
    first, second = upgrade_net(parse_text(text, caffe_pb2.NetParameter())).layer
    assert (first.type, second.type) == ("VideoWithVoxelTruthData", "VideoSegmentationData")
    assert list(first.transform_param.mean_value) == [5] and first.transform_param.crop_size == 3
    assert first.image_data_param.num_truth_channels == 2 and not first.image_data_param.HasField("mean_value")


def test_bad_files_and_parameters(folder):
    kind = "VideoWithVoxelTruthData"
    (folder / "short.bin").write_bytes(b"\1")
    for path, words in (
        ("none.bin", "cannot read volume .*none.bin: No such file"),
        ("0.byte", r"must be 1, C, L, H, W and so many floats, got \[1, 5, 2, 6, 7\] and 420 bytes"),
        ("short.bin", r"must be 1, C, L, H, W and so many floats, got \[\] and 0 bytes"),
    ):
        with pytest.raises(DataError, match=f"{kind} layer 'v': .*{words}"):
            layer_of(folder, kind, paths=[path])
    with pytest.raises(DataError, match="a volume must have more than 5 channels of truth, got 5 in all"):
        layer_of(folder, kind, "num_truth_channels: 5")
    with pytest.raises(LayerError, match="num_truth_channels must be positive, got 0"):
        layer_of(folder, kind, "num_truth_channels: 0")
