"""Small nets in the manner of SegNet's, HED's and DeepLab's prototxts: they read files, learn, and are scored."""

import numpy as np
import pytest
from PIL import Image

import minicaffe
from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L
from minicaffe.net_spec import params as P
from minicaffe.proto import caffe_pb2

SIZE = 24
MSRA = dict(weight_filler=dict(type="msra"))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Eight pictures of a bright square of class 1 and a dark one of class 2, with their maps and edges."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for index in range(8):
        maps = np.zeros((SIZE, SIZE), np.uint8)
        for label in (1, 2):
            top, left = rng.integers(0, SIZE - 10, 2)
            maps[top : top + 10, left : left + 10] = label
        picture = np.array([120, 220, 20])[maps][..., None] + rng.integers(-15, 16, (SIZE, SIZE, 3))
        edges = (maps != np.roll(maps, 1, 0)) | (maps != np.roll(maps, 1, 1))
        Image.fromarray(picture.astype(np.uint8)).save(f"{index}.png")
        Image.fromarray(maps).save(f"map{index}.png")
        Image.fromarray(edges.astype(np.uint8) * 255).save(f"edge{index}.png")
    for kind in ("map", "edge"):
        (tmp_path / f"{kind}s.txt").write_text("".join(f"{i}.png {kind}{i}.png\n" for i in range(8)))


def segnet():
    """bayesian_segnet_basic: LRN, pooling with masks, BN, Dropout, Upsample, and a weight for each class."""
    n = NetSpec()
    n.data, n.label = L.DenseImageData(
        ntop=2, dense_image_data_param=dict(source="maps.txt", batch_size=4, shuffle=True, mirror=True)
    )
    x = n.norm = L.LRN(n.data, local_size=5, alpha=0.0001, beta=0.75)
    masks = []
    filler = dict(scale_filler=dict(type="constant", value=1), shift_filler=dict(type="constant", value=0.001))
    for level in (1, 2):
        n[f"conv{level}"] = L.Convolution(x, num_output=8, kernel_size=5, pad=2, **MSRA)
        n[f"bn{level}"] = L.BN(n[f"conv{level}"], in_place=True, bn_param=filler)
        n[f"relu{level}"] = L.ReLU(n[f"bn{level}"], in_place=True)
        x, mask = n[f"pool{level}"], n[f"mask{level}"] = L.Pooling(
            n[f"relu{level}"], ntop=2, pool=P.Pooling.MAX, kernel_size=2, stride=2
        )
        masks.append(mask)
    x = n.drop = L.Dropout(x, in_place=True, dropout_ratio=0.1)
    for level in (2, 1):
        n[f"up{level}"] = L.Upsample(x, masks[level - 1], scale=2)
        n[f"deconv{level}"] = L.Convolution(n[f"up{level}"], num_output=8, kernel_size=5, pad=2, **MSRA)
        x = n[f"debn{level}"] = L.BN(n[f"deconv{level}"], in_place=True, bn_param=filler)
    n.score = L.Convolution(x, num_output=3, kernel_size=1, **MSRA)
    weighting = dict(weight_by_label_freqs=True, class_weighting=[0.6, 1.5, 1.5])
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=weighting)
    return n


