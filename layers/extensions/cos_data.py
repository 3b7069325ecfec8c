"""CoSData: columns of a table, as blobs that a script fills."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.input import Input


@register("CoSData")
class CoSData(Input):
    """Tops of the shapes of columns, zero until a script writes into them; in its fork Spark does.

    tops: one for each `top` of cos_data_param, (batch_size, channels, height, width), the axes behind the first
        sample_num_axes of a sample left out; with transpose (channels, batch_size).

    cos_data_param: batch_size, and for each top channels, height and width, or out_channels, out_height and out_width
        in their place; sample_num_axes 3 (transpose: 1), transpose false.  transform_param is not applied.
    Source: CaffeOnSpark.
    """

    fork = "CaffeOnSpark"

    def setup(self, bottom, top):
        param = self.layer_param.cos_data_param
        if len(param.top) != len(top):
            raise self.error(f"cos_data_param needs one `top` for each top, got {len(param.top)} for {len(top)}")
        for index, (column, blob) in enumerate(zip(param.top, top)):
            size = [getattr(column, f"out_{name}") or getattr(column, name) for name in ("channels", "height", "width")]
            axes = column.sample_num_axes
            if axes > 3 or (column.transpose and axes != 1):
                raise self.error(
                    f"sample_num_axes of top {index} must be {'1 with transpose' if column.transpose else 'at most 3'}"
                    f", got {axes}"
                )
            shape = [param.batch_size, *size[:axes]]
            if min(shape) < 1:
                raise self.error(f"the sizes of top {index} must be given and positive, got {shape}")
            blob.reshape(*(shape[::-1] if column.transpose else shape))
