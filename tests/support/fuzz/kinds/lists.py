"""Lists of images and files of windows, with the images that they name, and means in window layers."""

import functools
import zlib

import numpy as np

from fuzz import mutate
from fuzz.kind import Case, Kind
from helpers.nets import net_from_text
from minicaffe.data.image import encode_image
from minicaffe.data.image_list import read_list
from minicaffe.proto import caffe_pb2


@functools.cache
def _pictures():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 12, 16), np.uint8)
    return {"a.png": encode_image(pixels, "png"), "b c.png": encode_image(pixels[:1], "png")}


def _run(text):
    """Read three batches in a net of one layer."""
    net = net_from_text(f'layer {{ name: "d" top: "data" top: "label" {text} }}')
    try:
        for _ in range(3):
            net.forward()
    finally:
        net.layers[0].close()


# -- lists of images ---------------------------------------------------------------------------------------------------


def _list_examples():
    return [b"a.png 1\nb c.png 0\n", b"\xef\xbb\xbfa.png -7\r\na.png 2147483647\r\n", b"b c.png 3"]


def _list_case(content):
    layer = """type: "ImageData" transform_param { mirror: true }
        image_data_param { source: "list.txt" batch_size: 2 shuffle: true new_height: 5 new_width: 6 }"""
    convert = ["convert_imageset", "./", "list.txt", "db"]
    actions = [lambda: read_list("list.txt"), convert if zlib.crc32(content) % 10 == 0 else lambda: _run(layer)]
    return Case({"list.txt": content, **_pictures()}, actions)


image_list = Kind("image_list", _list_examples, _list_case, mutate.change_words)


# -- files of windows --------------------------------------------------------------------------------------------------

_WINDOWS = b"""# 0
a.png
3
12
16
4
1 0.9 2 3 9 10
2 0.6 -3 0 30 40
0 0.2 0 0 7 7
3 0.1 10 5 15 11
# 1
a.png
3
12
16
1
0 0 0 0 15 11
"""


def _window_examples():
    return [_WINDOWS, _WINDOWS.replace(b"\n3\n", b"\n1\n").replace(b"\n", b"\r\n")]


def _window_layer(transform, param=""):
    return f"""type: "WindowData" transform_param {{ {transform} }}
        window_data_param {{ source: "windows.txt" batch_size: 6 fg_fraction: 0.5 {param} }}"""


def _window_case(content):
    layers = [
        _window_layer("crop_size: 6 mirror: true scale: 0.5 mean_value: 3"),
        _window_layer("crop_size: 9 mean_value: 1", 'context_pad: 2 crop_mode: "square" cache_images: true'),
    ]
    return Case({"windows.txt": content, **_pictures()}, [lambda: _run(layers[zlib.crc32(content) % 2])])


windows = Kind("windows", _window_examples, _window_case, mutate.change_words)


# -- means in layers ---------------------------------------------------------------------------------------------------


def _mean_examples():
    return [caffe_pb2.BlobProto(num=1, channels=3, height=12, width=12, data=[1.0] * 432).SerializeToString()]


def _change_mean(rng, content):
    """Change the shape, and give it as many values as it states."""
    blob = caffe_pb2.BlobProto.FromString(content)
    blob.Clear()
    shape = mutate.pick(rng, [[3, 12, 12], [1, 3, 12, 12], [1, 12, 12], [3, 1, 1], [3, 6, 6], [3, 9, 9], [12, 12]])
    for _ in range(int(rng.integers(3))):
        shape[int(rng.integers(len(shape)))] = int(rng.choice([1, 2, 3, 5, 6, 7, 9, 12, 16]))
    blob.shape.dim.extend(shape)
    blob.data.extend(rng.choice([0.0, 1e30, np.nan, np.inf], np.prod(shape)).tolist())
    return blob.SerializeToString()


def _mean_case(content):
    files = {"mean": content, "windows.txt": _WINDOWS, "list.txt": b"a.png 1\n", **_pictures()}
    images = """type: "ImageData" transform_param { mean_file: "mean" }
        image_data_param { source: "list.txt" new_height: 12 new_width: 12 }"""
    windows = _window_layer('crop_size: 6 mean_file: "mean"')
    return Case(files, [lambda: _run(windows), lambda: _run(images)])


layer_mean = Kind("layer_mean", _mean_examples, _mean_case, _change_mean)
