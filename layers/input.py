"""Input: blobs that somebody else fills, the inputs of a net."""

from __future__ import annotations

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register


@register("Input")
class Input(Layer):
    """Tops of given shapes, zero until a script writes into them.

    tops: any number.  input_param.shape: none (shape them by `blob.reshape`), one for all tops, or one each.
    """

    exact_num_bottom = 0
    min_top = 1
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        shapes = [tuple(shape.dim) for shape in self.layer_param.input_param.shape]
        if len(shapes) not in (0, 1, len(top)):
            raise self.error(f"needs no shape, one shape, or one per top: {len(top)} top(s), got {len(shapes)} shapes")
        for i, blob in enumerate(top[: len(top) if shapes else 0]):
            blob.reshape(shapes[i if len(shapes) > 1 else 0])

    def reshape(self, bottom, top):
        """Nothing: whoever fills the tops may reshape them too."""

    def forward_cpu(self, bottom, top):
        """Nothing: the tops hold what was written into them."""

    def forward_gpu(self, bottom, top):
        """Nothing, without fetching anything."""
