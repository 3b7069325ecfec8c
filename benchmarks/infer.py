"""Times a folder of JPEGs through trained nets, end to end, beside the old `classify` and PyTorch with torchvision:

    python benchmarks/infer.py --torch-python PYTHON          both nets, 5,000 pictures
    python benchmarks/infer.py cifar10_quick --images 200 --rounds 1

Half of the pictures, which the script draws, have 256x256 pixels, half 500x375.  Each contestant runs in a process of
its own, all in turn in each round; the table has the best round of each: images per second from the first image read to
the last row written, and with the start of the process.  `classify` is Classifier.predict with the centre crop alone,
as the command calls it.  PyTorch has a DataLoader of two workers; decoder, threads and memory format are those that
are the fastest on a tenth of the pictures.  Its resizing averages, ours samples like OpenCV's; weights are random.

PYTHON is one with torch, torchvision, numpy, protobuf and Pillow; without it PyTorch is left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

_HERE = os.path.dirname(os.path.abspath(__file__))
_ROOT = os.path.dirname(_HERE)
sys.path[:0] = [_HERE, _ROOT, os.path.join(_ROOT, "tests", "support")]

import numpy as np  # noqa: E402
from data import jpeg  # noqa: E402
from PIL import Image  # noqa: E402

MEAN = (104.0, 117.0, 123.0)
BATCH = 32


class Task(NamedTuple):
    """A net, and the size of images before and after the crop."""

    size: tuple[int, int]
    crop: int


TASKS = {"cifar10_quick": Task((32, 32), 32), "squeezenet": Task((256, 256), 227), "resnet50": Task((256, 256), 224)}


class Figures(NamedTuple):
    """Seconds from the first image to the last row, and of the whole process."""

    seconds: float
    process: float


# -- what is run -------------------------------------------------------------------------------------------------------


def draw_pictures(folder: str, count: int) -> None:
    """Write JPEGs: smooth colors with some noise, whose files are about as large as those of photographs."""
    os.makedirs(folder)
    rng = np.random.default_rng(0)
    for i in range(count):
        width, height = ((256, 256), (500, 375))[i % 2]
        cells = Image.fromarray(rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8))
        smooth = np.asarray(cells.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        pixels = (smooth + rng.integers(-12, 12, smooth.shape)).clip(0, 255).astype(np.uint8)
        with open(os.path.join(folder, f"{i:05d}.jpg"), "wb") as file:
            file.write(jpeg(Image.fromarray(pixels)))


def write_net(name: str) -> None:
    """Write the net's files into the current folder: prototxt, weights, their arrays, preprocessing, mean."""
    from helpers.trained import randomize
    from minicaffe import TEST, Net
    from minicaffe.models import zoo
    from minicaffe.proto import read_net, write_text

    if name == "cifar10_quick":
        param = read_net(os.path.join(_ROOT, "models", name, "deploy.prototxt"))
        param.layer[0].input_param.shape[0].dim[0] = BATCH
    else:
        param = getattr(zoo, name)(batch=BATCH, training=False)
    write_text(param, f"{name}.prototxt")
    net = Net(f"{name}.prototxt", phase=TEST)
    randomize(net)
    net.save(f"{name}.caffemodel")
    arrays = {f"{key}/{i}": blob.data for key, blobs in net.params.items() for i, blob in enumerate(blobs)}
    np.savez(f"{name}_weights.npz", **arrays)
    size, crop = TASKS[name]
    means = " ".join(f"mean_value: {value}" for value in MEAN)
    with open(f"{name}_preprocess.prototxt", "w") as file:
        file.write(f"preprocess {{ new_height: {size[0]} new_width: {size[1]} "
                   f"transform_param {{ crop_size: {crop} {means} }} }}\n")  # fmt: skip
    np.save("mean.npy", np.array(MEAN))


# -- contestants -------------------------------------------------------------------------------------------------------


