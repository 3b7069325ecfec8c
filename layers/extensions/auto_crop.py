"""AutoCrop: cuts a blob to the size of another, where the positions of both coincide."""

from minicaffe.core.registry import register
from minicaffe.layers.crop import Crop


@register("AutoCrop")
class AutoCrop(Crop):
    """y = x cut to the height and width of a reference, from the row and column on that the reference begins with.

    Bottoms: x (N, C, H, W); a reference (N, C', h, w), of which only the shape is read.  Top: (N, C, h, w).
    Without crop_param { offset }, the offset is computed when the net is built, from kernels, strides and pads on the
    paths through the first bottoms of layers that lead to both, as for `crop` of pycaffe's coord_map.
    Source: Liu et al., Richer convolutional features for edge detection, 2017; Crop of HED's Caffe is the same.
    """

    fork = "RCF"
    cuts = "where aligned"

    def setup(self, bottom, top):
        super().setup(bottom, top)
        if not self.given_offsets:
            raise self.error("crop_param needs an offset for a layer outside of a net")

    def region(self, x, reference):
        if len(x) != 4 or len(reference) != 4:
            raise self.error(f"bottoms must be (N, C, H, W), got {x} and {reference}")
        return super().region(x, reference)
