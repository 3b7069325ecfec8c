"""Export of a net in TEST as an ONNX file.

graph.py builds a graph node by node, conversion.py has the registry of layer types, model.py goes through a net; the
other modules contain one function for each layer type.  Opset 17, IR version 8.  Nothing but protobuf is needed:
onnx.proto is the part of the format that is written.
"""
