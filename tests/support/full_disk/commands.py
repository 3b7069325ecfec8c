"""The commands that write files, and the files that they read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from minicaffe.data.datasets import cifar10, shapes, synthetic

NET = """
name: "small"
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 6 dim: 3 dim: 8 dim: 8 } shape { dim: 6 }
  data_filler { type: "gaussian" std: 1 } data_filler { type: "uniform" min: 0 max: 2.99 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 40 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
DEPLOY = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 40 kernel_size: 3 } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" inner_product_param { num_output: 3 } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
OLD_NET = 'layers { name: "x" type: DATA top: "x" data_param { source: "db" batch_size: 2 } }\n'
SOLVER = """
net: "{inputs}/net.prototxt" test_iter: 1 test_interval: 4 base_lr: 0.05 momentum: 0.9 lr_policy: "fixed"
display: 1 max_iter: 5 snapshot: 2 snapshot_prefix: "s" snapshot_format: {format} random_seed: 3
"""
_INFER = "{inputs}/deploy.prototxt {inputs}/small.caffemodel {inputs}/rows.npy --output"
_CLASSIFIER = "--model_def {inputs}/deploy.prototxt --pretrained_model {inputs}/small.caffemodel --gpu=false"


class Command(NamedTuple):
    """A command line in the folder that is full; `{inputs}` is the folder of `make_inputs`.

    goes_on: whether it goes on when a file cannot be written, so that status 0 may leave older files.
    repeatable: whether it writes the same bytes each time.
    to_file: the file in which its standard output goes.
    prepare: function called in its process first.
    """

    words: str
    goes_on: bool = False
    repeatable: bool = True
    to_file: str = ""
    prepare: Callable[[], None] = lambda: None


def _quickstart_of_seconds() -> None:
    """Let quickstart test with one small batch, and not measure how fast it is."""
    from minicaffe.cli import quickstart

    quickstart._SOLVER = quickstart._SOLVER.replace("test_iter: 100", "test_iter: 1")
    quickstart.seconds_per_step = lambda model: 0.01


COMMANDS = {
    "train_binary": Command("train --solver {inputs}/binary.prototxt --log run.log --tensorboard events", True, False),
    "train_hdf5": Command("train --solver {inputs}/hdf5.prototxt --log run.log --tensorboard events", True, False),
    "test_csv": Command("test --model {inputs}/net.prototxt --weights {inputs}/small.caffemodel --iterations 1 "
                        "--confusion m.csv", repeatable=False),
    "test_png": Command("test --model {inputs}/net.prototxt --weights {inputs}/small.caffemodel --iterations 1 "
                        "--confusion m.png", repeatable=False),
    "test_worst": Command("test --model {inputs}/net.prototxt --weights {inputs}/small.caffemodel --iterations 1 "
                          "--worst w.png --worst-count 3 --per-class c.csv", repeatable=False),
    "calibrate": Command("calibrate --solver {inputs}/binary.prototxt --weights {inputs}/small.caffemodel "
                         "out.caffemodel --iterations 2"),
    "imageset_lmdb": Command("convert_imageset {inputs}/ {inputs}/list.txt db"),
    "imageset_leveldb": Command("convert_imageset --backend leveldb {inputs}/ {inputs}/list.txt db"),
    "annoset": Command("convert_annoset --voc {inputs}/shapes/VOC --set train train_lmdb"),
    "create_annoset": Command("create_annoset --anno_type detection --label_map_file {inputs}/shapes/labelmap.prototxt "
                              "--encoded --redo {inputs}/shapes {inputs}/boxes.txt db_of_boxes links"),
    "get_image_size": Command("get_image_size {inputs}/shapes {inputs}/boxes.txt sizes.txt"),
    "create_label_map": Command("create_label_map {inputs}/shapes/classes.txt map.prototxt"),
    "data_shapes": Command("data shapes --train 30 --test 10 --size 64 --voc --dest d", repeatable=False),
    "data_words": Command("data words --train 30 --test 10 --dest d"),
    "data_faces": Command("data faces --train 30 --test 10 --dest d", repeatable=False),
    "cifar_lmdb": Command("convert_cifar_data {inputs}/cifar . lmdb"),
    "cifar_leveldb": Command("convert_cifar_data {inputs}/cifar . leveldb"),
    "data_cifar10": Command("data cifar10 --from {inputs}/cifar --dest d"),
    "mnist_lmdb": Command("convert_mnist_data {inputs}/images.idx {inputs}/labels.idx db"),
    "mnist_leveldb": Command("convert_mnist_data --backend leveldb {inputs}/images.idx {inputs}/labels.idx db"),
    "siamese": Command("convert_mnist_siamese_data {inputs}/images.idx {inputs}/labels.idx db"),
    "mean": Command("compute_image_mean {inputs}/data/synthetic/cifar10_train_lmdb mean.binaryproto"),
    "whiten": Command("whiten {inputs}/data/synthetic/cifar10_train_lmdb std.h5 --kind std"),
    "whiten_db": Command("whiten {inputs}/data/synthetic/cifar10_train_lmdb std.h5 --kind std --write_db db"),
    "whiten_net": Command("whiten {inputs}/data/synthetic/cifar10_train_lmdb std.h5 --kind std --patch 1 "
                          "--into_net {inputs}/net.prototxt new.prototxt new.caffemodel"),
    "whiten_png": Command("whiten {inputs}/data/synthetic/cifar10_train_lmdb std.h5 --kind std --picture std.png"),
    "features_lmdb": Command("extract_features {inputs}/small.caffemodel {inputs}/net.prototxt conv,ip c,i 3 lmdb",
                             repeatable=False),
    "features_leveldb": Command("extract_features {inputs}/small.caffemodel {inputs}/net.prototxt conv,ip c,i 3 "
                                "leveldb", repeatable=False),
    "infer_csv": Command(f"infer {_INFER} out.csv"),
    "infer_npz": Command(f"infer {_INFER} out.npz", repeatable=False),
    "infer_hdf5": Command(f"infer {_INFER} out.h5"),
    "infer": Command(f"infer {_INFER}=", to_file="rows.txt"),
    "classify": Command("classify {inputs}/pictures.npy out.npy --center_only --images_dim 8,8 " + _CLASSIFIER),
    "detect_csv": Command("detect {inputs}/windows.csv out.csv --context_pad 1 " + _CLASSIFIER),
    "detect_hdf5": Command("detect {inputs}/windows.csv out.h5 --context_pad 1 " + _CLASSIFIER),
    "draw_svg": Command("draw {inputs}/net.prototxt net.svg"),
    "draw_png": Command("draw {inputs}/net.prototxt net.png"),
    "show": Command("show {inputs}/small.caffemodel filters.png"),
    "show_samples": Command("show --samples {inputs}/net.prototxt samples.png", repeatable=False),
    "show_detections": Command("show --detections {inputs}/shapes/train_lmdb boxes.png", repeatable=False),
    "models": Command("models lenet lenet"),
    "models_zoo": Command("models squeezenet squeezenet"),
    "plot": Command("plot {inputs}/run.log -o curve.png"),
    "plot_training_log": Command("plot_training_log 6 loss.png {inputs}/run.log"),
    "parse_log": Command("parse_log {inputs}/run.log ."),
    "extract_seconds": Command("extract_seconds {inputs}/run.log seconds.txt"),
    "summarize": Command("summarize {inputs}/net.prototxt", to_file="table.txt"),
    "help": Command("train --help", to_file="help.txt"),
    "upgrade_net_text": Command("upgrade_net_proto_text {inputs}/old.prototxt new.prototxt"),
    "upgrade_net_binary": Command("upgrade_net_proto_binary {inputs}/small.caffemodel new.caffemodel"),
    "upgrade_solver": Command("upgrade_solver_proto_text {inputs}/binary.prototxt new.prototxt"),
    "fold": Command("fold {inputs}/deploy.prototxt {inputs}/small.caffemodel folded"),
    "export": Command("export {inputs}/deploy.prototxt {inputs}/small.caffemodel small.onnx"),
    "export_safetensors": Command("export {inputs}/deploy.prototxt {inputs}/small.caffemodel small.safetensors"),
    "check": Command("check --solver {inputs}/binary.prototxt --stages static", to_file="found.txt"),
    "resize": Command("resize_and_crop_images --input {inputs}/list_of_names.txt --input_folder {inputs} "
                      "--output_folder small --output_side_length 24"),
    "quickstart": Command("quickstart --offline --iterations 5 --data {inputs}/data --out q", True, False,
                          prepare=_quickstart_of_seconds),
}  # fmt: skip


