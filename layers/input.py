"""Input: the inputs of a net, blobs that scripts write to."""

from __future__ import annotations

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register


@register("Input")
class Input(Layer):
    """Tops of given shapes, zero until a script writes into them.

    tops: any number.  input_param: shape, none (set it with `blob.reshape`), one for all tops, or one for
    each.
    """

    family = "data"
    exact_num_bottom = 0
    tops_are_inputs = True
    replayable = True
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
        """No-op: scripts may reshape the tops."""

    def forward_cpu(self, bottom, top):
        """No-op: the tops hold what a script has written."""

    def forward_gpu(self, bottom, top):
        """No-op, without a copy between host and device."""
