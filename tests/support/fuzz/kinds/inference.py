"""What `minicaffe infer` reads beside nets and images: preprocess blocks, .npz archives, lists."""

import io

import numpy as np

from fuzz import mutate
from fuzz.kind import Case, Kind
from fuzz.kinds.arrays import _files
from minicaffe.proto import caffe_pb2, format_text

_RUN = ["infer", "net.prototxt", "w.caffemodel"]


def _archives():
    rows = np.random.default_rng(0).integers(0, 256, (3, 3, 4, 4), np.uint8)
    made = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, images=rows, labels=np.array([0, 2, 1]))
        made.append(file.getvalue())
    return made


def _block(has_resize):
    message = caffe_pb2.NetParameter()
    message.preprocess.new_height, message.preprocess.new_width = 6, 5
    transform = message.preprocess.transform_param
    transform.crop_size, transform.scale = 4, 0.5
    if has_resize:
        transform.resize_param.height, transform.resize_param.width = 5, 7
        transform.resize_param.pad_value.append(3)
    transform.mean_value.extend([1, 2, 3])
    return message


def _change_block(rng, content):
    if rng.random() < 0.3:
        return mutate.flip(rng, content)
    message = _block(rng.random() < 0.5)
    mutate.change_message(rng, message)
    return format_text(message).encode()


infer_archive = Kind(
    "infer_archive", _archives, lambda c: Case(_files(in_npz=c), [[*_RUN, "in.npz", "--output", "out.csv"]])
)
preprocess_block = Kind(
    "preprocess_block",
    lambda: [format_text(_block(has_resize)).encode() for has_resize in (False, True)],
    lambda c: Case(_files(p_prototxt=c), [[*_RUN, "x.png", "--preprocess", "p.prototxt", "--output", "out.npz"]]),
    _change_block,
)
