"""Silence: reads blobs that no other layer reads, so that they are not outputs of the net."""

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register


@register("Silence")
class Silence(Layer):
    """Bottoms: any number, of any shape; their gradients are 0.  No top."""

    min_bottom = 1
    exact_num_top = 0
    in_place = False
    backward_reads = ()
    replayable = True

    def top_shapes(self, bottom_shapes):
        return []

    def forward_cpu(self, bottom, top):
        pass

    def backward_cpu(self, top, propagate_down, bottom):
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                blob.clear_diff()

    forward_gpu, backward_gpu = forward_cpu, backward_cpu
