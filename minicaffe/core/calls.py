"""A layer as a call in Python: `layer_function("Convolution")(data, num_output=20)` returns the layer's Top.

A call makes a `Function`, the layer, and returns its `Top`s, the blobs; `to_proto` writes their layers as a
NetParameter.  Nothing is checked against the layer types until a net is built from the result, so layers of any fork
can be written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from google.protobuf.message import Message

from minicaffe.core.registry import facts_of
from minicaffe.errors import NetError, listed, nearest
from minicaffe.proto import caffe_pb2
from minicaffe.proto.further import further_field


class NetSpecError(NetError, AttributeError, KeyError):
    """An unknown name in a NetSpec, an unknown field of a layer, or a cycle.

    Also an AttributeError and a KeyError, which pycaffe's classes raise in these cases.
    """

    __str__ = Exception.__str__


def param_name_dict() -> dict[str, str]:
    """Map each layer type to its parameter field without "_param": `{"Convolution": "convolution", ...}`.

    The type is the message's name without "Parameter", so a few entries (`Transformation`, `Loss`) are not layers.
    """
    names: dict[str, str] = {}
    for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields:
        if field.name.endswith("_param") and field.message_type is not None:
            type_name = field.message_type.name.removesuffix("Parameter")
            names.setdefault(type_name, field.name.removesuffix("_param"))
    return names


def to_proto(*tops: Top) -> caffe_pb2.NetParameter:
    """Return the NetParameter of all layers that `tops` depend on; blobs are named by type and count ("Convolution1").

    NetSpecError for a keyword that is not a field of the layer, and for a cycle; TypeError or ValueError for a value
    that a field cannot hold.
    """
    return net_param({}, tops)


def net_param(names: dict[Any, str], tops: Iterable[Any]) -> caffe_pb2.NetParameter:
    """The NetParameter of all layers that `tops` need.

    names: the names of Tops and Functions; those that are missing are added, by type and count.
    """
    layers: dict[Function, caffe_pb2.LayerParameter] = {}
    autonames: Counter[str] = Counter()
    for top in tops:
        top._to_proto(layers, names, autonames)
    net = caffe_pb2.NetParameter()
    net.layer.extend(layers.values())
    return net


def assign_proto(proto: Message, name: str, val: Any) -> None:
    """Set field `name` of `proto` from a plain Python value, recursively.

    Dicts and messages set message fields; lists, tuples and 1-D arrays set repeated fields, and fields that forks
    repeat; a single value for a repeated field is a list of one.
    AttributeError for a field that the message does not have, TypeError or ValueError for a value that the field
    cannot hold.
    """
    known = proto.DESCRIPTOR.fields_by_name
    if name not in known:
        raise AttributeError(f"{proto.DESCRIPTOR.name} has no field {name!r}{nearest(name, known)}")
    field, message = getattr(proto, name), known[name].message_type
    if hasattr(field, "extend"):
        values = list(val) if isinstance(val, (list, tuple, np.ndarray)) else [val]
        for value in values:
            if isinstance(value, Mapping):
                _assign_all(field.add(), value)
            elif message is not None and not isinstance(value, Message):
                raise TypeError(_expected(message))
            else:
                field.append(_plain(value))
    elif isinstance(val, (list, tuple)) and (more := further_field(proto.DESCRIPTOR.name, name)) and val:
        assign_proto(proto, name, val[0])
        assign_proto(proto, more, val[1:])
    elif isinstance(val, Mapping):
        field.SetInParent()
        _assign_all(field, val)
    elif isinstance(val, Message):
        field.CopyFrom(val)
    elif message is not None:
        raise TypeError(_expected(message))
    else:
        setattr(proto, name, _plain(val))


def _expected(message: Any) -> str:
    """Return the sentence about a value other than a dict for a message, given by its Descriptor."""
    return f"expected a dict with fields of {message.name}: {listed(field.name for field in message.fields)}"


def _assign_all(proto: Message, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        assign_proto(proto, key, value)


def _plain(value: Any) -> Any:
    """Convert numpy scalars to Python's: protobuf accepts no others."""
    return value.item() if isinstance(value, np.generic) else value


class Top:
    """One output blob of a layer: the layer `fn` and the index `n` among its tops."""

    def __init__(self, fn: Function, n: int):
        self.fn = fn
        self.n = n

    def to_proto(self) -> caffe_pb2.NetParameter:
        """Return the NetParameter of all layers that this blob depends on; errors as for `to_proto` of the module."""
        return to_proto(self)

    def _to_proto(self, layers: dict, names: dict, autonames: Counter) -> None:
        self.fn._to_proto(layers, names, autonames)

    def __repr__(self) -> str:
        return f"<top {self.n} of {self.fn!r}>"


