"""Words for `Layer.describe`, from parameter messages: windows, batches."""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.proto import caffe_pb2


def convolution_words(layer_param) -> str:
    """Of a layer with a ConvolutionParameter: "64 3×3 /2 pad 1 dilation 2 group 4", defaults left out."""
    p = layer_param.convolution_param
    kernel = _kernel(p.kernel_size, p.kernel_h, p.kernel_w)
    text = _strided(kernel, _sizes(p.stride, p.stride_h, p.stride_w), _sizes(p.pad, p.pad_h, p.pad_w))
    dilation = _sizes(p.dilation)
    text += f" dilation {dilation}" if dilation not in ("", "1") else ""
    return f"{p.num_output} {text}" + (f" group {p.group}" if p.group != 1 else "")


def pooling_words(layer_param) -> str:
    """Of a Pooling layer: "MAX 3×3 /2 pad 1" or "AVE global"."""
    p = layer_param.pooling_param
    kind = caffe_pb2.PoolingParameter.PoolMethod.Name(p.pool)
    if p.global_pooling:
        return f"{kind} global"
    kernel, stride, pad = ([size] if size else [] for size in (p.kernel_size, p.stride, p.pad))
    strides, pads = _sizes(stride, p.stride_h, p.stride_w), _sizes(pad, p.pad_h, p.pad_w)
    return f"{kind} {_strided(_kernel(kernel, p.kernel_h, p.kernel_w), strides, pads)}"


def batch_words(param) -> str:
    """Of a message with batch_size: "batch 64"; '' when it is 0."""
    return f"batch {param.batch_size}" if param.batch_size else ""


def _kernel(sizes: Sequence[int], h: int, w: int) -> str:
    """A kernel as "3×5"; one size holds for two axes, "3×3"; '' for none."""
    if h or w:
        return f"{h}×{w}"
    return "×".join(map(str, sizes if len(sizes) > 1 else [*sizes, *sizes]))


def _sizes(sizes: Sequence[int], h: int = 0, w: int = 0) -> str:
    """Strides, pads or dilations as "1×2", or "2" where all are equal; '' for none."""
    if h or w:
        return f"{h}×{w}"
    return str(sizes[0]) if len(set(sizes)) == 1 else "×".join(map(str, sizes))


def _strided(kernel: str, stride: str, pad: str) -> str:
    return kernel + (f" /{stride}" if stride not in ("", "1") else "") + (f" pad {pad}" if pad not in ("", "0") else "")
