"""ConnectedComponent: numbers the connected regions of label maps."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.views import truncated


@register("ConnectedComponent")
class ConnectedComponent(Layer):
    """y = the number of the region of each pixel: pixels of one label that are connected by their edges; 0 for label 0

    Bottom: labels (N, C, H, W), whole numbers; top: of the same shape.  Each map has its own numbers, which begin after
    its largest label, in the order in which rows reach the regions.  Without a gradient; on the host.
    """

    fork = "naibaf7's Caffe"
    exact_num_bottom = exact_num_top = 1
    no_gradient = (0,)
    in_place = False
    backward_reads = ()
    capturable = False  # works on the host

    def top_shapes(self, bottom_shapes):
        if len(bottom_shapes[0]) != 4:
            raise self.error(f"bottom 0 must be (N, C, H, W), got {bottom_shapes[0]}")
        return bottom_shapes

    def forward_cpu(self, bottom, top):
        for index in np.ndindex(bottom[0].shape[:2]):
            labels = truncated(bottom[0].read_data()[index], np.int64)
            first, region = np.unique(first_pixels(labels), return_inverse=True)
            counts = labels.reshape(-1)[first] != 0
            numbers = np.where(counts, np.cumsum(counts) + labels.max(initial=0), 0)
            top[0].data[index] = numbers[region.reshape(labels.shape)]


def first_pixels(labels: np.ndarray) -> np.ndarray:
    """Return for each pixel of a map (H, W) the index of the first pixel of its region."""
    pixel = np.arange(labels.size).reshape(labels.shape)
    down, across = labels[1:] == labels[:-1], labels[:, 1:] == labels[:, :-1]
    a = np.concatenate([pixel[:-1][down], pixel[:, :-1][across]])
    b = np.concatenate([pixel[1:][down], pixel[:, 1:][across]])
    parent = pixel.reshape(-1)  # trees of pixels with their first ones as roots; a and b are roots of one region
    while a.size:
        parent = parent.copy()
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(above := parent[parent], parent):
            parent = above
        a, b = parent[a], parent[b]
        apart = a != b
        a, b = a[apart], b[apart]
    return parent
