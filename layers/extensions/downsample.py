"""Downsample: pictures, or flow that is known in part, at a smaller height and width."""

from minicaffe.core.registry import register
from minicaffe.layers.shared.resampling import Resampling, aligned_weights
from minicaffe.layers.shared.resized import Resized


@register("Downsample")
class Downsample(Resized):
    """y = the mean of the places of x around the position of y, with weights that fall linearly to 0 at the next one.

    The corners of x and y coincide: row i of y is at row i (H - 1) / (H' - 1) of x.  Values of x that are nan are left
    out; y is nan where their weight is above half of that of the others.

    bottoms: x, (N, C, H, W); optionally a blob whose height and width are taken; neither gets a gradient.
    top: (N, C, H', W')

    downsample_param: top_height, top_width (without bottom 1).
    Source: Dosovitskiy et al., FlowNet, 2015.
    """

    no_gradient = (0, 1)
    size_fields = "top_height", "top_width"

    def field_size(self):
        param = self.layer_param.downsample_param
        return param.top_height, param.top_width

    def resampling(self, size, new_size):
        return Resampling([aligned_weights(n, m, wide=True) for n, m in zip(size, new_size)], self.dtype, unknown=True)
