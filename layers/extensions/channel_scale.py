"""ChannelScale: multiplies the channels of each place by a number."""

import math

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.views import by_channel
from minicaffe.proto import TRAIN
from minicaffe.proto.caffe_pb2 import FillerParameter


@register("ChannelScale")
class ChannelScale(Layer):
    """y[n, c, p] = s[n, p] x[n, c, p] for each place p.

    Bottoms: x (N, C, ...), s, one number for each sample and place, as Normalize's second top.  Tops: y, of the shape
    of x; optionally, with global_scale, the scale (1).
    Blobs: with global_scale, the scale (1), not learned (lr_mult 0), -1 at first.
    channel_scale_param: do_forward (true; false: y = x), do_backward_feature (true; false: the gradient of x is dy, not
    s dy), do_backward_scale (true; false: that of s is 0, not the sum of x dy over the channels).
    With global_scale (false) all numbers are multiplied by one scale, a running mean of |s|: in TRAIN
    scale = 0.99 scale + 0.01 mean|s|, the first time mean|s|, at least min_global_scale (0) and at most
    max_global_scale (1000).  The gradients are those of the plain form.
    """

    fork = "NormFace"
    family = "normalization"
    keeps_coordinates = True
    exact_num_bottom = 2
    min_top, max_top = 1, 2
    in_place = False
    backward_reads = ("bottom",)

    @property
    def repeatable(self):  # type: ignore[override]  # nothing sets it
        return not self.updates

    def setup(self, bottom, top):
        self.param = self.layer_param.channel_scale_param
        self.common = self.param.global_scale and self.param.do_forward
        self.updates = self.common and self.phase == TRAIN
        self.limits = self.param.min_global_scale, self.param.max_global_scale
        if len(top) > 1 and not self.param.global_scale:
            raise self.error("the second top, the scale, needs global_scale")
        if self.param.global_scale and not self.layer_param.param:
            self.layer_param.param.add(lr_mult=0, decay_mult=0)
        if self.param.global_scale and (given := self.layer_param.param[0].lr_mult):
            raise self.error(f"the scale is not learned: lr_mult must be 0, got {given:g}")

    def param_shapes(self, bottom_shapes):
        return [((1,), FillerParameter(type="constant", value=-1))] if self.param.global_scale else []

    def top_shapes(self, bottom_shapes):
        x, s = bottom_shapes
        if len(x) < 2 or s[:1] != x[:1] or math.prod(s) != x[0] * math.prod(x[2:]):
            raise self.error(f"bottoms must be (N, C, ...) and one number for each sample and place, got {x} and {s}")
        return [x, (1,)]

    def _places(self, bottom, values):
        """Numbers of the second bottom as (N, 1, places)."""
        return values.reshape(bottom[0].shape[0], 1, bottom[0].count_range(2))

    def forward_cpu(self, bottom, top):
        x, s, y = bottom[0].read_data(), bottom[1].read_data(), top[0].data
        if self.updates and s.size:
            scale, mean = self.blobs[0].data, np.abs(s).mean()
            scale[...] = np.clip(np.where(scale < 0, mean, 0.99 * scale + 0.01 * mean), *self.limits)
        if self.common:
            np.multiply(x, self.blobs[0].read_data()[0], out=y)
        elif self.param.do_forward:
            np.multiply(by_channel(x), self._places(bottom, s), out=by_channel(y))
        else:
            y[...] = x
        for blob in top[1:]:
            blob.data[...] = self.blobs[0].read_data()

    def backward_cpu(self, top, propagate_down, bottom):
        x, dy = by_channel(bottom[0].read_data()), by_channel(top[0].read_diff())
        s = self._places(bottom, bottom[1].read_data())
        if propagate_down[1]:
            wanted = self.param.do_backward_scale
            self._places(bottom, bottom[1].diff)[...] = (x * dy).sum(1, keepdims=True) if wanted else 0
        if propagate_down[0]:
            by_channel(bottom[0].diff)[...] = dy * s if self.param.do_backward_feature else dy

    def forward_gpu(self, bottom, top):
        n, x, s, y = bottom[0].count, bottom[0].gpu_data(), bottom[1].gpu_data(), top[0].mutable_gpu_data()
        channels, places = bottom[0].shape[1], bottom[0].count_range(2)
        if self.updates and bottom[1].count:
            self.kernel("update").launch(
                (1, 1), 256, bottom[1].count, *self.limits, s, self.blobs[0].mutable_gpu_data()
            )
        if self.common:
            self.kernel("scale_all")(n, self.blobs[0].gpu_data(), x, y)
        elif self.param.do_forward:
            self.kernel("scale")(n, channels, places, s, x, y)
        else:
            ops.copy(n, x, y, self.dtype)
        for blob in top[1:]:
            ops.copy(1, self.blobs[0].gpu_data(), blob.mutable_gpu_data(), self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        n, x, s, dy = bottom[0].count, bottom[0].gpu_data(), bottom[1].gpu_data(), top[0].gpu_diff()
        channels, places = bottom[0].shape[1], bottom[0].count_range(2)
        if propagate_down[1] and self.param.do_backward_scale:
            self.kernel("scale_gradient")(bottom[1].count, channels, places, x, dy, bottom[1].mutable_gpu_diff())
        elif propagate_down[1]:
            ops.fill(bottom[1].count, 0, bottom[1].mutable_gpu_diff(), self.dtype)
        if propagate_down[0] and self.param.do_backward_feature:
            self.kernel("scale")(n, channels, places, s, dy, bottom[0].mutable_gpu_diff())
        elif propagate_down[0]:
            ops.copy(n, dy, bottom[0].mutable_gpu_diff(), self.dtype)
