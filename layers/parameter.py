"""Parameter: a learned blob as a top."""

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops


@register("Parameter")
class Parameter(Layer):
    """y = w.

    No bottom.  Top: w, of the given shape, whose memory it shares.  Blobs: w.
    parameter_param: shape { dim: ... }.  Extension (NormFace): blob_filler (constant 0), the initial values.
    """

    exact_num_bottom = 0
    exact_num_top = 1
    always_reshape = True  # a later `share_with` may change the memory of the learned blob
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.shape = tuple(self.layer_param.parameter_param.shape.dim)

    def param_shapes(self, bottom_shapes):
        return [(self.shape, self.layer_param.parameter_param.blob_filler)]

    def top_shapes(self, bottom_shapes):
        return [self.shape]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        top[0].share_data(self.blobs[0])

    def forward_cpu(self, bottom, top):
        pass  # the data are shared

    forward_gpu = forward_cpu

    def backward_cpu(self, top, propagate_down, bottom):
        if self.param_propagate_down[0]:
            self.blobs[0].diff[...] += top[0].read_diff()

    def backward_gpu(self, top, propagate_down, bottom):
        if self.param_propagate_down[0]:
            ops.axpy(top[0].count, 1, top[0].gpu_diff(), self.blobs[0].mutable_gpu_diff(), self.dtype)
