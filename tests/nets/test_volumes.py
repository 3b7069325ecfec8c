"""Nets for video of public repositories, small: C3D in three forks, P3D, TSN and the stem of R-C3D.

They are built as by scripts, run forward and backward from frames in files or drawn numbers, and train.
"""

import numpy as np
import pytest
from PIL import Image

import minicaffe as caffe
from minicaffe import Net, get_solver
from minicaffe import layers as L
from minicaffe import params as P
from minicaffe.net_spec import NetSpec
from minicaffe.proto import TRAIN, caffe_pb2, format_text, parse_text, upgrade_net

FILLER = {"type": "msra"}
LENGTH, SIZE = 4, 16


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two videos as folders of frames: a dark one that grows lighter, and a light one that grows darker."""
    root = tmp_path_factory.mktemp("videos")
    noise = np.random.default_rng(0).integers(0, 60, (2, 12, SIZE, SIZE, 3))
    for v, first in enumerate((0, 190)):
        (root / f"v{v}").mkdir()
        for i in range(12):
            pixels = noise[v, i] + first + (12 if v == 0 else -12) * i
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            for name in (f"image_{i + 1:04d}.jpg", f"{i + 1:06d}.jpg"):
                picture.save(root / f"v{v}" / name)
            for axis in "xy":
                picture.convert("L").save(root / f"v{v}" / f"flow_{axis}_{i + 1:04d}.jpg")
    (root / "clips.txt").write_text("".join(f"{root}/v{v} {first} {v}\n" for first in (1, 5, 8) for v in (0, 1)))
    (root / "segments.txt").write_text("".join(f"{root}/v{v} 12 {v}\n" for v in (0, 1)))
    return root


def runs(net):
    """Run a net forward and backward: all numbers are finite, and all weights have a gradient."""
    net.forward()
    for name in net.outputs:
        net.blobs[name].diff[...] = 1
    net.backward()
    assert all(np.isfinite(blob.data).all() and np.isfinite(blob.diff).all() for blob in net.blobs.values())
    for name, blobs in net.params.items():
        assert np.isfinite(blobs[0].diff).all() and np.abs(blobs[0].diff).max() > 0, name


def built(spec):
    text = format_text(spec.to_proto())
    return Net(upgrade_net(parse_text(text, caffe_pb2.NetParameter())), TRAIN)


def head(n, x, classes=2):
    n.fc6 = L.InnerProduct(x, num_output=8, weight_filler=FILLER)
    n.relu6 = L.ReLU(n.fc6, in_place=True)
    n.drop6 = L.Dropout(n.relu6, dropout_ratio=0.1, in_place=True)
    n.fc8 = L.InnerProduct(n.drop6, num_output=classes, weight_filler=FILLER)
    n.loss = L.SoftmaxWithLoss(n.fc8, n.label)


def video_data(videos, **more):
    n = NetSpec()
    transform = {"mean_value": 128, "scale": 1 / 64, "crop_size": SIZE - 4, "mirror": True}
    video = {"source": f"{videos}/clips.txt", "batch_size": 4, "new_length": LENGTH, "shuffle": True, **more}
    n.data, n.label = L.VideoData(ntop=2, transform_param=transform, video_data_param=video)
    return n


def c3d_of_video_caffe(videos):
    n = video_data(videos, new_height=SIZE, new_width=SIZE)
    x, shape = n.data, {"dim": [3, 3, 3]}
    for i, (depth, out) in enumerate(((1, 4), (2, 6)), 1):
        window = {"kernel_shape": shape, "stride_shape": {"dim": [1, 1, 1]}, "pad_shape": {"dim": [1, 1, 1]}}
        n[f"conv{i}"] = L.NdConvolution(x, convolution_param={"num_output": out, "weight_filler": FILLER, **window})
        n[f"relu{i}"] = L.ReLU(n[f"conv{i}"], in_place=True)
        pooled = {"dim": [depth, 2, 2]}
        x = n[f"pool{i}"] = L.NdPooling(
            n[f"relu{i}"], pooling_param={"pool": P.Pooling.MAX, "kernel_shape": pooled, "stride_shape": pooled}
        )
    head(n, x)
    return n


def c3d(videos):
    n = video_data(videos, use_image=True)
    x = n.data
    for i, (depth, out) in enumerate(((1, 4), (2, 6)), 1):
        conv = {"num_output": out, "kernel_size": 3, "kernel_depth": 3, "pad": 1, "temporal_pad": 1}
        n[f"conv{i}a"] = L.Convolution3D(x, convolution3d_param={**conv, "weight_filler": FILLER})
        n[f"relu{i}a"] = L.ReLU(n[f"conv{i}a"], in_place=True)
        pooled = {"kernel_size": 2, "kernel_depth": depth, "stride": 2, "temporal_stride": depth}
        x = n[f"pool{i}"] = L.Pooling3D(n[f"relu{i}a"], pooling3d_param={"pool": "MAX", **pooled})
    head(n, x)
    return n


def c3d_of_r_c3d(videos):
    n = video_data(videos)
    x = n.data
    for i, (depth, out) in enumerate(((1, 4), (2, 6)), 1):
        n[f"conv{i}a"] = L.Convolution(x, num_output=out, kernel_size=3, pad=1, weight_filler=FILLER)
        n[f"relu{i}a"] = L.ReLU(n[f"conv{i}a"], in_place=True)
        x = n[f"pool{i}"] = L.Pooling(n[f"relu{i}a"], kernel_size=[depth, 2, 2], stride=[depth, 2, 2])
    head(n, x)
    return n


def p3d(videos):
    """A residual unit of a convolution over rows and columns, one over time, and a pooling over time."""
    n = video_data(videos)
    n.conv1 = L.Convolution(
        n.data,
        num_output=4,
        kernel_size=[1, 3, 3],
        pad=[0, 1, 1],
        stride=[1, 2, 2],
        bias_term=False,
        weight_filler=FILLER,
    )
    n.bn1 = L.BN(n.conv1, in_place=True, bn_param={"slope_filler": {"value": 1}, "frozen": False})
    n.relu1 = L.ReLU(n.bn1, in_place=True)
    n.spatial = L.Convolution(n.relu1, num_output=4, kernel_size=[1, 3, 3], pad=[0, 1, 1], weight_filler=FILLER)
    n.temporal = L.Convolution(n.spatial, num_output=4, kernel_size=[3, 1, 1], pad=[1, 0, 0], weight_filler=FILLER)
    n.sum = L.Eltwise(n.relu1, n.temporal)
    n.pool = L.Pooling3D(
        n.sum, pooling3d_param={"pool": "MAX", "kernel_size": 1, "kernel_l": 2, "stride_l": 2, "pad_l": 0}
    )
    n.mean = L.Pooling(n.pool, pool=P.Pooling.AVE, kernel_size=[2, 6, 6])
    head(n, n.mean)
    return n


def tsn(videos, modality="RGB", length=1):
    """The frames of each segment as samples, and the mean of their scores."""
    n = NetSpec()
    transform = {"crop_size": 12, "mirror": True, "multi_scale": True, "fix_crop": True, "more_fix_crop": True}
    transform |= {"scale_ratios": [1, 0.875, 0.75], "is_flow": modality == "FLOW", "mean_value": 128, "scale": 1 / 64}
    video = {"source": f"{videos}/segments.txt", "batch_size": 4, "num_segments": 3, "new_length": length}
    n.data, n.label = L.VideoData(
        ntop=2, transform_param=transform, video_data_param={**video, "modality": modality, "shuffle": True}
    )
    planes = 3 if modality == "RGB" else 2 * length
    n.frames = L.Reshape(n.data, shape={"dim": [-1, planes, 12, 12]})
    n.conv1 = L.Convolution(n.frames, num_output=4, kernel_size=3, stride=2, weight_filler=FILLER)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool = L.Pooling(n.relu1, pool=P.Pooling.AVE, kernel_size=5)
    n.fc = L.InnerProduct(n.pool, num_output=2, weight_filler=FILLER)
    n.segments = L.Reshape(n.fc, shape={"dim": [-1, 1, 3, 2]})
    n.consensus = L.Pooling(n.segments, pool=P.Pooling.AVE, kernel_h=3, kernel_w=1)
    n.loss = L.SoftmaxWithLoss(n.consensus, n.label, softmax_param={"axis": 3})
    return n


NETS = {
    "video-caffe's C3D": c3d_of_video_caffe,
    "C3D": c3d,
    "R-C3D's C3D": c3d_of_r_c3d,
    "P3D": p3d,
    "TSN": tsn,
    "TSN of flow": lambda videos: tsn(videos, "FLOW", 2),
}


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_it_runs_forward_and_backward(make, videos, engine):
    caffe.set_random_seed(1)
    runs(built(make(videos)))


@pytest.mark.parametrize("make", [c3d, tsn])
def test_it_learns(make, videos, tmp_path):
    net = tmp_path / "net.prototxt"
    net.write_text(format_text(make(videos).to_proto()))
    solver = tmp_path / "solver.prototxt"
    solver.write_text(
        f'train_net: "{net}" base_lr: 0.02 momentum: 0.9 lr_policy: "fixed" max_iter: 120 random_seed: 3 display: 0 '
        f'snapshot_prefix: "{tmp_path}/s" snapshot_after_train: false'
    )
    trained = get_solver(str(solver))
    trained.step(120)
    losses = [float(trained.net.forward()["loss"]) for _ in range(5)]
    assert np.mean(losses) < 0.1  # the videos differ in brightness


def test_regions_in_time(engine):
    """R-C3D: anchors along time from a map without rows and columns, and pooled parts of the video."""
    n = NetSpec()
    n.map, n.rois = L.Input(ntop=2, shape=[{"dim": [1, 3, 16, 7, 7]}, {"dim": [4, 3]}])
    n.conv = L.Convolution(n.map, num_output=4, kernel_size=3, pad=1, weight_filler=FILLER)
    n.relu = L.ReLU(n.conv, in_place=True)
    n.pool6 = L.Pooling(n.relu, kernel_size=[1, 2, 2], stride=[1, 2, 2])
    n.score = L.Convolution(n.pool6, num_output=6, kernel_size=[1, 4, 4], weight_filler=FILLER)
    parts = {"pooled_l": 1, "pooled_h": 4, "pooled_w": 4, "temporal_scale": 0.125, "spatial_scale": 0.0625}
    n.roi_pool = L.ROIPooling(n.relu, n.rois, roi_pooling_param=parts)
    n.fc6 = L.InnerProduct(n.roi_pool, num_output=5, weight_filler=FILLER)
    proto = n.to_proto()
    proto.force_backward = True
    net = Net(proto, TRAIN)
    assert net.blobs["score"].shape == (1, 6, 16, 1, 1) and net.blobs["roi_pool"].shape == (4, 4, 1, 4, 4)
    net.blobs["map"].data[...] = np.random.default_rng(0).standard_normal(net.blobs["map"].shape)
    net.blobs["rois"].data[...] = [[0, 0, 40], [0, 30, 90], [0, 64, 64], [0, 100, 127]]
    runs(net)


VOXELS = """
input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 8 dim: 8 }
input: "truth" input_shape { dim: 1 dim: 1 dim: 4 dim: 8 dim: 8 }
layers { name: "conv1a" type: CONVOLUTION3D bottom: "data" top: "conv1a" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
  weight_decay: 0 convolution_param { num_output: 4 kernel_size: 3 kernel_depth: 3 pad: 1 temporal_pad: 1
  weight_filler { type: "gaussian" std: 0.3 } bias_filler { type: "constant" value: 0 } } }
