"""Write nets in Python: one call per layer, one attribute per blob; `to_proto` returns the NetParameter.

    from minicaffe import NetSpec, layers as L, params as P

    n = NetSpec()
    n.data, n.label = L.Data(source="train_lmdb", backend=P.Data.LMDB, batch_size=64, ntop=2)
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, weight_filler=dict(type="xavier"))
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.score = L.InnerProduct(n.relu1, num_output=10)
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    open("train.prototxt", "w").write(str(n.to_proto()))

`L` (`minicaffe.layers`, or `net_spec.layers`) has a function for every type, see `layer_function`.  Nothing is checked
against the layer types until a net is built from the result, so layers of any fork can be written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from minicaffe.core.calls import (
    Function,
    NetSpecError,
    Top,
    assign_proto,
    layer_function,
    net_param,
    param_name_dict,
    to_proto,
)
from minicaffe.errors import nearest
from minicaffe.proto import caffe_pb2

__all__ = [
    "Function",
    "Layers",
    "NetSpec",
    "NetSpecError",
    "Parameters",
    "Top",
    "assign_proto",
    "layer_function",
    "layers",
    "param_name_dict",
    "params",
    "to_proto",
]

_METHODS_OF_SSD = ("keys", "vals", "update")


class NetSpec:
    """The named blobs of a net; `n.conv1 = L.Convolution(...)` names blob and layer "conv1".

    Items and attributes are equivalent: `n["res/conv1"]` is for names that are not identifiers.  `tops` maps names to
    blobs in order of assignment.  NetSpecError (an AttributeError and a KeyError) for an unknown name.
    `keys()`, `vals()` and `update(name, params)` are those of SSD's fork; a blob of such a name replaces the method.
    """

    tops: dict[str, Any]

    def __init__(self) -> None:
        super().__setattr__("tops", {})

    def __setattr__(self, name: str, value: Top | Function) -> None:
        self.tops[name] = value

    def __getattribute__(self, name: str) -> Any:
        if name in _METHODS_OF_SSD and name in super().__getattribute__("tops"):
            return self[name]
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Top:
        tops = self.__dict__.get("tops", {})
        if name not in tops:
            raise NetSpecError(f"this NetSpec has no blob {name!r}{nearest(name, tops)}")
        return tops[name]

    def __delattr__(self, name: str) -> None:
        self[name]
        del self.tops[name]

    def __setitem__(self, name: str, value: Top | Function) -> None:
        self.__setattr__(name, value)

    def __getitem__(self, name: str) -> Top:
        return self.__getattr__(name)

    def __delitem__(self, name: str) -> None:
        self.__delattr__(name)

    def __contains__(self, name: str) -> bool:
        return name in self.tops

    def __iter__(self) -> Iterator[str]:
        return iter(self.tops)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.tops]

    def keys(self) -> list[str]:
        """The names of the blobs, in order of assignment."""
        return list(self.tops)

    def vals(self) -> list[Top]:
        """The blobs, in order of assignment."""
        return list(self.tops.values())

    def update(self, name: str, params: Mapping[str, Any]) -> None:
        """Add keywords to the call of the layer that makes blob `name`, or replace them; NetSpecError as for a read."""
        top = self[name]
        (top if isinstance(top, Function) else top.fn).params.update(params)

    def to_proto(self) -> caffe_pb2.NetParameter:
        """Return the NetParameter of all assigned blobs and their dependencies, each layer after its producers.

        NetSpecError when something other than the result of a layer call was assigned, for a keyword that is not a
        field of the layer, and for a cycle; TypeError or ValueError for a value that a field cannot hold.
        """
        for name, top in self.tops.items():
            if not isinstance(top, (Top, Function)):
                raise NetSpecError(f"{name!r} was assigned {type(top).__name__}, expected what a layer call returns")
        return net_param({top: name for name, top in self.tops.items()}, self.tops.values())


class Layers:
    """The object behind `L`: every attribute name is taken as a layer type, implemented here or not."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return layer_function(name)


class Parameters:
    """The object behind `P`: `P.Pooling.MAX` is `caffe_pb2.PoolingParameter.MAX`.

    AttributeError for a name without such a message.
    """

    def __getattr__(self, name: str) -> Any:
        message = getattr(caffe_pb2, f"{name}Parameter", None)
        if message is None:
            known = [n.removesuffix("Parameter") for n in vars(caffe_pb2) if n.endswith("Parameter")]
            raise AttributeError(f"params has no {name!r}{nearest(name, known)}")
        return message


layers = Layers()
params = Parameters()
