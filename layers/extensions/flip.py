"""Flip: mirrors maps."""

from minicaffe.core.registry import register
from minicaffe.layers.extensions.reverse import Reverse


@register("Flip")
class Flip(Reverse):
    """y[n, c, h, w] = x[n, c, h, W - 1 - w]; with flip_height the rows are in reverse order, too.

    bottom, top: (N, C, H, W).
    flip_param: flip_width (true), flip_height (false).
    Nets for faces compute the features of an image and of its mirror image with it.
    """

    fork = "NormFace"

    def turned(self, num_axes):
        if num_axes != 4:
            raise self.error(f"bottom 0 must be (N, C, H, W), got {num_axes} axes")
        param = self.layer_param.flip_param
        return (2,) * param.flip_height + (3,) * param.flip_width
