"""VideoData: clips of the forks' lists, resumed, shared by ranks, and lists that cannot be read."""

import numpy as np
import pytest
from PIL import Image

from helpers.readers import assert_same_batches, batches, data_layer
from minicaffe import Net, set_random_seed
from minicaffe.core.settings import settings
from minicaffe.errors import DataError, LayerError
from minicaffe.proto import TEST, TRAIN, caffe_pb2, parse_text, upgrade_net

FRAMES, HIGH, WIDE = 12, 6, 8
PIXELS = np.random.default_rng(4).integers(0, 256, (3, FRAMES, HIGH, WIDE, 3), dtype=np.uint8)  # (video, ..., RGB)
PLANES = PIXELS[..., ::-1].transpose(0, 4, 1, 2, 3)  # (video, C, frame, H, W)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three videos as folders of frames in the forks' names, and as files."""
    root = tmp_path_factory.mktemp("videos")
    for v, video in enumerate(PIXELS):
        (root / f"video {v}").mkdir()
        for i, pixels in enumerate(video, 1):
            picture = Image.fromarray(pixels)
            for name in (f"image_{i:04d}.jpg", f"{i:06d}.jpg", f"img_{i:05d}.jpg"):
                picture.save(root / f"video {v}" / name, "PNG")
            for c, axis in enumerate("xy"):
                Image.fromarray(pixels[..., c]).save(root / f"video {v}" / f"flow_{axis}_{i:04d}.jpg", "PNG")
        first, *others = map(Image.fromarray, video)
        first.save(root / f"{v}.tif", save_all=True, append_images=others)
    return root


def layer_of(folder, lines, text="", transform="", phase=TRAIN, tops=2):
    (folder / "list.txt").write_text("\n".join(lines))
    return data_layer(
        f'name: "v" type: "VideoData" transform_param {{ {transform} }} video_data_param {{ '
        f'source: "{folder}/list.txt" root_folder: "{folder}/" {text} }}',
        tops,
        phase,
    )


def first_batch(*args, **options):
    layer, blobs = layer_of(*args, **options)
    layer.forward([], blobs)
    return blobs[0].data, blobs[1].data.tolist()


def test_clips_of_folders_and_of_files(folder, engine):
    lines = ["video 0 1 5", "video 1 3 6", "2.tif 9 7"]
    clips, labels = first_batch(folder, lines, "batch_size: 3 new_length: 4")
    assert clips.shape == (3, 3, 4, HIGH, WIDE) and labels == [5, 6, 7]
    np.testing.assert_array_equal(clips, [PLANES[v][:, first : first + 4] for v, first in ((0, 0), (1, 2), (2, 8))])
    clips, _ = first_batch(folder, lines, "batch_size: 3 new_length: 2 is_color: false new_height: 3 new_width: 4")
    assert clips.shape == (3, 1, 2, 3, 4)


def test_one_crop_and_one_mirroring_for_a_clip(folder):
    set_random_seed(1)
    transform = "crop_size: 4 mirror: true mean_value: 1 mean_value: 2 mean_value: 3 scale: 2"
    layer, blobs = layer_of(folder, ["video 0 2 0"], "batch_size: 8 new_length: 3", transform)
    layer.forward([], blobs)
    clip = (PLANES[0][:, 1:4] - np.array([1, 2, 3])[:, None, None, None]) * 2.0
    parts = [clip[..., i : i + 4, j : j + 4] for i in range(3) for j in range(5)]
    parts += [part[..., ::-1] for part in parts]
    found = [next(i for i, part in enumerate(parts) if np.array_equal(part, y)) for y in blobs[0].data]
    assert len(set(found)) > 1
    clips, _ = first_batch(folder, ["video 0 2 0"], "new_length: 3", transform.replace("mirror: true", ""), phase=TEST)
    np.testing.assert_array_equal(clips[0], clip[..., 1:5, 2:6])


def test_mean_files_of_clips_and_of_frames(folder):
    mean = np.random.default_rng(1).random((3, 2, HIGH, WIDE)).astype(np.float32)
    for shape, values in (((1, 3, 2, HIGH, WIDE), mean), ((1, 3, HIGH, WIDE), mean[:, :1])):
        blob = caffe_pb2.BlobProto(data=values.ravel().tolist())
        blob.shape.dim.extend(shape)
        (folder / "mean").write_bytes(blob.SerializeToString())
        clips, _ = first_batch(folder, ["video 0 1 0"], "new_length: 2", f'mean_file: "{folder}/mean"')
        np.testing.assert_array_equal(clips[0], PLANES[0][:, :2] - values)
    blob.shape.dim[:] = (1, 2, 3, HIGH, WIDE)
    blob.data.extend(values.ravel().tolist())
    (folder / "mean").write_bytes(blob.SerializeToString())
    with pytest.raises(DataError, match="has 3 frames of 2 channels, but clips have 2 of 3"):
        layer_of(folder, ["video 0 1 0"], "new_length: 2", f'mean_file: "{folder}/mean"')