def output_of(command: list[str]) -> tuple[str, float]:
    """Run a command of Python; return what it prints and its seconds."""
    path = os.pathsep.join(filter(None, (_HERE, _ROOT, os.environ.get("PYTHONPATH"))))
    began = time.perf_counter()
    done = subprocess.run(command, env=dict(os.environ, PYTHONPATH=path), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout + done.stderr, time.perf_counter() - began


def infer(name: str, folder: str) -> Figures:
    """Run `minicaffe infer`."""
    words = ["infer", f"{name}.prototxt", f"{name}.caffemodel", folder, "--preprocess", f"{name}_preprocess.prototxt",
             "--output", f"{name}_infer.npz", "--batch", str(BATCH)]  # fmt: skip
    text, process = output_of([sys.executable, "-m", "minicaffe", *words])
    match = re.search(r"images in ([\d.]+) s", text)
    assert match, text
    print("   ", text.strip().splitlines()[-2])
    return Figures(float(match[1]), process)


def classify(name: str, folder: str) -> Figures:
    """Run Classifier.predict on the files of a folder, as `minicaffe classify --center_only` does."""
    height, width = TASKS[name].size
    text, process = output_of([sys.executable, "-m", "minicaffe", "classify", folder, f"{name}_classify.npy",
                               "--model_def", f"{name}.prototxt", "--pretrained_model", f"{name}.caffemodel",
                               "--center_only", "--images_dim", f"{height},{width}", "--mean_file",
                               "mean.npy"])  # fmt: skip
    match = re.search(r"Done in ([\d.]+) s", text)
    assert match, text
    return Figures(float(match[1]), process)


class Torchvision:
    """PyTorch and torchvision with the settings that are the fastest for a net."""

    def __init__(self, python: str, name: str, folder: str, count: int) -> None:
        self._python, self._name, self._folder, self._count = python, name, folder, count
        cores = len(os.sched_getaffinity(0))
        choices = itertools.product(sorted({1, cores}), (False, True), ("pillow", "torchvision"))
        trials = {choice: self._run(max(count // 10, 2 * BATCH), *choice).seconds for choice in choices}
        self.choice = min(trials, key=lambda choice: trials[choice])
        threads, channels_last, decoder = self.choice
        print(f"    PyTorch: {threads} threads, {'channels_last' if channels_last else 'contiguous'}, "
              f"decoder of {decoder}")  # fmt: skip

    def __call__(self) -> Figures:
        return self._run(self._count, *self.choice)

    def _run(self, count: int, threads: int, channels_last: bool, decoder: str) -> Figures:
        name, task = self._name, TASKS[self._name]
        settings = {
            "net": f"{name}.prototxt", "weights": f"{name}_weights.npz", "folder": self._folder, "count": count,
            "output": f"{name}_torch.npz", "size": task.size, "crop": task.crop, "mean": MEAN, "batch": BATCH,
            "threads": threads, "channels_last": channels_last, "decoder": decoder,
        }  # fmt: skip
        text, process = output_of([self._python, "-m", "contestants.torchvision_folder", json.dumps(settings)])
        return Figures(json.loads(text.splitlines()[0])["seconds"], process)


def agreement(name: str, other: str) -> float:
    """Return the part of the images that two contestants give the same class."""
    rows = []
    for path in (f"{name}_infer.npz", other):
        loaded = np.load(path)
        scores = loaded if isinstance(loaded, np.ndarray) else loaded["prob"]
        rows.append(scores.reshape(len(scores), -1).argmax(axis=1))
    return float((rows[0] == rows[1]).mean())


# -- the table ---------------------------------------------------------------------------------------------------------


def measure(name: str, folder: str, options: argparse.Namespace) -> None:
    """Run all contestants in turn and print the net's part of the table."""
    print(f"{name}, {options.images} pictures, batch {BATCH}", flush=True)
    write_net(name)
    contestants = {"infer": lambda: infer(name, folder), "classify": lambda: classify(name, folder)}
    if options.torch_python:
        contestants["PyTorch + torchvision"] = Torchvision(options.torch_python, name, folder, options.images)
    best: dict[str, Figures] = {}
    for _ in range(options.rounds):
        for key, run in contestants.items():
            figures = run()
            best[key] = min(best.get(key, figures), figures)
    for key, figures in best.items():
        rates = options.images / figures.seconds, options.images / figures.process
        ratio = figures.seconds / best["infer"].seconds
        print(f"  {key:<24}{rates[0]:>10.1f} images/s{rates[1]:>10.1f} with the start{ratio:>8.2f} x infer's time")
    print(f"  same class as classify: {agreement(name, f'{name}_classify.npy'):.1%}", end="")
    print(f", as PyTorch: {agreement(name, f'{name}_torch.npz'):.1%}" if options.torch_python else "", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=["cifar10_quick", "resnet50"], help=f"of {', '.join(TASKS)}")
    parser.add_argument("--images", type=int, default=5000, help="number of pictures (5000)")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each contestant (2)")
    parser.add_argument("--torch-python", default="", help="a Python with torch and torchvision")
    options = parser.parse_args()
    options.torch_python = options.torch_python and os.path.abspath(options.torch_python)
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        draw_pictures("pictures", options.images)
        for name in options.nets:
            measure(name, "pictures", options)
        os.chdir(_ROOT)


if __name__ == "__main__":
    main()
