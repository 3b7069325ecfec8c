"""Layers that compute nothing in TEST, and those that are one ONNX operator."""

from __future__ import annotations

from minicaffe.export.onnx.conversion import Conversion, exports


@exports("Split", "Dropout")
def unchanged(layer: Conversion) -> list[str]:
    """The bottom, for each top."""
    return [layer.x] * len(layer.top_shapes)


@exports("Silence")
def silence(layer: Conversion) -> list[str]:
    """No top."""
    return []


@exports("ReLU")
def relu(layer: Conversion) -> str:
    """Relu, or LeakyRelu with a negative slope."""
    slope = layer.layer.negative_slope
    return layer.op("LeakyRelu", layer.x, alpha=float(slope)) if slope else layer.op("Relu", layer.x)
