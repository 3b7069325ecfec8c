"""BN: batch normalisation with scale and shift in one layer."""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.layers.shared.normalizer import Followers, Gradients, Normalizer
from minicaffe.layers.shared.statistics import KeepsStatistics
from minicaffe.layers.shared.views import by_channel
from minicaffe.proto import TEST, caffe_pb2


@register("BN")
class BN(KeepsStatistics):
    """y = scale * (x - mean) / sqrt(variance + eps) + shift, for each channel

    bottom: x (N, C, ...).  top 0: y, of that shape, in place if wanted; optional tops 1 and 2: mean and variance
    (1, C, 1, 1).

    Two forms have this name:
    - SegNet's: blobs scale and shift, each (1, C, 1, 1).  It always uses the batch's statistics, with eps 1e-9; with
      bn_mode INFERENCE it uses none, y = scale * x + shift.  bn_param: scale_filler and shift_filler (constant 0).
    - The later one, of PSPNet and others, chosen by any of slope_filler (constant 1), bias_filler (constant 0),
      momentum, eps or frozen in bn_param: it has running mean and variance (1, C, 1, 1) as further blobs,
      running = momentum running + (1 - momentum) batch, and uses them in TEST or when `frozen`.  The running blobs, and
      with `frozen` all blobs, get lr_mult and decay_mult 0.
    With `settings.sync_bn` the batch is that of all ranks together, see shared/exchange.py.
    Source: Badrinarayanan, Kendall and Cipolla, SegNet, 2015; Zhao et al., PSPNet, 2017.
    """

    fork = "SegNet; PSPNet"
    family = "normalization"
    keeps_coordinates = True
    exact_num_bottom = 1
    min_top = 1
    max_top = 3
    in_place = True
    backward_reads = ()

    def setup(self, bottom, top):
        self.param = param = self.layer_param.bn_param
        if bottom[0].num_axes < 2:
            raise self.error(f"bottom 0 must be (N, C, ...), got {bottom[0].shape}")
        self.channels = bottom[0].shape[1]
        later = ("slope_filler", "bias_filler", "momentum", "eps", "frozen")
        self.running = any(param.HasField(name) for name in later)
        self.eps = param.eps if self.running else 1e-9
        self.plain = param.bn_mode == param.INFERENCE
        self.of_batch = not self.plain and not (self.running and (self.phase == TEST or param.frozen))
        if self.running:
            for i in range(4):
                own = self.layer_param.param[i] if i < len(self.layer_param.param) else self.layer_param.param.add()
                if i > 1 or param.frozen:
                    own.lr_mult = own.decay_mult = 0
        shape = (self.channels,)
        self.normalized, self.deviation = Blob((), self.dtype), Blob(shape, self.dtype)  # on the CPU
        self.join_ranks(self.of_batch)
        self.on_device = Normalizer(self.channels, self.eps, self.dtype, self.exchange)

    def param_shapes(self, bottom_shapes):
        shape, param = (1, self.channels, 1, 1), self.param
        if not self.running:
            return [(shape, param.scale_filler), (shape, param.shift_filler)]
        fillers = []
        for name, value in (("slope_filler", 1), ("bias_filler", 0)):
            older = name.replace("slope", "scale").replace("bias", "shift")
            given = [getattr(param, n) for n in (name, older) if param.HasField(n)]
            fillers.append(given[0] if given else _constant(value))
        return [(shape, filler) for filler in (*fillers, _constant(0), _constant(1 if param.frozen else 0))]

    def top_shapes(self, bottom_shapes):
        if len(bottom_shapes[0]) < 2 or bottom_shapes[0][1] != self.channels:
            raise self.error(f"bottom 0 must be (N, C, ...) with {self.channels} channels, got {bottom_shapes[0]}")
        if 0 in bottom_shapes[0] and self.of_batch:
            raise self.error(f"there is nothing to take statistics of in bottom 0 of shape {bottom_shapes[0]}")
        return [bottom_shapes[0], (1, self.channels, 1, 1), (1, self.channels, 1, 1)]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.normalized.reshape(bottom[0].shape)
        self.places, self.count = bottom[0].count_range(2), max(1, bottom[0].count // self.channels)

    def forward_cpu(self, bottom, top):
        x = by_channel(bottom[0].read_data())
        mean, variance = self._statistics(x)
        self.deviation.data = 1 if self.plain else np.sqrt(variance + self.eps)
        by_channel(self.normalized.data)[...] = (x - mean[:, None]) / self.deviation.read_data()[:, None]
        scale, shift = (blob.read_data().reshape(-1, 1) for blob in self.blobs[:2])
        by_channel(top[0].data)[...] = scale * by_channel(self.normalized.read_data()) + shift
        for blob, values in zip(top[1:], (mean, variance)):
            blob.data = values.reshape(blob.shape)

    def _statistics(self, x):
        if self.plain:
            return np.zeros(self.channels, self.dtype), np.ones(self.channels, self.dtype)
        if not self.of_batch:
            return self.stored_statistics()
        count, mean = self.count, x.sum(2).sum(0) / self.count
        squares = ((x - mean[:, None]) ** 2).sum(2).sum(0)
        if self.exchange is not None:
            count, mean, squares = self.exchange.statistics(count, mean, squares)
        variance = squares / count
        for blob, value in zip(self.blobs[2:], (mean, variance)):
            blob.data += (1 - self.param.momentum) * (value.reshape(blob.shape) - blob.data)
        return mean, variance

    @property
    def updates_statistics(self):
        return self.running and self.of_batch

    @property
    def statistics_blobs(self):
        return self.blobs[2:]

    def stored_statistics(self):
        mean, variance = (blob.read_data().flatten() for blob in self.statistics_blobs)
        return mean, variance

    def store_statistics(self, mean, variance):
        for blob, values in zip(self.statistics_blobs, (mean, variance)):
            blob.data = values.reshape(blob.shape)

    @staticmethod
    def freeze(layer_param):
        layer_param.bn_param.frozen = True

    def backward_cpu(self, top, propagate_down, bottom):
        dy, y = by_channel(top[0].read_diff()), by_channel(self.normalized.read_data())
        count, sums = self.count, [dy.sum(2).sum(0), (dy * y).sum(2).sum(0)]
        for i, gradient in ((1, sums[0]), (0, sums[1])):
            if self.param_propagate_down[i]:
                self.blobs[i].diff += gradient.reshape(self.blobs[i].shape)
        if propagate_down[0]:
            if self.exchange is not None:
                count, sums = self.exchange.sums(count, *sums)
            factor = (self.blobs[0].read_data().ravel() / self.deviation.read_data())[:, None]
            mean_dy, mean_dy_y = ((s / count * self.of_batch)[:, None] for s in sums)
            by_channel(bottom[0].diff)[...] = factor * (dy - mean_dy - mean_dy_y * y)

    def forward_gpu(self, bottom, top):
        device, x, y = self.on_device, bottom[0].gpu_data(), top[0].mutable_gpu_data()
        stored = [blob.mutable_gpu_data() for blob in self.blobs[2:]] or [0, 0]
        shown = [*(blob.mutable_gpu_data() for blob in top[1:]), 0, 0][:2]
        mean, variance = device.mean.mutable_gpu_data(), device.variance.mutable_gpu_data()
        followers = Followers(*(blob.gpu_data() for blob in self.blobs[:2]))
        if self.of_batch:
            device.by_batch(bottom[0].shape, x, y, followers)
            self.kernel("remember")(self.channels, self.param.momentum, mean, variance, *stored, *shown)
        else:
            deviation = device.deviation.mutable_gpu_data()
            self.kernel("take")(self.channels, self.eps, *stored, mean, variance, deviation, *shown)
            device.by_stored(bottom[0].shape, x, y, followers)

    def backward_gpu(self, top, propagate_down, bottom):
        ds, db = (b.mutable_gpu_diff() if wanted else 0 for b, wanted in zip(self.blobs[:2], self.param_propagate_down))
        dx = bottom[0].mutable_gpu_diff() if propagate_down[0] else 0
        followers = Followers(*(blob.gpu_data() for blob in self.blobs[:2]))
        self.on_device.backward(Gradients(top[0].gpu_diff(), db=db, ds=ds, dx=dx), followers)


def _constant(value: float):
    return caffe_pb2.FillerParameter(type="constant", value=value)