def hed():
    """HED: a side output after each stage, upsampled, cropped to the image, with a loss of its own; and their mean."""
    n = NetSpec()
    n.data, n.label = L.ImageLabelmapData(
        ntop=2, image_data_param=dict(source="edges.txt", batch_size=1, shuffle=True),
        transform_param=dict(mean_value=[120.0], scale=1 / 64),
    )  # fmt: skip
    x, sides = n.data, []
    for stage in range(3):
        pad = 10 if stage == 0 else 1
        n[f"conv{stage}"] = L.Convolution(x, num_output=8, kernel_size=3, pad=pad, **MSRA)
        n[f"relu{stage}"] = L.ReLU(n[f"conv{stage}"], in_place=True)
        side = n[f"score{stage}"] = L.Convolution(n[f"relu{stage}"], num_output=1, kernel_size=1, **MSRA)
        if stage:
            side = n[f"upscore{stage}"] = L.Deconvolution(side, param=dict(lr_mult=0), convolution_param=dict(
                num_output=1, kernel_size=2 << stage, stride=1 << stage, bias_term=False,
                weight_filler=dict(type="bilinear")))  # fmt: skip
        n[f"crop{stage}"] = L.Crop(side, n.data)
        sides.append(n[f"crop{stage}"])
        n[f"loss{stage}"] = L.SigmoidCrossEntropyLoss(n[f"crop{stage}"], n.label)
        x = n[f"pool{stage}"] = L.Pooling(n[f"relu{stage}"], pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.silence = L.Silence(x, ntop=0)
    n.concat = L.Concat(*sides)
    n.fuse = L.Convolution(n.concat, num_output=1, kernel_size=1, weight_filler=dict(type="constant", value=1 / 3))
    n.loss = L.SigmoidCrossEntropyLoss(n.fuse, n.label)
    return n


def deeplab():
    """DeepLab: random scales, holes, and scores that are compared with labels at an eighth of the size."""
    n = NetSpec()
    n.data, n.label, n.data_dim = L.ImageSegData(
        ntop=3, image_data_param=dict(source="maps.txt", batch_size=4, shuffle=True, label_type=P.ImageData.PIXEL),
        transform_param=dict(mean_value=[120.0], scale=1 / 64, crop_size=SIZE + 1, mirror=True,
                             scale_factors=[0.75, 1, 1.25]),
    )  # fmt: skip
    n.silence = L.Silence(n.data_dim, ntop=0)
    x = n.data
    for i, (stride, hole) in enumerate(((2, 1), (1, 2), (1, 4))):
        n[f"conv{i}"] = L.Convolution(x, convolution_param=dict(
            num_output=16, kernel_size=3, stride=stride, pad=hole, hole=hole, **MSRA))  # fmt: skip
        x = n[f"relu{i}"] = L.ReLU(n[f"conv{i}"], in_place=True)
    n.score = L.Convolution(x, num_output=3, kernel_size=1, **MSRA)
    n.label_small = L.Interp(n.label, shrink_factor=2)
    ignored = dict(ignore_label=255)
    n.loss = L.SoftmaxWithLoss(n.score, n.label_small, loss_param=ignored)
    n.accuracy = L.SegAccuracy(n.score, n.label_small, seg_accuracy_param=dict(ignore_label=[255]))
    return n


def solver_of(spec):
    param = caffe_pb2.SolverParameter(type="Adam", base_lr=0.01, lr_policy="fixed", momentum=0.9, random_seed=3)
    param.net_param.CopyFrom(spec.to_proto())
    return minicaffe.get_solver(param)


@pytest.mark.parametrize("build", [segnet, hed, deeplab])
def test_a_net_learns(build):
    solver = solver_of(build())
    losses = []
    for _ in range(40):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
        assert np.isfinite(losses[-1])
        assert all(np.isfinite(blob.diff).all() for blobs in solver.net.params.values() for blob in blobs)
    assert np.mean(losses[-8:]) < 0.75 * np.mean(losses[:8])


def test_the_crops_and_losses_of_hed_are_its_own():
    net = solver_of(hed()).net
    kinds = {layer.name: layer for layer in net.layers if layer.name.startswith(("crop", "loss"))}
    assert [list(kinds[f"crop{i}"].layer_param.crop_param.offset) for i in range(3)] == [[9, 9], [10, 10], [11, 11]]
    assert all(kinds[name].balanced for name in ("loss", "loss0", "loss1", "loss2"))
    net.forward()
    for side in range(3):
        assert net.blobs[f"crop{side}"].shape == (1, 1, SIZE, SIZE)


def test_deeplab_is_scored():
    solver = solver_of(deeplab())
    solver.step(60)
    accuracy, recall, overlap = solver.net.blobs["accuracy"].data.ravel()
    assert accuracy > 0.8 and recall > 0.5 and overlap > 0.4
