"""ContinuationIndicator: marks where the sequences of a recurrent layer begin."""

from minicaffe.core.blob import canonical_axis
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops


@register("ContinuationIndicator")
class ContinuationIndicator(Layer):
    """y[0, n] = 0, y[t, n] = 1 for t > 0: sequences that begin at step 0

    bottom, optional: any shape, of which only the length N of one axis counts; its gradient is 0.  top: (T, N).
    continuation_indicator_param: time_step T; without a bottom (Liu's fork) batch_size N, with one (jolibrain's) axis
    (0), on which N is read.
    Source: warpctc-caffe and jolibrain's fork.
    """

    fork = "warpctc-caffe"
    family = "data"
    min_bottom, max_bottom = 0, 1
    exact_num_top = 1
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        param = self.layer_param.continuation_indicator_param
        self.steps, self.sequences, self.axis = param.time_step, param.batch_size, param.axis
        if not self.steps:
            raise self.error("time_step must be at least 1")
        if not bottom and not self.sequences:
            raise self.error("batch_size must be at least 1 where there is no bottom")

    def top_shapes(self, bottom_shapes):
        if not bottom_shapes:
            return [(self.steps, self.sequences)]
        shape = bottom_shapes[0]
        return [(self.steps, shape[canonical_axis(self.axis, len(shape))])]

    def forward_cpu(self, bottom, top):
        top[0].data[...] = 1
        top[0].data[0] = 0

    def backward_cpu(self, top, propagate_down, bottom):
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                blob.diff[...] = 0

    def forward_gpu(self, bottom, top):
        indicator = top[0].mutable_gpu_data()
        ops.fill(top[0].count, 1, indicator, self.dtype)
        ops.fill(top[0].shape[1], 0, indicator, self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                ops.fill(blob.count, 0, blob.mutable_gpu_diff(), self.dtype)
