"""Weights whose rows have length 1: each forward pass scales the stored rows, so a snapshot holds rows of length 1.

Gradients are those with respect to the scaled rows.  Source: Wang et al., NormFace, 2017.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.cuda.kernels import kernel

EPS = 1e-6  #: added to the squared length of a row, in NormFace's layers


def unit_rows(weights: np.ndarray, eps: float = EPS) -> np.ndarray:
    """Return weights (N, ...) with each row w divided by sqrt(|w|^2 + eps)."""
    rows = weights.reshape(weights.shape[0], -1)
    lengths = np.sqrt(np.einsum("nk,nk->n", rows, rows) + rows.dtype.type(eps))
    return (rows / lengths[:, None]).reshape(weights.shape)


def normalize_rows(weights: Blob, eps: float = EPS) -> None:
    """Set weights to their `unit_rows`."""
    weights.data[...] = unit_rows(weights.read_data(), eps)


def normalize_rows_gpu(weights: Blob, dtype: np.dtype, eps: float = EPS) -> None:
    """`normalize_rows` on the device."""
    n = weights.shape[0]
    if n:
        kernel("unit_rows", "normalize", dtype).launch((n, 1), 128, weights.count // n, eps, weights.mutable_gpu_data())
