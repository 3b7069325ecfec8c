"""The precision in which the layers of an engine multiply: float32, or bfloat16 with float32 sums.

`set_precision` requests it, or NVIDIA's `forward_type: FLOAT16` of a layer and `default_forward_type` of a net; on the
GPU the math mode does (`minicaffe.cuda.set_math`).  It is decided once, when a layer is made: `Layer.precision`.
Parameters, their updates and losses are float32 in any case.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from minicaffe.core.engine import engines
from minicaffe.core.settings import BF16, FLOAT32, settings
from minicaffe.proto.caffe_pb2 import FLOAT, FLOAT16, LayerParameter, NetParameter

if TYPE_CHECKING:
    from minicaffe.core.blob import Blob
    from minicaffe.core.layer import Layer

log = logging.getLogger("minicaffe")


def requested(layer_param: LayerParameter, default_type: int = FLOAT) -> str:
    """Return the precision requested for a layer; `set_precision` takes precedence over the prototxt.

    default_type: the net's default_forward_type, for a layer without a forward_type of its own.
    """
    if settings.precision != "DEFAULT":
        return settings.precision
    own = layer_param.forward_type if layer_param.HasField("forward_type") else default_type
    return BF16 if own == FLOAT16 else FLOAT32


def choose(layer_param: LayerParameter, engine: str, default_type: int = FLOAT) -> str:
    """Return the precision of a layer: the requested one where the layer's engine, by name, has it, else float32."""
    wanted = requested(layer_param, default_type)
    return next((e.precision(wanted) for e in engines() if e.name == engine), FLOAT32)


def log_choice(net: NetParameter, layers: Sequence[Layer]) -> None:
    """Log, in one line, how many layers of a net compute in bf16 if it is requested; the reason if none does."""
    count = sum(layer.precision == BF16 for layer in layers)
    if count:
        log.info("Precision bf16 in %d of %d layers", count, len(layers))
    elif any(requested(layer_param, net.default_forward_type) == BF16 for layer_param in net.layer):
        log.info("Precision bf16 is not used, but float32: %s", _reason())


def _reason() -> str:
    if settings.engine.mode != "CPU":
        return "on the GPU --math bf16 (set_math) requests it"
    reasons = (e.reason() or e.lacks(BF16) for e in engines() if e.base is settings.engine and e.default)
    return next(filter(None, reasons), "no layer is computed by an engine that has it")


# -- blobs -------------------------------------------------------------------------------------------------------------


def assign_types(layers: Sequence[Layer], bottoms: Sequence[Sequence[Blob]], tops: Sequence[Sequence[Blob]]) -> None:
    """Set `bf16_bottom` and `bf16_top` of a net's layers: which blobs are in bfloat16, data and diffs.

    It is a blob that a layer writes in bfloat16 and that all layers behind it read or pass on so.  Outputs of the net
    are float32, and what a loss reads.
    """
    accepts = [False] * len(layers)
    reader: dict[Blob, bool] = {}  # by blob, whether the next layer that reads it accepts bfloat16
    wanted = [False] * len(layers)
    for i in reversed(range(len(layers))):
        use = layers[i].bf16_blobs
        wanted[i] = all(reader.get(blob, False) for blob in tops[i])
        accepts[i] = bool(use) and (use != "passes" or wanted[i])
        reader.update((blob, accepts[i]) for blob in bottoms[i])
    written: dict[Blob, bool] = {}  # by blob, whether the last layer that wrote it did so in bfloat16
    for i, layer in enumerate(layers):
        layer.bf16_bottom = accepts[i] and all(written.get(blob, False) for blob in bottoms[i])
        passes = layer.bf16_blobs == "passes" and layer.bf16_bottom
        layer.bf16_top = wanted[i] and (passes or layer.bf16_blobs == "writes")
        written.update((blob, layer.bf16_top) for blob in tops[i])
