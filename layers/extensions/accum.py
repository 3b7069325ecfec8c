"""Accum: pictures of several sizes, enlarged to one size and joined along the channels."""

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.resampling import Resampling, aligned_weights


@register("Accum")
class Accum(Layer):
    """y = the bottoms at one size, by linear interpolation with aligned corners (as Interp's), one after another.

    bottoms: x_i, (N, C_i, H_i, W_i); with have_reference a last one of which only the size is read, with gradient 0.
    top: (N, sum of C_i, H, W)

    accum_param: have_reference (false; true: H and W are the last bottom's); else H and W are the smallest multiples of
        size_divisible_by that hold all bottoms, or top_height and top_width (0), if both are larger than any bottom;
        else the largest of the bottoms.
    Source: Dosovitskiy et al., FlowNet, 2015.
    """

    fork = "FlowNet 2.0"
    family = "arrangement"
    min_bottom = 1
    exact_num_top = 1
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.param = self.layer_param.accum_param
        if self.param.have_reference and len(bottom) < 2:
            raise self.error("have_reference needs at least two bottoms, got 1")

    def top_shapes(self, bottom_shapes):
        for i, shape in enumerate(bottom_shapes):
            if len(shape) != 4 or 0 in shape[2:] or shape[0] != bottom_shapes[0][0]:
                samples = f" with N {bottom_shapes[0][0]}" if i else ""
                raise self.error(f"bottom {i} must be (N, C, H, W){samples}, got {shape}")
        joined = bottom_shapes[:-1] if self.param.have_reference else bottom_shapes
        return [(bottom_shapes[0][0], sum(shape[1] for shape in joined), *self._size(bottom_shapes))]

    def _size(self, shapes) -> tuple[int, ...]:
        if self.param.have_reference:
            return shapes[-1][2:]
        largest = tuple(max(sizes) for sizes in zip(*(shape[2:] for shape in shapes)))
        if multiple := self.param.size_divisible_by:
            return tuple(-(-n // multiple) * multiple for n in largest)
        wanted = self.param.top_height, self.param.top_width
        return wanted if all(n > most for n, most in zip(wanted, largest)) else largest

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        size = top[0].shape[2:]
        self.parts, start = [], 0  # for each joined bottom its weights and its channels
        for blob in bottom[: -1 if self.param.have_reference else None]:
            weights = [aligned_weights(n, m) for n, m in zip(blob.shape[2:], size)]
            self.parts.append((Resampling(weights, self.dtype), slice(start, start + blob.shape[1])))
            start += blob.shape[1]

    def forward_cpu(self, bottom, top):
        for blob, (weights, channels) in zip(bottom, self.parts):
            weights.forward(blob.read_data(), top[0].data[:, channels])

    def backward_cpu(self, top, propagate_down, bottom):
        for blob, wanted, (weights, channels) in zip(bottom, propagate_down, self.parts):
            if wanted:
                weights.backward(top[0].read_diff()[:, channels], blob.diff)
        if self.param.have_reference and propagate_down[-1]:
            bottom[-1].diff[...] = 0

    def forward_gpu(self, bottom, top):
        y = top[0].mutable_gpu_data()
        for blob, (weights, channels) in zip(bottom, self.parts):
            place = blob.shape[1], top[0].shape[1], channels.start
            weights.forward_gpu(blob.count_range(0, 2), blob.gpu_data(), y, place)

    def backward_gpu(self, top, propagate_down, bottom):
        dy = top[0].gpu_diff()
        for blob, wanted, (weights, channels) in zip(bottom, propagate_down, self.parts):
            if wanted:
                place = blob.shape[1], top[0].shape[1], channels.start
                weights.backward_gpu(blob.count_range(0, 2), dy, blob.mutable_gpu_diff(), place)
        if self.param.have_reference and propagate_down[-1]:
            ops.fill(bottom[-1].count, 0, bottom[-1].mutable_gpu_diff(), self.dtype)