def test_c3d(folder):
    text = "batch_size: 2 new_length: 3 use_image: true sampling_rate: 2"
    clips, labels = first_batch(folder, ["video 0 2 4", "video 2 1 5"], text)
    np.testing.assert_array_equal(clips, [PLANES[0][:, 1:7:2], PLANES[2][:, :6:2]])
    assert labels == [4, 5]
    clips, _ = first_batch(folder, ["0.tif 2 4"], "new_length: 3 use_image: false")
    np.testing.assert_array_equal(clips[0], PLANES[0][:, 2:5])  # frames of files are counted from 0
    text = "batch_size: 2 new_length: 2 use_image: true use_multiple_label: true num_of_labels: 4"
    layer, blobs = layer_of(folder, ["video 0 1 0,2", "video 0 1 3,"], text)
    assert blobs[1].shape == (2, 4)
    layer.forward([], blobs)
    assert blobs[1].data.tolist() == [[1, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(("line", "text"), [(f"video 1 {FRAMES} 3", "use_image: true"), ("1.tif 3", "")])
def test_c3d_with_random_frames(folder, line, text):
    set_random_seed(1)
    text = f"batch_size: 50 new_length: 3 use_temporal_jitter: true {text}"
    clips, labels = first_batch(folder, [line], text)
    firsts = [next(i for i in range(10) if np.array_equal(PLANES[1][:, i : i + 3], clip)) for clip in clips]
    assert min(firsts) == 0 and max(firsts) == 9 and labels == [3.0] * 50
    clips, _ = first_batch(folder, [line], text, phase=TEST)
    np.testing.assert_array_equal(clips, np.tile(PLANES[1][:, :3], (50, 1, 1, 1, 1)))
    clips, _ = first_batch(folder, [line], f"{text} use_sampling_rate_jitter: true max_sampling_rate: 4", phase=TEST)
    steps = {next(s for s in range(1, 5) if np.array_equal(PLANES[1][:, : 3 * s : s], clip)) for clip in clips}
    assert steps == {1, 2, 3, 4}


def test_tsn(folder):
    set_random_seed(1)
    text = 'modality: RGB num_segments: 3 new_length: 1 name_pattern: "img_%05d.jpg" batch_size: 2'
    lines = [f"video 0 {FRAMES} 1", "video 1 2 2"]
    clips, labels = first_batch(folder, lines, text, "mean_value: [1, 2, 3]", phase=TEST)
    assert clips.shape == (2, 9, HIGH, WIDE) and labels == [1, 2]
    mean = np.array([1, 2, 3])[:, None, None]
    for k, (v, first) in enumerate([(0, 2), (0, 6), (0, 10), (1, 0), (1, 0), (1, 0)]):  # of 4, the frame after 2
        np.testing.assert_array_equal(clips.reshape(6, 3, HIGH, WIDE)[k], PLANES[v][:, first] - mean)
    clips, _ = first_batch(folder, [f"video 0 {FRAMES} 1"], text.replace("2", "40"))
    for part in range(3):
        frames = clips[:, 3 * part : 3 * part + 3]
        found = {next(i for i in range(FRAMES) if np.array_equal(PLANES[0][:, i], frame)) for frame in frames}
        assert found == set(range(4 * part, 4 * part + 4))


def test_tsn_with_flow(folder, engine):
    text = "num_segments: 2 new_length: 2"  # FLOW is the default
    clips, _ = first_batch(folder, [f"video 2 {FRAMES} 1"], text, phase=TEST)
    flow = PIXELS[2][[2, 3, 8, 9]][..., :2].transpose(0, 3, 1, 2)  # in the middle of frames 0 to 5, 6 to 11
    np.testing.assert_array_equal(clips[0], flow.reshape(8, HIGH, WIDE))
    clips, _ = first_batch(folder, [f"video 2 {FRAMES} 1"], "modality: RGB grayscale: true", phase=TEST)
    assert clips.shape == (1, 1, HIGH, WIDE)


def test_ssd(folder):
    text = f'video_data_param {{ video_type: VIDEO video_file: "{folder}/1.tif" skip_frames: 2 }}'
    layer, blobs = data_layer(f'type: "VideoData" data_param {{ batch_size: 3 }} {text}', 1)
    expected = [PLANES[1][:, i] for i in (2, 5, 8, 11, 2, 5)]
    for part in (expected[:3], expected[3:]):
        layer.forward([], blobs)
        np.testing.assert_array_equal(blobs[0].data, part)
    for text in ("video_type: WEBCAM", "device_id: 0", "video_type: VIDEO"):
        with pytest.raises(LayerError, match="a camera cannot be read: write video_type: VIDEO, and video_file"):
            data_layer(f'type: "VideoData" data_param {{ batch_size: 1 }} video_data_param {{ {text} }}', 1)


RANDOM = "num_segments: 2 modality: RGB shuffle: true rand_skip: 2 batch_size: 2"
LINES = [f"video {v} {FRAMES} {v}" for v in range(3)]


def test_a_resumed_run_gets_the_same_clips(folder):
    layer, blobs = layer_of(folder, LINES, RANDOM, "mirror: true crop_size: 4")
    batches(layer, blobs, 2)
    state = layer.state()
    expected = batches(layer, blobs, 4)
    other, other_blobs = layer_of(folder, LINES, RANDOM, "mirror: true crop_size: 4")
    other.load_state(state)
    assert_same_batches(batches(other, other_blobs, 4), expected)
    layer.load_state(state)  # after batches that were read ahead
    assert_same_batches(batches(layer, blobs, 4), expected)


def test_ranks_share_one_list(folder, monkeypatch):
    text = RANDOM.replace("batch_size: 2", "batch_size: 1")
    labels = []
    for rank in range(3):
        monkeypatch.setattr(settings, "solver_rank", rank)
        monkeypatch.setattr(settings, "solver_count", 3)
        layer, blobs = layer_of(folder, LINES, text.replace("shuffle: true rand_skip: 2", ""))
        labels.append([int(each[1][0]) for each in batches(layer, blobs, 3)])
    assert labels == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]


def test_ranks_share_the_frames_of_a_file(folder, monkeypatch):
    monkeypatch.setattr(settings, "solver_count", 2)
    text = f'video_data_param {{ video_type: VIDEO video_file: "{folder}/1.tif" }}'
    for rank in range(2):
        monkeypatch.setattr(settings, "solver_rank", rank)
        layer, blobs = data_layer(f'type: "VideoData" data_param {{ batch_size: 3 }} {text}', 1)
        for (part,), first in zip(batches(layer, blobs, 2), (rank, 6 + rank)):
            np.testing.assert_array_equal(part, [PLANES[1][:, first + 2 * i] for i in range(3)])


def test_c3d_in_the_older_format(folder):
    (folder / "list.txt").write_text(f"{folder}/video 0 1 2\n")
    text = f"""layers {{ name: "d" type: VIDEO_DATA top: "data" top: "label" image_data_param {{
        source: "{folder}/list.txt" use_image: true new_length: 4 batch_size: 1 crop_size: 4 mirror: true mean_value: 3
        show_data: 0 }} }}
        layers {{ name: "s" type: VOXEL_SOFTMAX bottom: "data" top: "s" }}"""
    net = Net(upgrade_net(parse_text(text, caffe_pb2.NetParameter())), TEST)
    net.forward()
    y = net.blobs["data"].data[0]
    clip = PLANES[0][:, :4, 1:5, 2:6].astype(np.float32) - 3
    assert np.array_equal(y, clip) or np.array_equal(y, clip[..., ::-1])
    np.testing.assert_allclose(net.blobs["s"].data.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("line", "text", "sentence"),
    [
        ("video0 1", "", 'list.txt, line 1: expected "path number label" with whole numbers, got'),
        ("video 0 x 1", "", 'list.txt, line 1: expected "path number label" with whole numbers, got'),
        ("video 0 1 x", "", 'list.txt, line 1: expected "path number label" with whole numbers, got'),
        ("0.tif", "use_temporal_jitter: true", 'list.txt, line 1: expected "path label"'),
        ("video 0 1 9", "use_multiple_label: true num_of_labels: 4", "label 9 must be below num_of_labels, 4"),
        ("video 0 11 1", "new_length: 3", "video .*video 0: cannot read image .*image_0013.jpg: No such file"),
        ("0.tif 11 1", "new_length: 3", "0.tif has 12 frames: there is no frame 12, counted from 0"),
        ("video 9 1 1", "", "video .*video 9: cannot read video .*video 9: No such file"),
        ("video 0 2 1", "use_image: true use_temporal_jitter: true new_length: 3", "2 frames are too few for 3 at a"),
        ("video 0 1 1", 'name_pattern: "frame.jpg"', "name_pattern must have a number"),
    ],
)
def test_bad_lists(folder, line, text, sentence):
    with pytest.raises(DataError, match=f"VideoData layer 'v': .*{sentence}"):
        layer_of(folder, [line], text)


def test_frames_of_different_sizes(folder, tmp_path):
    for i, size in enumerate([(4, 5), (4, 6)], 1):
        Image.new("RGB", size).save(tmp_path / f"image_{i:04d}.jpg")
    with pytest.raises(DataError, match="its frames differ in size: give new_height and new_width"):
        layer_of(folder, [f"../{tmp_path.name} 1 0"], "new_length: 2")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("new_length: 0", "video_data_param.new_length must be positive, got 0"),
        ("num_segments: 0", "video_data_param.num_segments must be positive, got 0"),
        ("batch_size: 0", "video_data_param.batch_size must be positive, got 0"),
        ("new_height: 4", "new_height and new_width must be given together, got 4 and 0"),
    ],
)
def test_bad_parameters(folder, text, sentence):
    with pytest.raises(LayerError, match=f"VideoData layer 'v': {sentence}"):
        layer_of(folder, ["video 0 1 0"], text)
    with pytest.raises(LayerError, match="video_data_param must have a source"):
        data_layer('name: "v" type: "VideoData"')
