"""Shape inference: the shape of every blob of a NetParameter, without allocating data or parameters.

Only `setup` and `reshape` of the layers run, so a drawing or a summary of ResNet-152 allocates none of its 60 million
weights.  If a shape is unknown (a missing database, an unknown layer type), it is omitted, with all that depend on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from minicaffe.core.blob import Blob
from minicaffe.core.registry import layer_class
from minicaffe.errors import UsageError

Shape = tuple[int, ...]


def infer_shapes(net_param, given: Mapping[str, Shape] | None = None) -> dict[tuple[int, int], Shape]:
    """Return the known shapes of tops as {(index of the layer, index of its top): shape}.

    net_param: an upgraded NetParameter, with the layers of one phase, as `filter_net` returns it.
    given: shapes by blob name, which replace inferred ones, for blobs such as the tops of a Data layer.
    """
    given = dict(given or {})
    known: dict[str, Shape] = {}
    shapes: dict[tuple[int, int], Shape] = {}
    for i, layer_param in enumerate(net_param.layer):
        try:
            tops: Sequence[Shape | None] = _top_shapes(layer_param, [known[name] for name in layer_param.bottom])
        except Exception:  # the net reports such an error better when it is built
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
    bottom = [Blob(shape) for shape in bottom_shapes]  # allocated lazily, so not at all here
    top = [Blob() for _ in layer_param.top]
    layer.setup(bottom, top)
    layer.reshape(bottom, top)
    return [blob.shape for blob in top]


def parse_shapes(texts: Sequence[str]) -> dict[str, Shape]:
    """Parse `["data=100,3,32,32", "label=100"]` to `{"data": (100, 3, 32, 32), "label": (100,)}`.

    ":" may replace "=", and "x" may replace ",".  UsageError for any other text.
    """
    shapes = {}
    for text in texts:
        match = re.fullmatch(r"(.+?)[=:](\d+(?:[,x]\d+)*)", text.strip())
        if not match:
            raise UsageError(f"expected a shape such as data=100,3,32,32, got {text!r}")
        shapes[match[1]] = tuple(int(dim) for dim in re.split("[,x]", match[2]))
    return shapes
