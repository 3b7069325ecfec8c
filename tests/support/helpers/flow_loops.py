"""Slow loops that layers for optical flow are compared with."""

from __future__ import annotations

import itertools
import math

import numpy as np


def correlated(a, b, pad, kernel, most, stride, steps_h, steps_w, subtract=False):
    """The top of a picture (C, H, W); pad and most: of rows, of columns."""
    channels, *sizes = a.shape
    radius = kernel // 2
    out = [-(-(n + 2 * p - 2 * (m + radius)) // stride) for n, p, m in zip(sizes, pad, most)]

    def value(x, c, h, w):
        return x[c, h, w] if 0 <= h < sizes[0] and 0 <= w < sizes[1] else 0.0

    y = np.zeros((len(steps_h) * len(steps_w), *out))
    for (d, (far_h, far_w)), i, j in itertools.product(
        enumerate(itertools.product(steps_h, steps_w)), range(out[0]), range(out[1])
    ):
        h, w = i * stride + most[0] + radius - pad[0], j * stride + most[1] + radius - pad[1]
        terms = []
        for c, p, q in itertools.product(range(channels), *[range(-radius, radius + 1)] * 2):
            u, v = value(a, c, h + p, w + q), value(b, c, h + p + far_h, w + q + far_w)
            terms.append(abs(u - v) if subtract else u * v)
        y[d, i, j] = np.mean(terms)
    return y


def sampled(x, at_h, at_w, border):
    """The value of a picture (H, W) at a position, None where there is none."""
    height, width = x.shape
    if border == "inside" and not (0 <= at_h <= height - 1 and 0 <= at_w <= width - 1):
        return None
    if border == "edge" and not (0 <= at_h < height and 0 <= at_w < width):
        return None
    total, h, w = 0.0, math.floor(at_h), math.floor(at_w)
    for i in (h, h + 1):
        for j in (w, w + 1):
            weight = (1 - abs(at_h - i)) * (1 - abs(at_w - j))
            if border == "zeros":
                total += weight * x[i, j] if 0 <= i < height and 0 <= j < width else 0
            else:
                total += weight * x[min(i, height - 1), min(j, width - 1)]
    return total


def masked_loss(d, p=1.0, q=1.0, shift_p=0.0, shift_q=0.0, scale=1.0, plateau=0.0, whole=False):
    """The sum of the losses of the places of d (N, C, H, W)."""
    total = 0.0
    for n, h, w in np.ndindex(d.shape[0], *d.shape[2:]):
        inner = 0.0
        for value in d[n, :, h, w]:
            size = 0 if np.isnan(value) or (not whole and abs(value) < plateau) else abs(value)
            inner += (size + shift_p) ** p
        inner *= scale
        total += ((0 if whole and inner < plateau**2 else inner) + shift_q) ** q
    return total
