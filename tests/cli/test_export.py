"""`minicaffe export`: what is written and printed, and what is refused before anything is written."""

import json
import os

import numpy as np
import pytest

from minicaffe import TEST, Net
from minicaffe.data.image import encode_image

onnx = pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime")

TRANSFORM = """
layer { name: "set" type: "Data" top: "data" transform_param { mean_value: 100 scale: 0.1 crop_size: 5 } }
"""


@pytest.fixture
def weights(project):
    net = Net("net.prototxt", phase=TEST)
    net.save("net.caffemodel")
    return "net.caffemodel"


def test_a_net_with_data_and_losses(project, run, weights):
    status, out, err = run("export", "net.prototxt", weights, "net.onnx", "--check")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == ["input   data (N, 2, 5, 5)", "output  ip (N, 3)"]
    assert "onnxruntime on random values, data (8, 2, 5, 5):" in lines
    assert lines[-1] == f"wrote net.onnx: {os.path.getsize('net.onnx'):,} bytes"
    onnx.checker.check_model("net.onnx", full_check=True)


def test_an_image_and_an_array(project, run, weights):
    transform = (
        'layer { name: "t" type: "Data" top: "data" transform_param { mean_value: 100 scale: 0.1 crop_size: 5 } }'
    )
    (project / "transform.prototxt").write_text(transform)
    np.save("data.npy", np.zeros((2, 2, 5, 5), np.float32))
    assert run("export", "net.prototxt", weights, "net.onnx", "--check=data.npy")[0] == 0
    (project / "net.prototxt").write_text((project / "net.prototxt").read_text().replace("dim: 2", "dim: 3"))
    Net("net.prototxt", phase=TEST).save("three.caffemodel")
    (project / "picture.png").write_bytes(
        encode_image(np.random.default_rng(0).integers(0, 256, (3, 9, 7), np.uint8), "png")
    )
    status, out, err = run("export", "net.prototxt", "three.caffemodel", "net.onnx", "--check=picture.png",
                           "--with-preprocessing=transform.prototxt", "--rgb")  # fmt: skip
    assert (status, err) == (0, "")
    assert "input   data (N, 3, height, width)" in out
    assert "onnxruntime on picture.png, data (1, 3, 9, 7):" in out


@pytest.mark.parametrize(
    ("block", "words", "described"),
    [
        (
            "",
            [],
            "no mean, times 1; the input's channels are those of the net, BGR unless it was trained on RGB records",
        ),
        ("", ["--rgb"], "no mean, times 1; the input's channels are RGB, reversed for the net, which reads BGR"),
        (
            "channel_order: RGB transform_param { mean_value: 100 crop_size: 5 scale: 0.5 }",
            ["--rgb"],
            "the central 5x5, minus the mean 100, times 0.5; the input's channels are those of the net, RGB",
        ),
    ],
)
def test_a_file_of_a_preprocess_block_alone(project, run, block, words, described):
    (project / "net.prototxt").write_text((project / "net.prototxt").read_text().replace("dim: 2", "dim: 3"))
    Net("net.prototxt", phase=TEST).save("three.caffemodel")
    (project / "images.prototxt").write_text(f"preprocess {{ {block} }}")
    status, out, err = run("export", "net.prototxt", "three.caffemodel", "net.onnx", "--check",
                           "--with-preprocessing=images.prototxt", *words)  # fmt: skip
    assert (status, err) == (0, "")
    assert out.startswith(f"preprocessing of data (preprocess block of images.prototxt): {described}")


def test_safetensors(project, run, weights):
    status, out, _ = run("export", "net.prototxt", weights, "net.safetensors")
    assert status == 0 and out.startswith("wrote net.safetensors")
    data = (project / "net.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert set(header) == {"__metadata__", "conv.0", "conv.1", "ip.0", "ip.1"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["net.txt"], "expected a file that ends in .onnx or .safetensors, got 'net.txt'"),
        (["net.onnx", "--rgb"], "--rgb is a part of the preprocessing"),
        (["net.safetensors", "--check"], "--check applies to ONNX, but 'net.safetensors' is .safetensors"),
        (["net.onnx", "--check=nothing.npy"], "there is no file 'nothing.npy'"),
        (["net.onnx", "--with-preprocessing"], "no data layer that reads images for the input data: give a prototxt"),
        (["nowhere/net.onnx"], "cannot write 'nowhere/net.onnx'"),
    ],
)
def test_what_is_refused(project, run, weights, arguments, expected):
    before = set(os.listdir())
    status, _, err = run("export", "net.prototxt", weights, *arguments)
    assert status == 1 and expected in err and err.count("\n") == 1
    assert set(os.listdir()) == before


def test_an_array_of_another_shape(project, run, weights):
    np.save("data.npy", np.zeros((2, 7, 5, 5), np.float32))
    status, _, err = run("export", "net.prototxt", weights, "net.onnx", "--check=data.npy")
    assert status == 1 and "input 'data': expected shape (2, 2, 5, 5), got (2, 7, 5, 5)" in err
    assert not os.path.exists("net.onnx")
