"""What `minicaffe classify` and `minicaffe detect` read beside nets: arrays, mean files, class names, windows."""

import io
import re

import numpy as np
from PIL import Image

from fuzz import mutate
from fuzz.kind import Case, Kind
from minicaffe.proto import caffe_pb2

_NET = b"""
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { pool: AVE global_pooling: true } }
layer { name: "prob" type: "Softmax" bottom: "pool" top: "prob" }
"""
_WEIGHTS = caffe_pb2.NetParameter(layer=[caffe_pb2.LayerParameter(name="pool", type="Pooling")]).SerializeToString()
_MODEL = ["--model_def", "net.prototxt", "--pretrained_model", "w.caffemodel"]
_IMAGES = np.random.default_rng(0).random((2, 5, 6, 3))


def _npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _png():
    file = io.BytesIO()
    Image.fromarray((255 * _IMAGES[0]).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _files(**changed):
    names = {"images.npy": _npy(_IMAGES), "net.prototxt": _NET, "w.caffemodel": _WEIGHTS, "labels": b"a\nb\nc\n"}
    return names | {"x.png": _png()} | {name.replace("_", ".", 1): content for name, content in changed.items()}


def _classify(*flags):
    return ["classify", "images.npy", "out.npy", *_MODEL, "--images_dim", "6,6", *flags]


def _change_npy(rng, content):
    """Change the bytes, or the words of the header, whose length stays."""
    if rng.random() < 0.4:
        return mutate.flip(rng, content)
    size = 10 + int.from_bytes(content[8:10], "little")
    words = re.split(rb"(\d+|'[^']*'|True|False)", content[10:size].rstrip())
    for _ in range(int(rng.integers(1, 4))):
        odd = [*mutate.INTEGERS, 2**70, "'|O'", "'<f8'", "'|u1'", "'<U9'", "'>c8'", "'V4'", "True", "(", "[", "'f4,f4'"]
        words[int(rng.integers(len(words)))] = str(mutate.pick(rng, odd)).encode()
    header = b"".join(words)
    header += b" " * max(size - 11 - len(header), 0) + b"\n"
    return content[:8] + len(header).to_bytes(2, "little") + header + content[size:]


def _arrays():
    kinds = [_IMAGES, _IMAGES.astype(np.float32), (255 * _IMAGES).astype(np.uint8), np.asfortranarray(_IMAGES)]
    return [_npy(array) for array in [*kinds, _IMAGES.astype(">f4"), _IMAGES[:, :, :, :1].repeat(3, 3) > 0.5]]


def _means():
    rng = np.random.default_rng(0)
    return [_npy(rng.random(shape)) for shape in ((3,), (3, 4, 4), (3, 6, 5))]


def _blob_means():
    values = np.random.default_rng(0).random(48).tolist()
    old = caffe_pb2.BlobProto(num=1, channels=3, height=4, width=4, data=values)
    new = caffe_pb2.BlobProto(shape=caffe_pb2.BlobShape(dim=[3, 4, 4]), double_data=values)
    return [old.SerializeToString(), new.SerializeToString()]


def _change_blob(rng, content):
    if rng.random() < 0.4:
        return mutate.flip(rng, content)
    blob = caffe_pb2.BlobProto.FromString(content)
    mutate.change_message(rng, blob)
    return blob.SerializeToString()


def _windows():
    return [
        b"filename,ymin,xmin,ymax,xmax\nx.png,0,0,3,4\nx.png,1,1,4,4\n",
        b'ymin, xmin, ymax, xmax, filename\r\n0, 0, 3, 4, "x.png"\r\n-2, -2, 9, 9, x.png\r\n',
    ]


def _change_csv(rng, content):
    return mutate.change_words(rng, content.replace(b",", b" ")).replace(b" ", b",") if rng.random() < 0.7 else (
        mutate.flip(rng, content)
    )  # fmt: skip


def _detect(content):
    detect = ["detect", "windows.csv", "out.csv", *_MODEL, "--context_pad"]
    return Case(_files(windows_csv=content), [[*detect, "1"], [*detect, "0"]])


classify_array = Kind("classify_array", _arrays, lambda c: Case(_files(images_npy=c), [_classify()]), _change_npy)
classify_mean = Kind(
    "classify_mean", _means, lambda c: Case(_files(m_npy=c), [_classify("--mean_file", "m.npy")]), _change_npy
)
classify_blob_mean = Kind(
    "classify_blob_mean",
    _blob_means,
    lambda c: Case(_files(m_binaryproto=c), [_classify("--mean_file", "m.binaryproto")]),
    _change_blob,
)
class_names = Kind(
    "class_names",
    lambda: [b"a\nb\nc\n", "\ufeffé\r\nb c\r\n$x_{1$".encode()],
    lambda c: Case(_files(labels=c), [_classify("--labels", "labels")]),
    mutate.change_words,
)
windows_csv = Kind("windows_csv", _windows, _detect, _change_csv)
