"""Mean: adds or subtracts fixed values, of channels or of a mean file."""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.data.mean import read_mean
from minicaffe.errors import DataError
from minicaffe.proto.caffe_pb2 import MeanParameter


@register("Mean")
class Mean(Layer):
    """y = output_scale (input_scale x + mean_scale m), or with SUBTRACT minus mean_scale m.

    bottoms, tops: as many of both, (N, C, H, W); in place if wanted.
    mean_param: operation (ADD or SUBTRACT); value: one for each channel, repeated if C is a multiple of their number;
        or file: a .binaryproto of (c, H, W), repeated if C is a multiple of c; input_scale, mean_scale,
        output_scale (1).
    Source: Ilg et al., FlowNet 2.0, 2017.
    """

    fork = "FlowNet 2.0"
    keeps_coordinates = True
    min_bottom = 1
    equal_num_bottom_top = True
    in_place = True
    backward_reads = ()

    def setup(self, bottom, top):
        param = self.layer_param.mean_param
        if not param.HasField("operation"):
            raise self.error("mean_param needs operation")
        if param.HasField("file") == bool(param.value):
            raise self.error("mean_param must have either file or value")
        try:
            self.values = read_mean(param.file) if param.HasField("file") else np.array(param.value)[:, None, None]
        except DataError as error:
            raise self.error(str(error)) from error
        sign = -1 if param.operation == MeanParameter.SUBTRACT else 1
        self.factor = param.output_scale * param.input_scale
        self.shift = Blob(self.values.shape, self.dtype)
        self.shift.data[...] = sign * param.output_scale * param.mean_scale * self.values

    def top_shapes(self, bottom_shapes):
        channels, *size = self.values.shape
        for i, shape in enumerate(bottom_shapes):
            if len(shape) != 4 or shape[1] % channels or (size != [1, 1] and [*shape[2:]] != size):
                of = "" if size == [1, 1] else f" of size {tuple(size)}"
                raise self.error(f"bottom {i} must be (N, C, H, W){of}, C a multiple of {channels}, got {shape}")
        return bottom_shapes

    def forward_cpu(self, bottom, top):
        for x, y in zip(bottom, top):
            repeated = np.tile(self.shift.read_data(), (x.shape[1] // len(self.values), 1, 1))
            np.multiply(x.read_data(), self.factor, out=y.data)
            y.data[...] += repeated

    def backward_cpu(self, top, propagate_down, bottom):
        for x, y, wanted in zip(bottom, top, propagate_down):
            if wanted:
                np.multiply(y.read_diff(), self.factor, out=x.diff)

    def forward_gpu(self, bottom, top):
        for x, y in zip(bottom, top):
            inner = x.count_range(2) if self.values.shape[1:] == (1, 1) else 1
            shift = self.shift.count, inner, self.factor, self.shift.gpu_data()
            self.kernel("forward")(x.count, *shift, x.gpu_data(), y.mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        for x, y, wanted in zip(bottom, top, propagate_down):
            if wanted:
                ops.scale(x.count, self.factor, y.gpu_diff(), x.mutable_gpu_diff(), self.dtype)
