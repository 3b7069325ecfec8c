"""`minicaffe cpp_classification`: the interface of the original's examples/cpp_classification."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minicaffe
from minicaffe import io

NET = """input: "data" input_shape { dim: 5 dim: CHANNELS dim: 4 dim: 6 }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 6
  weight_filler { type: "gaussian" std: 0.002 } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
FILES = ("net.prototxt", "net.caffemodel", "mean.binaryproto", "labels.txt")


@pytest.fixture(params=[3, 1], ids=["colour", "gray"])
def folder(request, tmp_path, monkeypatch):
    """A working folder with a net, its weights, a mean image, class names and a picture of the net's size."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Path("net.prototxt").write_text(NET.replace("CHANNELS", str(request.param)))
    minicaffe.Net("net.prototxt", minicaffe.TEST).save("net.caffemodel")
    mean = rng.uniform(90, 130, (1, request.param, 9, 9)).astype(np.float32)
    Path("mean.binaryproto").write_bytes(io.array_to_blobproto(mean).SerializeToString())
    Path("labels.txt").write_text("".join(f"n{i} class {i}, of 6\n" for i in range(6)))
    Image.fromarray(rng.integers(0, 256, (4, 6, 3), np.uint8)).save("photo of a cat.png")
    Image.fromarray(rng.integers(0, 256, (4, 6), np.uint8)).save("gray.png")
    return request.param, mean


def expected(channels, mean, image):
    """The lines, computed from the definition: BGR planes minus the mean of each channel, through the two layers."""
    pixels = np.asarray(Image.open(image)).astype(np.float64)
    if channels == 1 and pixels.ndim == 3:
        planes = np.rint(pixels @ [0.299, 0.587, 0.114])[None]
    else:
        planes = np.repeat(pixels[None], channels, 0) if pixels.ndim == 2 else pixels[:, :, ::-1].transpose(2, 0, 1)
    net = minicaffe.Net("net.prototxt", minicaffe.TEST, weights="net.caffemodel")
    scores = net.params["ip"][0].data @ (planes - mean[0].mean((1, 2), keepdims=True)).ravel()
    probabilities = np.exp(scores - scores.max())
    probabilities /= probabilities.sum()
    best = np.argsort(-probabilities)[:5]
    return [f"---------- Prediction for {image} ----------"] + [
        f'{probabilities[i]:.4f} - "n{i} class {i}, of 6"' for i in best
    ]


@pytest.mark.parametrize("image", ["photo of a cat.png", "gray.png"])
def test_the_lines_of_the_original(folder, run, image):
    status, out, err = run("cpp_classification", *FILES, image)
    assert status == 0 and err == ""
    assert out.splitlines() == expected(*folder, image)


def test_any_size_is_resized(folder, run):
    Image.fromarray(np.full((30, 20, 3), 128, np.uint8)).save("large.png")
    Image.fromarray(np.full((4, 6, 3), 128, np.uint8)).save("small.png")
    large, small = (run("cpp_classification", *FILES, f"{name}.png")[1].splitlines()[1:] for name in ("large", "small"))
    assert large == small and len(large) == 5


def test_files_that_do_not_fit(folder, run):
    channels, _ = folder
    Path("labels.txt").write_text("a\nb\n")
    assert "expected 6 names, one for each class, got 2" in run("cpp_classification", *FILES, "gray.png")[2]
    mean = np.zeros((1, 4 - channels, 2, 2), np.float32)
    Path("mean.binaryproto").write_bytes(io.array_to_blobproto(mean).SerializeToString())
    err = run("cpp_classification", *FILES, "gray.png")[2]
    assert f"mean file 'mean.binaryproto': expected {channels} channels, as the net's input" in err
    Path("net.prototxt").write_text(NET.replace("CHANNELS", "2"))
    err = run("cpp_classification", "net.prototxt", "net.caffemodel", *FILES[2:], "gray.png")[2]
    assert err.count("\n") == 1
