"""SpatialDropout: sets whole maps to zero while training."""

import logging

from minicaffe.core.registry import register
from minicaffe.layers.dropout import Dropout

log = logging.getLogger("minicaffe")


@register("SpatialDropout")
class SpatialDropout(Dropout):
    """In TRAIN y = x * mask / (1 - dropout_ratio), each mask 0 with probability dropout_ratio, else 1; in TEST y = x.

    bottom, top: (N, C, ...), with one mask for all numbers of a channel of a sample; in place if wanted.
    dropout_param: as for Dropout.  spatial_dropout_param has no effect, as in Intel's Caffe.
    Source: Tompson et al., Efficient object localization using convolutional networks, 2015.
    """

    fork = "Intel"

    def setup(self, bottom, top):
        super().setup(bottom, top)
        if self.layer_param.HasField("spatial_dropout_param"):
            log.warning(
                "SpatialDropout layer '%s': spatial_dropout_param has no effect; write dropout_param", self.name
            )

    def top_shapes(self, bottom_shapes):
        if len(bottom_shapes[0]) < 2:
            raise self.error(f"bottom 0 must be (N, C, ...), got {bottom_shapes[0]}")
        return bottom_shapes

    def mask_shape(self, shape):
        return (*shape[:2], *(1,) * (len(shape) - 2))

    def drop(self, ticket, n, source, target):
        maps = self.mask.count
        self.kernel("drop")(n, n // maps if maps else 1, maps, self.draw, ticket, self.threshold, self.scale,
                            source, target)  # fmt: skip
