"""Padding: adds a border of zeros, or removes one."""

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.cuda.strided import StridedView


@register("Padding")
class Padding(Layer):
    """y = x with pad_beg rows and columns of zeros before it and pad_end behind it; where these are negative, without.

    Bottom: (N, C, H, W).  Top: (N, C, H + pad_beg + pad_end, W + pad_beg + pad_end).
    padding_param: pad_beg (0), pad_end (0), which do not differ in sign.
    Source: Chen et al., DeepLab, 2014.
    """

    fork = "DeepLab"
    family = "arrangement"
    exact_num_bottom = exact_num_top = 1
    in_place = False
    backward_reads = ()

    @staticmethod
    def describe(layer_param):
        return f"{layer_param.padding_param.pad_beg}, {layer_param.padding_param.pad_end}"

    def setup(self, bottom, top):
        param = self.layer_param.padding_param
        self.begin, self.end = param.pad_beg, param.pad_end
        if self.begin * self.end < 0:
            raise self.error(f"pad_beg and pad_end must not differ in sign, got {self.begin} and {self.end}")
        self.grows = self.begin + self.end >= 0

    def top_shapes(self, bottom_shapes):
        (shape,) = bottom_shapes
        if len(shape) != 4:
            raise self.error(f"bottom 0 must be (N, C, H, W), got {shape}")
        size = [length + self.begin + self.end for length in shape[2:]]
        if min(size) < 1:
            raise self.error(f"pad_beg and pad_end leave nothing of bottom 0 of shape {shape}")
        return [(*shape[:2], *size)]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        small, large = (bottom[0].shape, top[0].shape) if self.grows else (top[0].shape, bottom[0].shape)
        offset = (0, 0, *(abs(self.begin),) * 2)
        self.inner = tuple(slice(start, start + length) for start, length in zip(offset, small))
        self.view = StridedView(large, small, offset)  # the smaller blob's part of the larger one

    def forward_cpu(self, bottom, top):
        self._copy(bottom[0].read_data(), top[0].data, self.grows)

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            self._copy(top[0].read_diff(), bottom[0].diff, not self.grows)

    def _copy(self, source, target, grows):
        if grows:
            target[...] = 0
            target[self.inner] = source
        else:
            target[...] = source[self.inner]

    def forward_gpu(self, bottom, top):
        if self.grows:
            y = top[0].mutable_gpu_data()
            ops.fill(top[0].count, 0, y, self.dtype)
            self.view.put(bottom[0].gpu_data(), y, self.dtype)
        else:
            self.view.take(bottom[0].gpu_data(), top[0].mutable_gpu_data(), self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        if self.grows:
            self.view.take(top[0].gpu_diff(), bottom[0].mutable_gpu_diff(), self.dtype)
        else:
            bottom[0].clear_diff()
            self.view.put(top[0].gpu_diff(), bottom[0].mutable_gpu_diff(), self.dtype)
