"""Reorg: moves places into channels, or back, in Darknet's order."""

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda.strided import StridedView


@register("Reorg")
class Reorg(Layer):
    """Memory is read as another shape, and two of its axes are moved; s is the stride.

    The channels C are divided into C' = C / (s s) groups, in both directions; this is not "space to depth".

    reverse false: y = x as (N, C', H, s, W, s), its axes in the order 0, 3, 5, 1, 2, 4, as (N, C s s, H / s, W / s)
    reverse true:  y = x as (N, s, s, C', H, W), its axes in the order 0, 3, 4, 1, 5, 2, as (N, C', H s, W s)

    bottom: (N, C, H, W), s s divides C, and without reverse s divides H and W; top: as above.
    reorg_param: stride 2, reverse false.
    Source: Redmon and Farhadi, YOLO9000, 2017.
    """

    fork = "YOLO"
    family = "arrangement"
    exact_num_bottom = exact_num_top = 1
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.stride, self.reverse = self.layer_param.reorg_param.stride, self.layer_param.reorg_param.reverse
        if self.stride < 1:
            raise self.error(f"stride must be at least 1, got {self.stride}")
        self.order = (0, 3, 4, 1, 5, 2) if self.reverse else (0, 3, 5, 1, 2, 4)

    def top_shapes(self, bottom_shapes):
        (shape,), s = bottom_shapes, self.stride
        if len(shape) != 4 or shape[1] % (s * s):
            raise self.error(f"bottom 0 must be (N, C, H, W) with channels that {s * s} divides, got {shape}")
        n, channels, height, width = shape
        if self.reverse:
            return [(n, channels // (s * s), height * s, width * s)]
        if height % s or width % s:
            raise self.error(f"the stride {s} must divide height and width of bottom 0, got {shape}")
        return [(n, channels * s * s, height // s, width // s)]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        (n, channels, height, width), s = bottom[0].shape, self.stride
        few = channels // (s * s)
        self.view = (n, s, s, few, height, width) if self.reverse else (n, few, height, s, width, s)
        self.strided = StridedView(self.view, order=self.order)
        self.turned = tuple(self.view[axis] for axis in self.order)

    def forward_cpu(self, bottom, top):
        top[0].data.reshape(self.turned)[...] = bottom[0].read_data().reshape(self.view).transpose(self.order)

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff.reshape(self.view).transpose(self.order)[...] = top[0].read_diff().reshape(self.turned)

    def forward_gpu(self, bottom, top):
        self.strided.take(bottom[0].gpu_data(), top[0].mutable_gpu_data(), self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            self.strided.put(top[0].gpu_diff(), bottom[0].mutable_gpu_diff(), self.dtype)