layers { name: "relu1a" type: RELU bottom: "conv1a" top: "conv1a" }
layers { name: "pool1" type: POOLING3D bottom: "conv1a" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 kernel_depth: 2 stride: 2 temporal_stride: 2 } }
layers { name: "deconv1b" type: DECONVOLUTION3D bottom: "pool1" top: "deconv1b" blobs_lr: 1 blobs_lr: 2
  convolution_param { num_output: 4 kernel_size: 4 kernel_depth: 4 pad: 1 temporal_pad: 1 stride: 2 temporal_stride: 2
  weight_filler { type: "gaussian" std: 0.3 } bias_filler { type: "constant" value: 1 } } }
layers { name: "concat1" type: CONCAT bottom: "deconv1b" bottom: "conv1a" top: "concat1"
  concat_param { concat_dim: 1 } }
layers { name: "predict" type: CONVOLUTION3D bottom: "concat1" top: "predict" blobs_lr: 1 blobs_lr: 2
  convolution_param { num_output: 8 kernel_size: 3 kernel_depth: 3 pad: 1 temporal_pad: 1
  weight_filler { type: "gaussian" std: 0.3 } } }
layers { name: "loss" type: VOXEL_SOFTMAX_LOSS bottom: "predict" bottom: "truth" }
"""


def test_voxels_of_c3d_in_the_older_format(engine):
    net = Net(upgrade_net(parse_text(VOXELS, caffe_pb2.NetParameter())), TRAIN)
    rng = np.random.default_rng(0)
    net.blobs["data"].data[...] = rng.standard_normal(net.blobs["data"].shape)
    net.blobs["truth"].data[...] = rng.integers(8, size=net.blobs["truth"].shape)
    assert net.blobs["deconv1b"].shape == (1, 4, 4, 8, 8)
    runs(net)
