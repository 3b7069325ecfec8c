"""FlowAugmentation: the flow between two pictures after both were moved."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.augmentation import check_rows, from_row, given_rows, matrix


@register("FlowAugmentation")
class FlowAugmentation(Layer):
    """y(p) = M2^-1 (q + flow(q)) - p with q = M1 p: M1 and M2 take places of crops to positions in the two pictures.

    The flow at q is that of the nearest place.

    bottoms: the flow, (N, 2, H, W), and the coefficients of both pictures, (N, 42, 1, 1), as DataAugmentation and
    GenerateAugmentationParameters make them.  None gets a gradient.  top: (N, 2, crop_height, crop_width)

    augmentation_param: crop_width and crop_height, required.
    Source: Ilg et al., FlowNet 2.0, 2017.
    """

    fork = "FlowNet 2.0"
    param_field = "augmentation_param"
    family = "data"
    exact_num_bottom = 3
    exact_num_top = 1
    no_gradient = (0, 1, 2)
    in_place = False
    backward_reads = ()
    capturable = False  # works on the host

    def setup(self, bottom, top):
        param = self.layer_param.augmentation_param
        self.crop = param.crop_height, param.crop_width
        if 0 in self.crop:
            raise self.error(f"crop_height and crop_width must be above 0, got {self.crop}")

    def top_shapes(self, bottom_shapes):
        flow, *coefficients = bottom_shapes
        if len(flow) != 4 or flow[1] != 2 or 0 in flow[2:]:
            raise self.error(f"bottom 0 must be (N, 2, H, W), got {flow}")
        for i, shape in enumerate(coefficients, 1):
            check_rows(self, i, shape, flow[0])
        return [(*flow[:2], *self.crop)]

    def forward_cpu(self, bottom, top):
        flow, *both = bottom[0].read_data(), *(given_rows(self, i, bottom[i]) for i in (1, 2))
        rows, columns = np.indices(self.crop)
        places = np.stack([columns, rows, np.ones(self.crop)])
        for n, y in enumerate(top[0].data):
            m1, m2 = (matrix(from_row(row[n]), flow.shape[2:], self.crop) for row in both)
            q = np.tensordot(m1, places, 1)
            x, h = (np.clip(np.floor(p + 0.5), 0, size - 1).astype(int) for p, size in zip(q, flow.shape[:1:-1]))
            moved = q + flow[n][:, h, x] - m2[:, 2, None, None]
            y[...] = np.tensordot(np.linalg.inv(m2[:, :2]), moved, 1) - places[:2]