class Function:
    """One layer of a NetSpec: its type, its bottoms (`inputs`), its parameters and its outputs (`tops`).

    type_name: the layer type, such as "Convolution".  inputs: one Top per bottom.
    params: the keywords of the call, `ntop` and `in_place` included.
    TypeError when an input is not a Top; a tuple of tops has to be unpacked by the caller.
    """

    def __init__(self, type_name: str, inputs: tuple[Top, ...], params: dict[str, Any]):
        for index, given in enumerate(inputs):
            if not isinstance(given, Top):
                raise TypeError(f"{type_name} input {index} is not a Top (type is {type(given)})")
        self.type_name = type_name
        self.inputs = inputs
        self.params = dict(params)
        self.ntop = self.params.pop("ntop", 1)
        self.in_place = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def __repr__(self) -> str:
        return f"{self.type_name} layer"

    def _get_name(self, names: dict, autonames: Counter) -> str:
        if self not in names:
            names[self] = self._get_top_name(self.tops[0], names, autonames) if self.ntop else self._number(autonames)
        return names[self]

    def _get_top_name(self, top: Top, names: dict, autonames: Counter) -> str:
        if top not in names:
            names[top] = self._number(autonames)
        return names[top]

    def _number(self, autonames: Counter) -> str:
        autonames[self.type_name] += 1
        return f"{self.type_name}{autonames[self.type_name]}"

    def _to_proto(self, layers: dict, names: dict, autonames: Counter) -> None:
        """Append this layer to `layers`, after its producers; `names` caches the names of layers and tops."""
        pending = [self]
        while pending:  # a stack, not recursion: a ResNet-1001 is deeper than Python's limit
            fn = pending[-1]
            missing = [top.fn for top in fn.inputs if top.fn not in layers and fn not in layers]
            if missing:
                if missing[0] in pending:
                    raise NetSpecError(f"{fn!r} reads a blob that is computed from its own output")
                pending.append(missing[0])
            else:
                pending.pop()
                if fn not in layers:
                    layers[fn] = fn._layer_param(layers, names, autonames)

    def _layer_param(self, layers: dict, names: dict, autonames: Counter) -> caffe_pb2.LayerParameter:
        layer = caffe_pb2.LayerParameter(type=self.type_name)
        layer.bottom.extend(layers[top.fn].top[top.n] for top in self.inputs)
        if self.in_place:
            layer.top.extend(layer.bottom)
        else:
            layer.top.extend(self._get_top_name(top, names, autonames) for top in self.tops)
        layer.name = self._get_name(names, autonames)
        for key, value in self.params.items():
            self._assign(layer, key, value)
        return layer

    def _assign(self, layer: caffe_pb2.LayerParameter, key: str, value: Any) -> None:
        own = own_message(self.type_name)
        general = layer.DESCRIPTOR.fields_by_name
        specific = getattr(layer, own).DESCRIPTOR.fields_by_name if own else {}
        inside = key in specific and key not in ("param", "transform_param", *facts_of(self.type_name).more_params)
        target = getattr(layer, own) if own and inside else layer
        if target is layer and key not in general:
            known = {*general, *specific}
            raise NetSpecError(f"{self.type_name} layer '{layer.name}': no field {key!r}{nearest(key, known)}")
        try:
            assign_proto(target, key, value)
        except AttributeError as error:
            raise NetSpecError(f"{self.type_name} layer '{layer.name}': in {key!r}, {error}") from error
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"{self.type_name} layer '{layer.name}': field {key!r} cannot hold {value!r}: {error}"
            ) from error


def own_message(type_name: str) -> str | None:
    """The LayerParameter field that configures layers of this type, or None."""
    if field := facts_of(type_name).param_field:
        return field
    name = _param_names.get(type_name)
    return f"{name}_param" if name else None


def layer_function(type_name: str) -> Callable[..., Any]:
    """Return the function behind `L.<type_name>`: it takes bottoms and parameters and returns the layer's Top.

    With `ntop` above 1 that function returns a tuple of Tops, with `ntop=0` the Function.
    """

    def make(*bottoms: Top, **params: Any) -> Any:
        fn = Function(type_name, bottoms, params)
        if fn.ntop == 0:
            return fn
        return fn.tops[0] if fn.ntop == 1 else fn.tops

    make.__name__ = make.__qualname__ = type_name
    return make


_param_names = param_name_dict()