# -- what they read ----------------------------------------------------------------------------------------------------


def make_inputs(folder: Path) -> None:
    """Write what the commands read, except `small.caffemodel` and `run.log`, which come from a training in `folder`."""
    rng = np.random.default_rng(0)
    for name, text in (("net", NET), ("deploy", DEPLOY), ("old", OLD_NET)):
        (folder / f"{name}.prototxt").write_text(text)
    for name, kind in (("binary", "BINARYPROTO"), ("hdf5", "HDF5")):
        (folder / f"{name}.prototxt").write_text(SOLVER.format(inputs=folder, format=kind))
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{i}.png")
    (folder / "list.txt").write_text("".join(f"{i}.png {i}\n" for i in range(4)))
    (folder / "list_of_names.txt").write_text("".join(f"{i}.png\n" for i in range(4)))
    (folder / "windows.csv").write_text(
        "filename,ymin,xmin,ymax,xmax\n" + f"{folder}/0.png,0,0,20,20\n{folder}/1.png,4,4,30,30\n" * 40
    )
    np.save(folder / "rows.npy", rng.integers(0, 256, (400, 3, 8, 8), np.uint8))
    np.save(folder / "pictures.npy", rng.random((200, 8, 8, 3), np.float32))
    _write_data_sets(folder, rng)


def _write_data_sets(folder: Path, rng: np.random.Generator) -> None:
    """Write small data sets in the formats of CIFAR-10 and MNIST, quickstart's synthetic images, and
    drawn shapes with boxes."""
    os.makedirs(folder / "cifar")
    for name in (*cifar10.TRAIN_FILES, *cifar10.TEST_FILES):
        parts = rng.integers(0, 256, (10, 3073), np.uint8)
        parts[:, 0] = np.arange(10)
        (folder / "cifar" / f"{name}.bin").write_bytes(parts.tobytes())
    for name, magic, shape in (("images", 0x803, (40, 28, 28)), ("labels", 0x801, (40,))):
        head = b"".join(number.to_bytes(4, "big") for number in (magic, *shape))
        (folder / f"{name}.idx").write_bytes(head + rng.integers(0, 10, shape, np.uint8).tobytes())
    synthetic.prepare(str(folder / "data" / "synthetic"), train=100, test=100)
    shapes.prepare(str(folder / "shapes"), train=20, test=2, size=64, voc_folder=True)
    lines = [f"VOC/JPEGImages/train_{i:06d}.jpg VOC/Annotations/train_{i:06d}.xml\n" for i in range(20)]
    (folder / "boxes.txt").write_text("".join(lines))
