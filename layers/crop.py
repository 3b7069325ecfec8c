"""Crop: cuts a blob to the size of another."""

from minicaffe.core.blob import canonical_axis
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda.strided import StridedView


@register("Crop")
class Crop(Layer):
    """y = x cut to the shape of a reference, from `axis` on.

    Bottoms: x; a reference with as many axes, of which only the shape is read.  Top: the lengths of x before `axis`,
    those of the reference from `axis` on.
    crop_param: axis (2), offset (0): first index that is kept, one number for all cut axes, or one for each.
    """

    family = "arrangement"
    exact_num_bottom = 2
    exact_num_top = 1
    in_place = False
    no_gradient = (1,)
    cuts = "where given"
    backward_reads = ()

    @staticmethod
    def describe(layer_param):
        return f"axis {layer_param.crop_param.axis}"

    def setup(self, bottom, top):
        self.given_axis, self.given_offsets = self.layer_param.crop_param.axis, self.layer_param.crop_param.offset

    def region(self, x, reference) -> list[tuple[int, int]]:
        """Return the first index and the length of the cut on each axis of x."""
        if len(x) != len(reference):
            raise self.error(f"bottoms must have equally many axes, got {x} and {reference}")
        axis, offsets = canonical_axis(self.given_axis, len(x)), list(self.given_offsets)
        if len(offsets) not in (0, 1, len(x) - axis):
            raise self.error(f"offset must be given once, or once for each of {len(x) - axis} axes, got {offsets}")
        offsets = offsets if len(offsets) > 1 else (offsets or [0]) * (len(x) - axis)
        region = [(0, length) for length in x[:axis]] + list(zip(offsets, reference[axis:]))
        for i, (start, length) in enumerate(region):
            if start + length > x[i]:
                raise self.error(f"axis {i} of bottom 0 {x} is too short for {length} numbers from {start} on")
        return region

    def top_shapes(self, bottom_shapes):
        return [tuple(length for _, length in self.region(*bottom_shapes))]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        region = self.region(bottom[0].shape, bottom[1].shape)
        self.cut = tuple(slice(start, start + length) for start, length in region)
        offset, lengths = zip(*region)
        self.view = StridedView(bottom[0].shape, lengths, offset)

    def forward_cpu(self, bottom, top):
        top[0].data[...] = bottom[0].read_data()[self.cut]

    def backward_cpu(self, top, propagate_down, bottom):
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                blob.clear_diff()
        if propagate_down[0]:
            bottom[0].diff[self.cut] = top[0].read_diff()

    def forward_gpu(self, bottom, top):
        self.view.take(bottom[0].gpu_data(), top[0].mutable_gpu_data(), self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                blob.clear_diff()
        if propagate_down[0]:
            self.view.put(top[0].gpu_diff(), bottom[0].mutable_gpu_diff(), self.dtype)
