"""Weights whose rows have length 1: each forward pass scales the stored rows, so a snapshot holds rows of length 1.

Gradients are those with respect to the scaled rows.  Source: Wang et al., NormFace, 2017.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.cuda.kernels import kernel

EPS = 1e-6  #: added to a row's squared length


def normalize_rows(weights: Blob) -> None:
    """Divide each row w of weights (N, ...) by sqrt(|w|^2 + 1e-6), in place."""
    rows = weights.data.reshape(weights.shape[0], -1)
    rows /= np.sqrt(np.einsum("nk,nk->n", rows, rows) + rows.dtype.type(EPS))[:, None]


def normalize_rows_gpu(weights: Blob, dtype: np.dtype) -> None:
    """`normalize_rows` on the device."""
    n = weights.shape[0]
    if n:
        kernel("unit_rows", "normalize", dtype).launch((n, 1), 128, weights.count // n, EPS, weights.mutable_gpu_data())
