"""A net in TEST as an ONNX model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from minicaffe.core.net import Net
from minicaffe.export.deploy import deployed
from minicaffe.export.onnx import onnx_pb2
from minicaffe.export.onnx.conversion import converter
from minicaffe.export.onnx.preprocessing import GraphPreprocessing
from minicaffe.export.onnx.sizes import free_sizes
from minicaffe.export.onnx.walk import Axis, Walk
from minicaffe.proto import caffe_pb2

OPSET, IR_VERSION = 17, 8


@dataclass(frozen=True)
class Exported:
    """An ONNX model and what it was made from.

    net: the net from inputs to outputs, see `deployed`.
    model: the ModelProto.
    free: the names of the free axes of the net's inputs, also of those that the model does not read.
    fixed: for each axis of an input that was tried but is fixed, the reason.
    """

    net: Net
    model: onnx_pb2.ModelProto
    free: Mapping[Axis, str]
    fixed: Mapping[Axis, str]


def to_model(net: Net, preprocessing: Mapping[str, GraphPreprocessing] | None = None) -> Exported:
    """Return a net in TEST as an ONNX model (opset 17), from its inputs to its outputs, see `deployed`.

    Inputs, outputs and values have the names of the blobs; where layers work in place, the last value has the name,
    unless the blob is an input.  The batch size, axis 0 of inputs, is free where the graph is the same for another one;
    so are the batch size and the number of steps of recurrent nets.

    preprocessing: what is done with inputs, by name, before the net reads them (default: nothing).
    Raises ExportError, with the names of all layers that ONNX cannot express.
    """
    net = deployed(net, _has_form)
    walk = Walk(net, dict(preprocessing or {}))
    sizes = free_sizes(walk)
    walk.declare(sizes.inputs, sizes.outputs)
    model = onnx_pb2.ModelProto(ir_version=IR_VERSION, producer_name="minicaffe", graph=walk.graph.proto)
    model.opset_import.add(domain="", version=OPSET)
    return Exported(net, model, sizes.inputs, sizes.fixed)


def _has_form(layer: caffe_pb2.LayerParameter) -> bool:
    """Whether a layer can be a part of the graph; a DummyData with random values is an input."""
    is_random = any(filler.type != "constant" for filler in layer.dummy_data_param.data_filler)
    return converter(layer.type) is not None and not is_random
