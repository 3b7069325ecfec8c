"""Weights whose rows have length 1: each forward pass scales the stored rows, so a snapshot holds rows of length 1.

Gradients are those with respect to the scaled rows.  Source: Wang et al., NormFace, 2017.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.cuda.kernels import kernel

EPS = 1e-6  #: added to the squared length of a row, in NormFace's layers


def normalize_rows(weights: Blob, eps: float = EPS) -> None:
    """Divide each row w of weights (N, ...) by sqrt(|w|^2 + eps), in place."""
    rows = weights.data.reshape(weights.shape[0], -1)
    rows /= np.sqrt(np.einsum("nk,nk->n", rows, rows) + rows.dtype.type(eps))[:, None]


def normalize_rows_gpu(weights: Blob, dtype: np.dtype, eps: float = EPS) -> None:
    """`normalize_rows` on the device."""
    n = weights.shape[0]
    if n:
        kernel("unit_rows", "normalize", dtype).launch((n, 1), 128, weights.count // n, eps, weights.mutable_gpu_data())
