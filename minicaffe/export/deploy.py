"""A net in TEST as other programs run it: from its inputs to its outputs, without data sets, losses and scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from minicaffe.core.flow import Flow, Value
from minicaffe.core.layer import Shape
from minicaffe.core.net import Net
from minicaffe.core.passes import without_splits
from minicaffe.core.registry import facts_of
from minicaffe.errors import ExportError
from minicaffe.proto import TEST, caffe_pb2


def deployed(net: Net, keeps: Callable[[caffe_pb2.LayerParameter], bool]) -> Net:
    """Return a net in TEST that computes the outputs of `net` from Input layers, with the same parameters.

    Data layers become Input layers with the shapes of their tops, and tops that no layer reads are left out.  Losses,
    Accuracy and HDF5Output are left out with all that reads their tops, so that the blobs they read become outputs.

    keeps: whether a layer stays, though its type is of one of these families, as Softmax does.
    Returns `net` itself if it has this form.  Raises ExportError for a net in TRAIN, and if no layer is left.
    """
    if net.phase != TEST:
        raise ExportError(f"net '{net.name}' is in TRAIN: build it with phase TEST")
    param = without_splits(net.param)
    deploy = _Deploy(param, keeps).result(lambda name: net.blobs[name].shape)
    if deploy == param:
        return net
    if all(layer.type == "Input" for layer in deploy.layer):
        raise ExportError(f"net '{net.name}': there are no layers between its data and its losses")
    made = Net.of_upgraded(deploy)
    for name, blobs in made.params.items():
        for mine, theirs in zip(blobs, net.params[name]):
            mine.data[...] = theirs.read_data()
    return made


class _Deploy:
    """Which layers of a NetParameter stay, and what their Input layers are."""

    def __init__(self, param: caffe_pb2.NetParameter, keeps: Callable[[caffe_pb2.LayerParameter], bool]) -> None:
        self.param, self.flow = param, Flow(param)
        self.inputs: set[int] = set()
        self.cut: set[int] = set()
        for i, layer in enumerate(param.layer):
            family = "" if keeps(layer) else facts_of(layer.type).family
            if family == "data" and not layer.bottom:
                self.inputs.add(i)
            elif family in ("data", "loss") or any(
                source and source.layer in self.cut for source in self.flow.sources[i]
            ):
                self.cut.add(i)

    def result(self, shape_of: Callable[[str], Shape]) -> caffe_pb2.NetParameter:
        """Return the NetParameter; shape_of: the shape of a blob by name."""
        found = caffe_pb2.NetParameter()
        found.CopyFrom(self.param)
        del found.layer[:]
        for i, layer in enumerate(self.param.layer):
            if i in self.inputs:
                self._add_input(found, i, shape_of)
            elif i not in self.cut:
                found.layer.add().CopyFrom(layer)
        return found

    def _add_input(self, found: caffe_pb2.NetParameter, i: int, shape_of: Callable[[str], Shape]) -> None:
        layer = self.param.layer[i]
        tops = list(self._tops_that_are_read(i))
        if layer.type == "Input" and tops == list(layer.top):
            found.layer.add().CopyFrom(layer)
        elif tops:
            added = found.layer.add(name=layer.name, type="Input", top=tops)
            for name in tops:
                added.input_param.shape.add(dim=shape_of(name))

    def _tops_that_are_read(self, i: int) -> Iterator[str]:
        for j, name in enumerate(self.param.layer[i].top):
            if any(reader.layer not in self.cut for reader in self.flow.readers(Value(i, j))):
                yield name
