"""Pictures with label maps, lists of them, and the layers that read them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from helpers.readers import data_layer

MAPS = np.random.default_rng(4).integers(0, 256, (5, 6, 8), dtype=np.uint8)
#: each image shows its map in blue, and its number in red
PIXELS = np.stack([np.broadcast_to(np.arange(5)[:, None, None], MAPS.shape), 0 * MAPS, MAPS], -1).astype(np.uint8)
FIELDS = {"DenseImageData": "dense_image_data_param", "ImageSegData": "image_data_param",
          "ImageLabelmapData": "image_data_param"}  # fmt: skip
PIXEL = "label_type: PIXEL "


def save(pixels: Iterable[np.ndarray] = PIXELS, maps: Iterable[np.ndarray] = MAPS) -> None:
    """Write pictures and their maps to the working directory, and list.txt with a line for each."""
    lines = []
    for index, (picture, labels) in enumerate(zip(pixels, maps)):
        Image.fromarray(picture).save(f"{index}.png")
        Image.fromarray(labels).save(f"map{index}.png")
        lines.append(f"{index}.png\tmap{index}.png\n")
    write("".join(lines))


def write(text: str) -> None:
    """Write list.txt."""
    Path("list.txt").write_text(text)


def layer(kind: str, text: str = "", transform: str = "", batch: int = 1, phase: int = 0, tops: int | None = None):
    """A layer of a type that reads list.txt, with a fixed random stream, and its tops."""
    made, blobs = data_layer(
        f"""name: "d" type: "{kind}" transform_param {{ {transform} }}
        {FIELDS[kind]} {{ source: "list.txt" batch_size: {batch} {text} }}""",
        tops or (3 if kind == "ImageSegData" else 2), phase,
    )  # fmt: skip
    state = made.state()
    made.load_state(state | {"rng": state["rng"] | {"key": [3, 4], "counter": [0] * 4}})
    return made, blobs
