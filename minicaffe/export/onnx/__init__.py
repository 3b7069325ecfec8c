"""Export of a net in TEST as an ONNX file.

graph.py builds a graph node by node, conversion.py has the registry of layer types and layers/ one function for each,
walk.py converts a net, sizes.py finds which axes are free, model.py puts this together.  Opset 17, IR version 8.
Nothing but protobuf is needed: onnx.proto is the part of the format that is written.
"""
