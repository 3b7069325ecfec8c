"""Lists of images with boxes and ignored regions, read by DetectionData and EvalData."""

import numpy as np
from PIL import Image

from helpers.readers import data_layer

WIDE, TALL = (64, 96), (96, 64)  # height, width
BOX = (24, 16, 47, 39)  # x1, y1, x2, y2, the last pixels


def draw() -> None:
    """Write three images, each with a bright rectangle, and a list of them, in the present folder."""
    for name, size in (("a", WIDE), ("b", WIDE), ("c", TALL)):
        pixels = np.full((*size, 3), 40, np.uint8)
        pixels[BOX[1] : BOX[3] + 1, BOX[0] : BOX[2] + 1] = 200
        Image.fromarray(pixels).save(f"{name}.png")
    write(entry("a.png"), entry("b.png"), entry("c.png", TALL))


def entry(path, size=WIDE, boxes=((2, 0, 1, *BOX),), regions=()):
    """An image of the list; boxes: (label, ignored, difficult, corners)."""
    lines = [path, 3, *size, len(boxes), *(" ".join(map(str, box)) for box in boxes), len(regions)]
    return "\n".join(map(str, [*lines, *(" ".join(map(str, region)) for region in regions)]))


def write(*entries):
    """Write the list."""
    with open("windows.txt", "w") as file:
        file.write("".join(f"# {i}\n{each}\n" for i, each in enumerate(entries)))


def layer(more="", transform="", batch=1, tops=2, maps=((8, 24, 24),), phase=0, kind="DetectionData"):
    """The layer, with a known state of its random numbers, and its tops; maps: (stride, field_w, field_h)."""
    fields = " ".join(f"stride: {rate} field_w: {width} field_h: {height}" for rate, width, height in maps)
    param = "detection_data_param" if kind == "DetectionData" else "eval_data_param"
    made, blobs = data_layer(
        f"""name: "d" type: "{kind}" transform_param {{ {transform} }}
        {param} {{ source: "windows.txt" batch_size: {batch} {fields} {more} }}""",
        tops, phase,
    )  # fmt: skip
    state = made.state()
    made.load_state(state | {"rng": state["rng"] | {"key": [3, 4], "counter": [0] * 4}})
    return made, blobs
