"""Who takes part: each contestant runs nets in a process of its own, see `contestants.process`.

One file for each framework; it is imported when a contestant is made.
"""

from __future__ import annotations

import importlib.util

from contestants.onnx_runtime import OnnxRuntime
from contestants.opencv import OpenCV
from contestants.original_caffe import OriginalCaffe
from contestants.ours import CpuMinicaffe, GpuMinicaffe, OtherMinicaffe
from contestants.pytorch import CpuPyTorch, GpuPyTorch

#: name -> (class, variant, module it needs, whether it trains)
CPU = {
    "minicaffe": (CpuMinicaffe, "ONEDNN", "minicaffe", True),
    "minicaffe bf16": (CpuMinicaffe, "ONEDNN bf16", "minicaffe", True),
    "minicaffe CAFFE": (CpuMinicaffe, "CAFFE", "minicaffe", True),
    "PyTorch": (CpuPyTorch, "", "torch", True),
    "PyTorch channels_last": (CpuPyTorch, "channels_last", "torch", True),
    "PyTorch compile": (CpuPyTorch, "compile", "torch", True),
    "PyTorch bf16": (CpuPyTorch, "channels_last bf16", "torch", True),
    "ONNX Runtime": (OnnxRuntime, "", "onnxruntime", False),
    "OpenCV dnn": (OpenCV, "", "cv2", False),
    "Caffe": (OriginalCaffe, "", "caffe", True),
}


def of_checkout(path: str) -> dict[str, tuple]:
    """Entries as in CPU for the minicaffe of another checkout."""
    engines = {"before": "ONEDNN", "before CAFFE": "CAFFE"}
    return {name: (OtherMinicaffe, (path, engine), "minicaffe", True) for name, engine in engines.items()}


#: name -> (class, variant, module it needs)
GPU = {
    "minicaffe float32": (GpuMinicaffe, ("float32", "DEFAULT"), "pycuda"),
    "minicaffe tf32": (GpuMinicaffe, ("tf32", "DEFAULT"), "pycuda"),
    "minicaffe bf16": (GpuMinicaffe, ("bf16", "DEFAULT"), "pycuda"),
    "minicaffe cuDNN float32": (GpuMinicaffe, ("float32", "CUDNN"), "cudnn"),
    "minicaffe cuDNN tf32": (GpuMinicaffe, ("tf32", "CUDNN"), "cudnn"),
    "PyTorch float32": (GpuPyTorch, ("float32", ""), "torch"),
    "PyTorch tf32": (GpuPyTorch, ("tf32", ""), "torch"),
    "PyTorch channels_last float32": (GpuPyTorch, ("float32", "channels_last"), "torch"),
    "PyTorch channels_last tf32": (GpuPyTorch, ("tf32", "channels_last"), "torch"),
    "PyTorch compile float32": (GpuPyTorch, ("float32", "compile"), "torch"),
    "PyTorch compile tf32": (GpuPyTorch, ("tf32", "compile"), "torch"),
    "PyTorch channels_last bf16": (GpuPyTorch, ("bf16", "channels_last"), "torch"),
    "PyTorch compile bf16": (GpuPyTorch, ("bf16", "compile"), "torch"),
}


def installed(entry: tuple) -> bool:
    """Whether a contestant's module is here."""
    return importlib.util.find_spec(entry[2]) is not None
