"""Words for `Layer.describe`, from parameter messages: windows, batches."""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.proto.further import all_values


def convolution_words(layer_param) -> str:
    """Of a layer with a ConvolutionParameter: "64 3×3 /2 pad 1 dilation 2 group 4", defaults left out."""
    p = (
        layer_param.convolution3d_param
        if layer_param.HasField("convolution3d_param")
        else layer_param.convolution_param
    )
    return f"{p.num_output} {_window(p)}" + (f" group {p.group}" if p.group != 1 else "")


def pooling_words(layer_param) -> str:
    """Of a Pooling layer: "MAX 3×3 /2 pad 1" or "AVE global"."""
    p = layer_param.pooling3d_param if layer_param.HasField("pooling3d_param") else layer_param.pooling_param
    kind = p.PoolMethod.Name(p.pool)
    return f"{kind} global" if getattr(p, "global_pooling", False) else f"{kind} {_window(p)}"


def batch_words(param) -> str:
    """Of a message with batch_size: "batch 64"; '' when it is 0."""
    return f"batch {param.batch_size}" if param.batch_size else ""


def _window(p) -> str:
    """The window of a message in any of the forms that window.py reads: "3×3 /2 pad 1 dilation 2"."""
    kernel = _values(p, "kernel_size", "kernel", ("kernel_depth", "kernel_l"), 1)
    text = "×".join(map(str, kernel if len(kernel) > 1 else 2 * kernel))  # one size holds for two axes, "3×3"
    for name, sign, first, default in (
        ("stride", "/", ("temporal_stride", "stride_l"), 1),
        ("pad", "pad ", ("temporal_pad", "pad_l"), 0),
        ("dilation", "dilation ", (), 1),
    ):
        values = set(sizes := _values(p, name, name, first, default))
        if values - {default}:
            text += f" {sign}{sizes[0] if len(values) == 1 else '×'.join(map(str, sizes))}"
    return text


def _values(p, name: str, stem: str, first: Sequence[str], default: int) -> list[int]:
    """The values of a field, as many as are given; first: names of fields for an axis in front of two others."""
    parts = [f"{stem}_h", f"{stem}_w"]
    if any(_given(p, part) for part in parts):
        return [getattr(p, part) for part in parts]
    if _given(p, f"{stem}_shape"):
        return list(getattr(p, f"{stem}_shape").dim)
    value = getattr(p, name, ())
    values = list(value) if isinstance(value, Sequence) else all_values(p, name)
    if _given(p, "kernel_depth") or _given(p, "kernel_l"):
        along = next((getattr(p, each) for each in first if _given(p, each)), default)
        return [along, *(2 * (values or [default]))[:2]]
    return values


def _given(p, name: str) -> bool:
    """Whether a field that the message may not have is given."""
    return name in p.DESCRIPTOR.fields_by_name and p.HasField(name)
