"""The records of databases of images with boxes."""

import zlib

import numpy as np

from fuzz import mutate
from fuzz.kind import Case, Kind
from helpers.annotated import TRAINING, record, write_records
from helpers.nets import net_from_text
from minicaffe.proto import caffe_pb2


def _examples():
    image = np.random.default_rng(0).integers(0, 256, (3, 16, 12), np.uint8)
    boxes = [(1, 0, 0.1, 0.2, 0.5, 0.6, 0), (1, 1, 0, 0, 1, 1, 1), (3, 0, 0.25, 0.5, 0.75, 0.5, 0)]
    return [
        record(image, boxes[:count], encoded).SerializeToString()
        for count, encoded in ((3, ""), (2, "png"), (0, "jpg"))
    ]


def _change(rng, content):
    if rng.random() < 0.5:
        return mutate.flip(rng, content)
    message = caffe_pb2.AnnotatedDatum.FromString(content)
    mutate.change_message(rng, message)
    return message.SerializeToString()


class _Raw(bytes):
    """Bytes that are written in place of a record."""

    def SerializeToString(self):  # noqa: N802  # protobuf's name
        return bytes(self)


def _read():
    """Read batches as a training does."""
    net = net_from_text(f'layer {{ name: "d" {TRAINING} top: "data" top: "label" }}', 0)
    for _ in range(3):
        net.forward()
    net.layers[0].close()


def _case(content):
    mean = ["compute_image_mean", "--backend=lmdb", "annotated", "mean.binaryproto"]
    actions = [lambda: write_records("annotated", [_Raw(content)] * 3), _read]
    return Case({}, [*actions, mean] if zlib.crc32(content) % 10 == 0 else actions)


annotated_datum = Kind("annotated_datum", _examples, _case, _change)
