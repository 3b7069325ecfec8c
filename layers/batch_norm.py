"""BatchNorm: normalises every channel to mean 0 and variance 1."""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.layers.shared.normalizer import Gradients, Normalizer
from minicaffe.layers.shared.statistics import KeepsStatistics
from minicaffe.layers.shared.views import by_channel, channel_products, parts
from minicaffe.proto import TEST, caffe_pb2


@register("BatchNorm")
class BatchNorm(KeepsStatistics):
    """y = (x - mean) / sqrt(variance + eps), with the statistics of each channel over samples and places.

    bottom, top: (N, C, ...); in place if wanted.
    blobs: sum of means (C), sum of variances (C), their weight (1); all zero at first.  A forward pass that uses the
        batch's statistics updates them:

            mean = E[x],  variance = E[(x - mean)^2],  m = count / C
            blobs[0] = f blobs[0] + mean,  blobs[1] = f blobs[1] + variance m / (m - 1),  blobs[2] = f blobs[2] + 1

        With global statistics mean and variance are blobs[0] and blobs[1] divided by blobs[2] (0 before any training).
    With `settings.sync_bn` the batch is that of all ranks together, see shared/exchange.py.

    batch_norm_param: use_global_stats (absent: true in TEST), moving_average_fraction f 0.999, eps 1e-5.

    The solver does not update these blobs: their lr_mult is 0, any other is an error.  A learned scale and shift are
    those of a Scale layer behind (`scale_param { bias_term: true }`).
    Source: Ioffe and Szegedy, 2015.
    """

    family = "normalization"
    keeps_coordinates = True
    exact_num_bottom = 1
    exact_num_top = 1
    in_place = True
    backward_reads = ()

    @property
    def repeatable(self):  # type: ignore[override]  # nothing sets it
        return self.use_global_stats  # else a pass changes the statistics

    def setup(self, bottom, top):
        param = self.layer_param.batch_norm_param
        self.eps, self.fraction = param.eps, param.moving_average_fraction
        self.use_global_stats = param.use_global_stats if param.HasField("use_global_stats") else self.phase == TEST
        if bottom[0].num_axes < 2:
            raise self.error(f"bottom 0 must be (N, C, ...), got {bottom[0].shape}")
        self.channels = bottom[0].shape[1]
        self.refuse_learning(3)
        self.normalized, self.deviation = Blob((), self.dtype), Blob((self.channels,), self.dtype)  # on the CPU
        self.join_ranks(not self.use_global_stats)
        self.on_device = Normalizer(self.channels, self.eps, self.dtype, self.exchange)

    def param_shapes(self, bottom_shapes):
        zero = caffe_pb2.FillerParameter(type="constant")
        return [((self.channels,), zero), ((self.channels,), zero), ((1,), zero)]

    def top_shapes(self, bottom_shapes):
        shape = bottom_shapes[0]
        if len(shape) < 2 or shape[1] != self.channels:
            raise self.error(f"bottom 0 must be (N, C, ...) with {self.channels} channels, got {shape}")
        if 0 in shape and not self.use_global_stats:
            raise self.error(f"there is nothing to take statistics of in bottom 0 of shape {shape}")
        return [shape]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if not self.use_global_stats:
            self.normalized.reshape(bottom[0].shape)

    def forward_cpu(self, bottom, top):
        x, y = by_channel(bottom[0].read_data()), by_channel(top[0].data)
        if self.use_global_stats:
            mean, variance = self.stored_statistics()
            np.subtract(x, mean[:, None], out=y)
        else:
            count = x.size // self.channels
            mean = own = x.sum(2).sum(0) / count
            np.subtract(x, own[:, None], out=y)
            squares = channel_products(y, y)
            if self.exchange is not None:
                count, mean, squares = self.exchange.statistics(count, own, squares)
                y += (own - mean)[:, None]
            variance = squares / count
            self._remember(mean, variance, count)
        self.deviation.data = np.sqrt(variance + self.eps)
        y *= 1 / self.deviation.read_data()[:, None]
        if not self.use_global_stats:
            self.normalized.data = top[0].read_data()  # layers that work in place may overwrite the top

    @property
    def updates_statistics(self):
        return not self.use_global_stats

    @property
    def statistics_blobs(self):
        return self.blobs

    def stored_statistics(self):
        weight = self.blobs[2].read_data()[0]
        weight = 1 / weight if weight else 0
        return self.blobs[0].read_data() * weight, self.blobs[1].read_data() * weight

    def store_statistics(self, mean, variance):
        for blob, value in zip(self.blobs, (mean, variance, 1)):
            blob.data = value

    @staticmethod
    def freeze(layer_param):
        layer_param.batch_norm_param.use_global_stats = True

    def _remember(self, mean: np.ndarray, variance: np.ndarray, count: int) -> None:
        unbiased = count / (count - 1) if count > 1 else 1
        for blob, value in zip(self.blobs, (mean, variance * unbiased, 1)):
            blob.data = self.fraction * blob.read_data() + value

    def backward_cpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        dy, dx = by_channel(top[0].read_diff()), by_channel(bottom[0].diff)
        factor = 1 / self.deviation.read_data()[:, None]
        if self.use_global_stats:
            np.multiply(dy, factor, out=dx)
            return
        y = by_channel(self.normalized.read_data())
        count, sums = y.size // self.channels, [dy.sum(2).sum(0), channel_products(dy, y)]
        if self.exchange is not None:
            count, sums = self.exchange.sums(count, *sums)
        mean_dy, mean_dy_y = (each[:, None] / count for each in sums)
        for part in parts(y):
            change = np.multiply(y[part], mean_dy_y, out=self.scratch.array("term", y[part].shape, self.dtype))
            change += mean_dy
            np.subtract(dy[part], change, out=dx[part])
            dx[part] *= factor

    def forward_gpu(self, bottom, top):
        self.normalize_gpu(self.on_device, bottom[0].shape, bottom[0].gpu_data(), top[0].mutable_gpu_data())

    def normalize_gpu(self, normalizer, shape, x, y, *behind, moments=None, kept=False):
        """Write y by a Normalizer: this layer's, or that of a group of layers.

        behind: Followers and Joined, for layers behind this one.  moments: of x, if they are known.  kept: whether x is
        kept although the statistics are not the batch's.
        """
        if self.use_global_stats:
            stored = [blob.gpu_data() for blob in self.blobs]
            normalizer.by_stored(shape, x, y, *behind, stored=stored, kept=kept)
        else:
            running = [blob.mutable_gpu_data() for blob in self.blobs]
            normalizer.by_batch(shape, x, y, *behind, moments=moments, running=running, fraction=self.fraction)

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            shape = bottom[0].shape if self.use_global_stats else None
            self.on_device.backward(Gradients(top[0].gpu_diff(), dx=bottom[0].mutable_gpu_diff()), shape=shape)
