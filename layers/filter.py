"""Filter: keeps selected items of a batch."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.rows import add_gpu, take_gpu


@register("Filter")
class Filter(Layer):
    """Top i holds the items of bottom i whose selector is not 0.

    Bottoms: one or more blobs (N, ...), then the selector, N numbers.  Tops: one for each blob, (number of kept items,
    ...).  The diffs of dropped items are zero; the selector gets no gradient.
    """

    family = "arrangement"
    min_bottom = 2
    min_top = 1
    always_reshape = True
    capturable = False  # the shape of the tops depends on values
    no_gradient = (-1,)
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        if len(top) != len(bottom) - 1:
            raise self.error(f"{len(bottom)} bottoms need {len(bottom) - 1} tops, got {len(top)}")
        self.numbers = Blob((), self.dtype)  # indices of the kept items, for kernels
        self.kept: np.ndarray | None = None  # None before the first forward pass: tops as long as the bottoms

    def top_shapes(self, bottom_shapes):
        *data, selector = bottom_shapes
        if not selector or np.prod(selector[1:]) != 1:
            raise self.error(f"the selector must hold one number for each item, got {selector}")
        for i, shape in enumerate(data):
            if shape[:1] != selector[:1]:
                raise self.error(f"bottom {i} must hold {selector[0]} items, as many as the selector, got {shape}")
        return data

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if self.kept is None:
            self.kept = np.arange(bottom[-1].shape[0])
        else:
            self.kept = np.flatnonzero(bottom[-1].read_data())
        for blob in top:
            blob.reshape(len(self.kept), *blob.shape[1:])
        self.numbers.reshape(len(self.kept))
        self.numbers.data[...] = self.kept

    def forward_cpu(self, bottom, top):
        for b, t in zip(bottom, top):
            t.data[...] = b.read_data()[self.kept]

    def backward_cpu(self, top, propagate_down, bottom):
        self._refuse_selector_gradient(propagate_down)
        for b, t, wanted in zip(bottom, top, propagate_down):
            if wanted:
                b.diff[...] = 0
                b.diff[self.kept] = t.read_diff()

    def forward_gpu(self, bottom, top):
        numbers = self.numbers.gpu_data()
        for b, t in zip(bottom, top):
            x, y = b.gpu_data(), t.mutable_gpu_data()
            take_gpu(self.numbers.count, b.count_range(1), b.shape[0], numbers, x, y, self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        self._refuse_selector_gradient(propagate_down)
        numbers = self.numbers.gpu_data()
        for b, t, wanted in zip(bottom, top, propagate_down):
            if wanted:
                b.clear_diff()
                dy, dx = t.gpu_diff(), b.mutable_gpu_diff()
                add_gpu(self.numbers.count, b.count_range(1), b.shape[0], numbers, dy, dx, self.dtype)

    def _refuse_selector_gradient(self, propagate_down):
        if propagate_down[-1]:
            raise self.error(f"there is no gradient with respect to the selector (bottom {len(propagate_down) - 1})")
