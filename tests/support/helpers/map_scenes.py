"""Boxes of maps, for tests of BoxOutput and BoxGroupOutput: their codes, what is selected, random parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from helpers.pixel_scenes import iou
from minicaffe.testing import run_layer

STD = [0.1, 0.1, 0.2, 0.2]
#: bbox_reg_param of the layers.
REG = "bbox_reg_param { " + " ".join(f"bbox_mean: 0.01 bbox_std: {s}" for s in STD) + " } "


def decoded(code, size, place, rate: float, whr: float, xyr: float) -> tuple[list[float], list[float]]:
    """Left and upper corner and sides of a box of a size, (width, height), at a place, (column, row)."""
    code = [c * s + 0.01 for c, s in zip(code, STD)]
    sides = [size[k] * math.exp(min(max(code[k + 2], -math.log(whr)), math.log(whr))) for k in range(2)]
    centre = [min(max(code[k], -1 / xyr), 1 / xyr) * size[k] + (place[k] + 0.5) * rate for k in range(2)]
    return [centre[k] - sides[k] / 2 for k in range(2)], sides


def select(boxes: list[list[float]], param: dict[str, Any], one: int) -> list[list[float]]:
    """The rows (image, box, score) of an image: sorted, without those that overlap a better one.

    one: 1 if the last pixel belongs to a box, else 0.
    """
    order = sorted(range(len(boxes)), key=lambda i: (-boxes[i][5], -i))[: param["max_nms_num"] or None]
    kept = []
    for i in order:
        last = [[*boxes[j][1:3], *(v - 1 + one for v in boxes[j][3:5])] for j in (*kept, i)]
        if all(iou(other, last[-1], param["nms_type"]) <= param["iou_thr"] for other in last[:-1]):
            kept.append(i)
    return [boxes[i] for i in kept[: param["max_post_nms_num"] or None]]


def parameters(seed: int) -> tuple[np.random.Generator, dict[str, Any]]:
    """A generator, and random parameters that both types have."""
    rng = np.random.default_rng(seed)
    return rng, dict(
        iou_thr=float(rng.choice([0.3, 0.5, 0.7])), nms_type=["IOU", "IOMU", "IOFU"][seed % 3],
        field_whr=float(rng.choice([1.2, 2])), field_xyr=float(rng.choice([2, 8])), min_size=float(rng.integers(1, 15)),
        max_nms_num=int(rng.choice([0, 20])), max_post_nms_num=int(rng.choice([0, 7])),
    )  # fmt: skip


def words(param: dict[str, Any]) -> str:
    """Parameters as prototxt."""
    return " ".join(f"{name}: {value!r}" for name, value in param.items())


def compare(text: str, bottoms, expected: list[list[float]]) -> None:
    """Compare both tops of a layer with the expected rows (image, box, score)."""
    _, _, top = run_layer(text, *bottoms, num_top=2, dtype=np.float32)
    assert len(expected) > 2
    np.testing.assert_allclose(top[1].data.reshape(-1, 6), expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(top[0].data[:, :, 0, 0], top[1].data[:, :5, 0, 0])
