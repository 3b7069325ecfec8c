"""The parameters of a net as a .safetensors file, which PyTorch, JAX and others read.

The format (https://github.com/huggingface/safetensors): the length of the header, 8 bytes; the header in JSON, with
type, shape and range of bytes of each tensor; the numbers.
"""

from __future__ import annotations

import json

from minicaffe.core.net import Net
from minicaffe.export.onnx.graph import little_endian


def to_safetensors(net: Net) -> bytes:
    """Return the content of a .safetensors file: each parameter blob in float32, under "layer.index".

    The names are those of the initializers in an ONNX model.  A parameter that layers share is under the name of its
    owner only.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt", "producer": "minicaffe"}}
    parts, end = [], 0
    for i, (name, layer) in enumerate(zip(net.layer_names, net.layers)):
        for j, blob in enumerate(layer.blobs):
            if not net.shared_params.is_shared(i, j):
                parts.append(little_endian(blob.read_data().astype("float32", copy=False)))
                begin, end = end, end + len(parts[-1])
                header[f"{name}.{j}"] = {"dtype": "F32", "shape": list(blob.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])
