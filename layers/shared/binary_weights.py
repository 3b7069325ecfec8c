"""Weights of two values, for the layers of hwgq's Caffe: the products see these, the solver the learned ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.cuda.kernels import kernel


class BinaryWeights(Layer):
    """Base of a layer with weights, in front of the class of the layer with ordinary weights.

    param_of_binary: the field with use_alpha and use_binarization.
    """

    fork = "hwgq"
    param_of_binary = ""

    def setup(self, bottom, top):
        super().setup(bottom, top)
        param: Any = getattr(self.layer_param, self.param_of_binary)
        self.use_alpha, self.binarizes = param.use_alpha, param.use_binarization
        self._binary: Blob | None = None

    def binary(self) -> np.ndarray:
        """Return the weights that are used."""
        w = self.blobs[0].read_data()
        rows = w.reshape(len(w), self.blobs[0].count_range(1))
        alpha = np.abs(rows).mean(1, dtype=rows.dtype)[:, None] if self.use_alpha and w.size else w.dtype.type(1)
        return np.where(rows >= 0, alpha, -alpha).reshape(w.shape)

    def forward_cpu(self, bottom, top):
        if self.binarizes:
            self._binary_blob().data = self.binary()
        with self._with_binary():
            super().forward_cpu(bottom, top)

    def backward_cpu(self, top, propagate_down, bottom):
        with self._with_binary():
            super().backward_cpu(top, propagate_down, bottom)

    def forward_gpu(self, bottom, top):
        if self.binarizes:
            w, rows = self.blobs[0], self.blobs[0].shape[0]
            binarize = kernel("binary_weights", "binarize", self.dtype)
            binary = self._binary_blob().mutable_gpu_data()
            binarize.launch((rows, 1), 128, w.count // rows, self.use_alpha, w.gpu_data(), binary)
        with self._with_binary():
            super().forward_gpu(bottom, top)

    def backward_gpu(self, top, propagate_down, bottom):
        with self._with_binary():
            super().backward_gpu(top, propagate_down, bottom)

    def _binary_blob(self) -> Blob:
        """The weights of two values; its diff is that of the learned weights."""
        if self._binary is None:
            self._binary = Blob(self.blobs[0].shape, self.dtype)
        return self._binary

    @contextlib.contextmanager
    def _with_binary(self) -> Iterator[None]:
        """Have the binary weights in place of the learned ones in the `with` block."""
        learned: Any = self.blobs
        used: Any = learned
        if self.binarizes:
            self._binary_blob().share_diff(learned[0])
            used = [self._binary_blob(), *learned[1:]]
        self.blobs = used
        try:
            yield
        finally:
            self.blobs = learned
