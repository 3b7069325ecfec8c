"""Nets for other programs: batch normalisation folded into weights, ONNX, safetensors."""
