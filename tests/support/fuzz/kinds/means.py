"""Mean images in .binaryproto files."""

import numpy as np

from fuzz import mutate
from fuzz.kind import Case, Kind
from minicaffe.proto import caffe_pb2


def _examples():
    values = np.random.default_rng(0).random(108).tolist()
    old = caffe_pb2.BlobProto(num=1, channels=3, height=6, width=6, data=values)
    new = caffe_pb2.BlobProto(shape=caffe_pb2.BlobShape(dim=[3, 6, 6]), double_data=values)
    return [old.SerializeToString(), new.SerializeToString()]


def _change(rng, content):
    if rng.random() < 0.5:
        return mutate.flip(rng, content)
    blob = caffe_pb2.BlobProto.FromString(content)
    mutate.change_message(rng, blob)
    return blob.SerializeToString()


def _case(content):
    from minicaffe.data.mean import read_mean

    return Case({"mean.binaryproto": content}, [lambda: read_mean("mean.binaryproto")])


mean = Kind("mean", _examples, _case, _change)
