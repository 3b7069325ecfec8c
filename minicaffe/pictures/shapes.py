"""Shape inference: what the layers of a NetParameter hold and multiply, without allocating data or parameters.

Only `setup` and `reshape` of the layers run, so a drawing or a summary of ResNet-152 allocates none of its 60 million
weights.  If a shape is unknown (a missing database, an unknown layer type), it is omitted, with all that depend on it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minicaffe.core.blob import Blob, check_shape
from minicaffe.core.layer import Layer
from minicaffe.core.registry import layer_class
from minicaffe.errors import MinicaffeError, UsageError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Param:
    """A parameter blob: the name by which layers share it ('' for none), its shape, its lr_mult."""

    name: str
    shape: Shape
    lr_mult: float = 1.0

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class LayerPlan:
    """What a layer holds and multiplies.  None where it cannot be found without building the net.

    tops: the shape of each top.  params: its parameters.  macs: multiply-accumulates of a forward pass, `Layer.macs`.
    """

    tops: Sequence[Shape | None]
    params: Sequence[Param] | None = None
    macs: int | None = None


def plan_net(net_param, given: Mapping[str, Shape] | None = None) -> list[LayerPlan]:
    """Return the plan of each layer, in order.  Arguments and errors are those of `infer_shapes`."""
    given = dict(given or {})
    for given_shape in given.values():
        check_shape(given_shape)
    known: dict[str, Shape] = {}
    plans = []
    for layer_param in net_param.layer:
        plan = _plan(layer_param, [known.get(name) for name in layer_param.bottom])
        tops = [given.get(name, shape) for name, shape in zip(layer_param.top, plan.tops)]
        for name, shape in zip(layer_param.top, tops):
            if shape is None:
                known.pop(name, None)
            else:
                known[name] = shape
        plans.append(LayerPlan(tops, plan.params, plan.macs))
    return plans


def infer_shapes(net_param, given: Mapping[str, Shape] | None = None) -> dict[tuple[int, int], Shape]:
    """Return the known shapes of tops as {(index of the layer, index of its top): shape}.

    net_param: an upgraded NetParameter, with the layers of one phase, as `filter_net` returns it.
    given: shapes by blob name, which replace inferred ones, for blobs such as the tops of a Data layer.
    BlobError for a given shape that no blob can have.
    """
    return {
        (i, j): shape
        for i, plan in enumerate(plan_net(net_param, given))
        for j, shape in enumerate(plan.tops)
        if shape is not None
    }


def _plan(layer_param, bottom_shapes: Sequence[Shape | None]) -> LayerPlan:
    unknown = LayerPlan([None] * len(layer_param.top))
    try:
        cls = layer_class(layer_param.type)
        shapes = cls.source_shapes(layer_param)
        if shapes is not None:
            return _source_plan(layer_param, shapes)
        known = [shape for shape in bottom_shapes if shape is not None]
        return _layer_plan(cls, layer_param, known) if len(known) == len(bottom_shapes) else unknown
    except (MinicaffeError, NotImplementedError):  # a wrong net, which building reports; a type that states no shapes
        return unknown


def _source_plan(layer_param, shapes: Sequence[Shape | None]) -> LayerPlan:
    """The plan of a layer that is not set up here.  One without bottoms has no parameters and multiplies nothing."""
    for shape in shapes:
        check_shape(shape or ())
    return LayerPlan(shapes) if layer_param.bottom else LayerPlan(shapes, (), 0)


def _layer_plan(cls: type[Layer], layer_param, bottom_shapes: Sequence[Shape]) -> LayerPlan:
    own = type(layer_param)()  # layers may complete their parameters
    own.CopyFrom(layer_param)
    layer = cls(own)
    bottom = [Blob(shape) for shape in bottom_shapes]  # allocated lazily, so not at all here
    top = [Blob() for _ in range(len(own.top) + layer.missing_tops(len(own.top)))]
    layer.set_shapes(bottom, top)
    top_shapes = [blob.shape for blob in top]
    params = []
    for j, blob in enumerate(layer.blobs):
        spec = own.param[j] if j < len(own.param) else None
        params.append(Param(spec.name, blob.shape, spec.lr_mult) if spec is not None else Param("", blob.shape))
    return LayerPlan(top_shapes[: len(own.top)], params, layer.macs(bottom_shapes, top_shapes))


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
