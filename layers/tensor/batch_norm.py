"""BatchNorm on channels-last arrays.

For its backward pass it keeps x, which costs nothing: the blob's next values are written to another array. The
normalized values are computed again from x.
"""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.cuda.channels_last import Kept
from minicaffe.layers.batch_norm import BatchNorm
from minicaffe.layers.shared.normalizer import ALONE
from minicaffe.layers.tensor import channels
from minicaffe.layers.tensor.base import TensorLayer


@register("BatchNorm", engine="TENSOR")
class TensorBatchNorm(TensorLayer, BatchNorm):
    __doc__ = BatchNorm.__doc__

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self.kept = Kept()  # x of the last forward pass, with the statistics of a batch

    def expressible(self, bottom, top):
        return self.exchange is None

    def forward_tensor(self, bottom, top):
        self.normalize_tensor(bottom, top)

    def normalize_tensor(self, bottom, top, followers=ALONE, moments=()) -> None:
        """Compute the statistics and the top; `followers` and `moments`, of the bottom, as in channels.py."""
        layout, statistics = self.layout(bottom[0]), self.mutable_statistics()
        if self.use_global_stats:
            stored = [blob.gpu_data() for blob in self.blobs]
            self.kernel("global_statistics")(self.channels, self.eps, *stored, *statistics)
            channels.normalize(layout, self.data(bottom[0]), statistics, followers, self.mutable_data(top[0]))
        else:
            x = self.kept.keep(bottom[0].data_memory, layout)
            stored = [blob.mutable_gpu_data() for blob in self.blobs]
            running = channels.Running(self.eps, self.fraction, *statistics, *stored)
            channels.normalize_batch(layout, x, moments, running, followers, self.mutable_data(top[0]))

    def mutable_statistics(self) -> channels.Statistics:
        """The device addresses of mean and deviation, for new values."""
        return self.on_device.mean.mutable_gpu_data(), self.on_device.deviation.mutable_gpu_data()

    def statistics(self) -> channels.Statistics:
        """The device addresses of mean and deviation of the last forward pass."""
        return self.on_device.mean.gpu_data(), self.on_device.deviation.gpu_data()

    def backward_tensor(self, top, propagate_down, bottom):
        if propagate_down[0] and self.use_global_stats:
            dy = self.diff(top[0])
            factor = 0, self.on_device.deviation.gpu_data()
            channels.normalize(self.layout(top[0]), dy, factor, ALONE, self.mutable_diff(bottom[0]))
        elif propagate_down[0]:
            self.gradients_tensor(top, True, bottom)

    def gradients_tensor(self, top, wanted, bottom, followers=ALONE, db=0, ds=0) -> None:
        """Compute dx if `wanted`; db, ds: device addresses to which the gradients of a Scale behind are added, or 0."""
        layout, x, dy = self.layout(top[0]), self.kept.array, self.diff(top[0])
        means = self.on_device.means.mutable_gpu_data()
        channels.gradient_sums(layout, x, dy, self.statistics(), followers, db, ds, means)
        if wanted:
            channels.gradient(layout, x, dy, self.statistics(), followers, means, self.mutable_diff(bottom[0]))
