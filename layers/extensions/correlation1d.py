"""Correlation1D: how well patches fit those of another picture in the same row, as for stereo."""

from minicaffe.core.registry import register
from minicaffe.layers.extensions.correlation import Correlation


@register("Correlation1D")
class Correlation1D(Correlation):
    """Correlation for displacements of columns: channel j + R of the top has d = stride_2 j.

    Rows have neither padding nor a border for displacements: H' = (H - kernel_size + 1) / stride_1, rounded up.

    bottoms: a and b, (N, C, H, W), both with a gradient; top: (N, 2 R + 1, H', W'), with a single direction (N, R + 1,
    H', W')

    correlation_param: as of Correlation, and single_direction (0; 1: d from 0 to R stride_2; -1: d from
        -(R + 1) stride_2 to -stride_2).
    Source: Ilg et al., FlowNet 2.0, 2017.
    """

    param_field = "correlation_param"
    moved = (False, True)

    @classmethod
    def kernel_file(cls):
        return "extensions/correlation"

    def displacements(self):
        step, direction = self.param.stride_2, self.param.single_direction
        if direction not in (-1, 0, 1):
            raise self.error(f"single_direction must be -1, 0 or 1, got {direction}")
        most = self.param.max_displacement // step * step
        columns = (range(-most, most + 1, step), range(0, most + 1, step), range(-most - step, -step + 1, step))
        return [range(1), columns[direction]]
