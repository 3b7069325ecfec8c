"""BatchNorm: normalises every channel to mean 0 and variance 1."""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.layers.shared.followers import ALONE
from minicaffe.layers.shared.statistics import KeepsStatistics
from minicaffe.layers.shared.views import by_channel, channel_products, parts
from minicaffe.proto import TEST, caffe_pb2

_PARTS = 32  #: most blocks of threads that share the sums of a channel


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
        self.normalized, self.mean = Blob((), self.dtype), Blob((self.channels,), self.dtype)
        self.deviation = Blob((self.channels,), self.dtype)
        self.join_ranks(not self.use_global_stats)
        self.partial, self.means = Blob((2, self.channels, _PARTS), self.dtype), Blob((2, self.channels), self.dtype)

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
        normalized = 0 if self.use_global_stats else self.normalized.mutable_gpu_data()
        self.normalize_gpu(bottom, top, normalized)

    def normalize_gpu(self, bottom, top, normalized, followers=ALONE):
        """Compute the statistics and y; `followers`: kernel arguments for layers in place behind it."""
        x, y = bottom[0].gpu_data(), top[0].mutable_gpu_data()
        mean, deviation = self.statistics_gpu(bottom)
        arguments = (self.channels, bottom[0].count_range(2), x, mean, deviation, *followers, y, normalized)
        self.kernel("normalize")(top[0].count, *arguments)

    def statistics_gpu(self, bottom) -> tuple[int, int]:
        """Compute mean and deviation of the batch, or from the blobs; return the device pointers."""
        n, c, places, x = bottom[0].count, self.channels, bottom[0].count_range(2), bottom[0].gpu_data()
        mean, deviation = self.mean.mutable_gpu_data(), self.deviation.mutable_gpu_data()
        if self.use_global_stats:
            stored = [blob.gpu_data() for blob in self.blobs]
            self.kernel("global_statistics")(c, self.eps, *stored, mean, deviation)
            return mean, deviation
        count, parts, partial = n // c, self._parts(n), self.partial.mutable_gpu_data()
        stored = [blob.mutable_gpu_data() for blob in self.blobs]
        self.kernel("partial_statistics").launch((c, parts), 256, count, c, places, x, partial)
        if self.exchange is None:
            arguments = (parts, count, places, self.eps, self.fraction, x, partial, mean, deviation, *stored)
            self.kernel("statistics")(c, *arguments)
        else:
            rows = self.exchange.statistics_gpu(c, parts, count, places, x, partial)
            arguments = (self.exchange.size, self.eps, self.fraction, rows, mean, deviation, *stored)
            self.kernel("statistics_of_ranks")(c, *arguments)
        return mean, deviation

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0] and self.use_global_stats:
            n, c, places = top[0].count, self.channels, bottom[0].count_range(2)
            dy, dx = top[0].gpu_diff(), bottom[0].mutable_gpu_diff()
            self.kernel("backward_global")(n, c, places, dy, self.deviation.gpu_data(), dx)
        elif propagate_down[0]:
            self.gradients_gpu(top, True, bottom, self.normalized)

    def gradients_gpu(self, top, wanted, bottom, normalized, followers=ALONE, db=0, ds=0):
        """Compute dx if `wanted`; db, ds: device pointers to which the gradients of a Scale behind are added, or 0."""
        n, c, places, dy = top[0].count, self.channels, bottom[0].count_range(2), top[0].gpu_diff()
        y, parts, partial = normalized.gpu_data(), self._parts(n), self.partial.mutable_gpu_data()
        means = self.means.mutable_gpu_data()
        part = self.kernel("partial_gradients")
        part.launch((c, parts), 256, n // c, c, places, dy, y, *followers, partial)
        if self.exchange is not None:
            self.exchange.gradients_gpu(2 * c, parts, n // c, partial, db, ds, means if wanted else 0)
        else:
            self.kernel("mean_gradients")(2 * c, parts, n // c, partial, db, ds, means)
        if wanted:
            arguments = (c, places, dy, y, *followers, means, self.deviation.gpu_data())
            self.kernel("backward")(n, *arguments, bottom[0].mutable_gpu_diff())

    def _parts(self, n: int) -> int:
        """Return how many blocks of threads share a channel."""
        return max(1, min(_PARTS, n // self.channels // 2048))
