"""The converters of layer types, by topic; importing this package registers them.

The first line of each converter's docstring is the ONNX form of its types.
"""

from minicaffe.export.onnx.layers import (  # noqa: F401
    activation,
    arithmetic,
    arrangement,
    detection,
    extensions,
    normalization,
    pooling,
    products,
    recurrent,
    regions,
    resampling,
    selection,
)
