"""ShuffleChannel: interleaves the channels of groups."""

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda.strided import StridedView


@register("ShuffleChannel")
class ShuffleChannel(Layer):
    """y[n, j * group + i] = x[n, i * C / group + j], for i < group and j < C / group

    The first channel of each group, then the second of each, and so on.

    bottom, top: (N, C, ...).
    shuffle_channel_param: group (1), a divisor of C.
    Source: Zhang et al., ShuffleNet, 2017.
    """

    fork = "ShuffleNet"
    family = "arrangement"
    exact_num_bottom = exact_num_top = 1
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.group = self.layer_param.shuffle_channel_param.group

    def top_shapes(self, bottom_shapes):
        shape = bottom_shapes[0]
        if len(shape) < 2 or self.group < 1 or shape[1] % self.group:
            raise self.error(f"group must divide the channels of bottom 0 {shape}, got {self.group}")
        return bottom_shapes

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        n, channels = bottom[0].shape[:2]
        self.view = n, self.group, channels // self.group, bottom[0].count_range(2)
        self.strided = StridedView(self.view, order=(0, 2, 1, 3))
        self.turned = n, channels // self.group, self.group, bottom[0].count_range(2)

    def forward_cpu(self, bottom, top):
        top[0].data.reshape(self.turned)[...] = bottom[0].read_data().reshape(self.view).swapaxes(1, 2)

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff.reshape(self.view)[...] = top[0].read_diff().reshape(self.turned).swapaxes(1, 2)

    def forward_gpu(self, bottom, top):
        self.strided.take(bottom[0].gpu_data(), top[0].mutable_gpu_data(), self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            self.strided.put(top[0].gpu_diff(), bottom[0].mutable_gpu_diff(), self.dtype)
