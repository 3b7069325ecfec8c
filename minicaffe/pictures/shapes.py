"""The shape of every blob of a NetParameter, found without data, without parameters and without computing.

Layers give their shapes in pure functions, so a drawing or a summary of ResNet-152 needs none of its 60 million
weights.  Shapes that cannot be found (of a missing database, of an unknown layer type) are left out, and with them
those that depend on them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from minicaffe.core.blob import Blob
from minicaffe.core.layer import layer_class
from minicaffe.errors import UsageError

Shape = tuple[int, ...]


def infer_shapes(net_param, given: Mapping[str, Shape] | None = None) -> dict[tuple[int, int], Shape]:
    """(index of the layer, index of its top) -> shape, for the tops whose shape is known.

    net_param: an upgraded NetParameter; every layer in it counts, so filter it by phase first.
    given: shapes by blob name, for blobs whose shape the net alone does not give, such as those of a Data layer.
    """
    given = dict(given or {})
    known: dict[str, Shape] = {}
    shapes: dict[tuple[int, int], Shape] = {}
    for i, layer_param in enumerate(net_param.layer):
        try:
            tops: Sequence[Shape | None] = _top_shapes(layer_param, [known[name] for name in layer_param.bottom])
        except Exception:  # building the net reports it
            tops = [None] * len(layer_param.top)
        for j, (name, shape) in enumerate(zip(layer_param.top, tops)):
            shape = given.get(name, shape)
            if shape is None:
                known.pop(name, None)
            else:
                known[name] = shapes[i, j] = tuple(shape)
    return shapes


def _top_shapes(layer_param, bottom_shapes: list[Shape]) -> Sequence[Shape | None]:
    cls = layer_class(layer_param.type)
    found = cls.source_shapes(layer_param)
    if found is not None:
        return found
    own = type(layer_param)()
    own.CopyFrom(layer_param)
    layer = cls(own)
    bottom = [Blob(shape) for shape in bottom_shapes]  # take no memory until their data are read
    top = [Blob() for _ in layer_param.top]
    layer.setup(bottom, top)
    layer.reshape(bottom, top)
    return [blob.shape for blob in top]


def parse_shapes(texts: Sequence[str]) -> dict[str, Shape]:
    """`["data=100,3,32,32", "label=100"]` as `{"data": (100, 3, 32, 32), "label": (100,)}`; x separates as well."""
    shapes = {}
    for text in texts:
        match = re.fullmatch(r"(.+?)[=:](\d+(?:[,x]\d+)*)", text.strip())
        if not match:
            raise UsageError(f"expected a shape such as data=100,3,32,32, got {text!r}")
        shapes[match[1]] = tuple(int(dim) for dim in re.split("[,x]", match[2]))
    return shapes
