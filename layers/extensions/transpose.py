"""Transpose: transposes the axes, all of which are listed."""

from minicaffe.core.registry import register
from minicaffe.layers.extensions.permute import Permute


@register("Transpose")
class Transpose(Permute):
    """y[i_dim[0], i_dim[1], ...] = x[i_0, i_1, ...]

    bottom: any shape; top: the same lengths; axis k of the top is axis dim[k] of the bottom.
    transpose_param: dim, each axis of the bottom once.
    Source: CTPN's and caffe_ocr's forks.
    """

    fork = "CTPN; caffe_ocr"

    def order(self, num_axes):
        given = tuple(self.layer_param.transpose_param.dim)
        if sorted(given) != list(range(num_axes)):
            raise self.error(f"dim must name each of the axes 0 to {num_axes - 1} once, got {list(given)}")
        return given
