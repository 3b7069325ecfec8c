"""What a net costs: parameters, multiply-accumulates and memory, of each layer, of each type and in total.

    costs = net_costs(read_net("deploy.prototxt"))
    print(costs.total.params, costs.total.macs, [layer.macs for layer in costs.layers if layer.type == "Convolution"])

Everything follows from the shapes (`plan_net`): no memory is allocated for data or parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from minicaffe.pictures.shapes import LayerPlan, Shape, plan_net
from minicaffe.proto import caffe_pb2

NUMBER_BYTES = 4  #: of a float32


@dataclass(frozen=True)
class LayerCost:
    """What a layer holds and multiplies in a forward pass over one batch; None where it is unknown.

    name, type: as in the prototxt.  shape: of its first top.
    params: numbers in its parameter blobs, those included that do not learn, such as the statistics of BatchNorm.
    own_params: those of them that no earlier layer shares with it (by a `param { name: ... }`).
    learned: those of `own_params` whose lr_mult is not 0.
    macs: multiply-accumulates, see `Layer.macs`.
    tops: numbers in its tops; one that the layer computes in place needs no memory of its own and counts 0.
    """

    name: str
    type: str
    shape: Shape | None
    params: int | None
    own_params: int | None
    learned: int | None
    macs: int | None
    tops: int | None

    @property
    def known(self) -> bool:
        """Whether nothing is unknown."""
        return None not in (self.params, self.macs, self.tops)


@dataclass(frozen=True)
class Total:
    """The sums over some layers, of what is known.

    layers: how many.  params: numbers in parameters; shared ones count once.  learned: those that learn.
    macs, tops: as for `LayerCost`.  unknown: names of the layers of which something is unknown: with any, the sums are
    lower bounds.
    """

    layers: int
    params: int
    learned: int
    macs: int
    tops: int
    unknown: Sequence[str]


@dataclass(frozen=True)
class NetCosts:
    """The costs of a net.

    layers: of each layer, in order.
    batch: N, if the net computes each of N images for itself, otherwise None.  That is so if every top of four or more
        axes of a layer without bottoms, and every top of a layer with MACs, has N as its first axis.
    """

    layers: Sequence[LayerCost]
    batch: int | None

    @property
    def total(self) -> Total:
        """The sums over all layers."""
        return _total(self.layers)

    @property
    def per_type(self) -> dict[str, Total]:
        """The sums over the layers of each type; the types with the most MACs first, then by parameters and tops."""
        groups: dict[str, list[LayerCost]] = {}
        for layer in self.layers:
            groups.setdefault(layer.type, []).append(layer)
        totals = {name: _total(layers) for name, layers in groups.items()}
        return dict(sorted(totals.items(), key=lambda item: (-item[1].macs, -item[1].params, -item[1].tops)))


def net_costs(net: caffe_pb2.NetParameter, shapes: Mapping[str, Shape] | None = None) -> NetCosts:
    """Return the costs of an upgraded NetParameter.

    net: with the layers of one phase, as `filter_net` returns it.
    shapes: shapes by blob name, as for `infer_shapes`.
    """
    plans = plan_net(net, shapes)
    shared: set[str] = set()
    layers = [_layer_cost(layer, plan, shared) for layer, plan in zip(net.layer, plans)]
    return NetCosts(layers, _batch(net, plans))


def _layer_cost(layer: caffe_pb2.LayerParameter, plan: LayerPlan, shared: set[str]) -> LayerCost:
    """The cost of a layer; `shared`: the names of parameters of the layers before, to which its own are added."""
    params = own = learned = None
    if plan.params is not None:
        owned = [param for param in plan.params if param.name not in shared]
        params, own = _numbers(param.shape for param in plan.params), _numbers(param.shape for param in owned)
        learned = _numbers(param.shape for param in owned if param.lr_mult)
        shared.update(param.name for param in owned if param.name)
    new = [shape for j, shape in enumerate(plan.tops) if layer.bottom[j : j + 1] != [layer.top[j]]]  # not in place
    tops = None if None in new else _numbers(shape for shape in new if shape is not None)
    shape = plan.tops[0] if plan.tops else None
    return LayerCost(layer.name, layer.type, shape, params, own, learned, plan.macs, tops)


def _numbers(shapes: Iterable[Shape]) -> int:
    return sum(math.prod(shape) for shape in shapes)


def _total(layers: Sequence[LayerCost]) -> Total:
    """The sums over layers of one net."""
    return Total(
        layers=len(layers),
        params=sum(layer.own_params or 0 for layer in layers),
        learned=sum(layer.learned or 0 for layer in layers),
        macs=sum(layer.macs or 0 for layer in layers),
        tops=sum(layer.tops or 0 for layer in layers),
        unknown=[layer.name for layer in layers if not layer.known],
    )


def _batch(net: caffe_pb2.NetParameter, plans: Sequence[LayerPlan]) -> int | None:
    """The batch size of `NetCosts`."""
    images: set[int] = set()
    others: set[int | None] = set()
    for layer, plan in zip(net.layer, plans):
        shapes = [shape for shape in plan.tops if shape]
        if not layer.bottom:
            images.update(shape[0] for shape in shapes if len(shape) >= 4)
        elif plan.macs:
            others.update(shape[0] for shape in shapes)
    return images.pop() if len(images) == 1 and others <= images and 0 not in images else None
