"""The base of layers that give pictures the height and width of a field, or of another bottom."""

from __future__ import annotations

from minicaffe.core.layer import Layer
from minicaffe.layers.shared.resampling import Resampling


class Resized(Layer):
    """Bottoms: x, (N, C, H, W), and optionally a blob (..., H', W') that gives the size; top: (N, C, H', W').

    A type states the size of its fields, and the weights (`resampling`).
    """

    fork = "FlowNet 2.0"
    min_bottom, max_bottom = 1, 2
    exact_num_top = 1
    no_gradient: tuple[int, ...] = (1,)
    in_place = False
    backward_reads: tuple[str, ...] = ()
    size_fields: tuple[str, str]  #: names of the fields with height and width

    def field_size(self) -> tuple[int, int]:
        """Height and width as the layer's parameters have them."""
        raise NotImplementedError

    def resampling(self, size: tuple[int, int], new_size: tuple[int, int]) -> Resampling:
        """Return the weights for pictures of `size`."""
        raise NotImplementedError

    def top_shapes(self, bottom_shapes):
        x = bottom_shapes[0]
        if len(x) != 4 or 0 in x[2:]:
            raise self.error(f"bottom 0 must be (N, C, H, W), got {x}")
        if len(bottom_shapes) > 1 and len(bottom_shapes[1]) != 4:
            raise self.error(f"bottom 1, which gives the size, must be (N, C, H, W), got {bottom_shapes[1]}")
        size = bottom_shapes[1][2:] if len(bottom_shapes) > 1 else self.field_size()
        if min(size) < 1:
            height, width = self.size_fields
            raise self.error(f"{height} and {width} must be above 0, or bottom 1 must give the size; got {size}")
        return [(*x[:2], *size)]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.weights = self.resampling(bottom[0].shape[2:], top[0].shape[2:])

    def forward_cpu(self, bottom, top):
        self.weights.forward(bottom[0].read_data(), top[0].data)

    def forward_gpu(self, bottom, top):
        planes = bottom[0].count_range(0, 2)
        self.weights.forward_gpu(planes, bottom[0].gpu_data(), top[0].mutable_gpu_data())
