"""The mean field of MultiStageMeanfield: iterations over the pixels of a sample, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.cuda import ops
from minicaffe.cuda.kernels import kernel
from minicaffe.layers.shared.permutohedral import Lattice
from minicaffe.layers.shared.softmax import row_geometry, softmax, softmax_gpu

Lattices = tuple[Lattice, Lattice]


class MeanField:
    """x <- u - M (S K_s softmax(x) + B K_b softmax(x)), several times.

    S, B and M are matrices (C, C), in this order; K_s and K_b are filters (Lattice), a pair for each sample.
    Scores are arrays (C, pixels), on the device pointers to them.
    """

    def __init__(self, steps: int, dtype: np.dtype) -> None:
        self._steps, self._dtype = steps, dtype
        self._kept = Blob((), dtype)  # (steps, N, 3, C, pixels): softmax(x), K_s softmax(x), K_b softmax(x)
        self._parts = Blob((), dtype)  # (4, C, pixels), on the device, within one step

    def reshape(self, samples: int, classes: int, pixels: int) -> None:
        """State the shape of the scores."""
        self._kept.reshape(self._steps, samples, 3, classes, pixels)
        self._parts.reshape(4, classes, pixels)

    def forward(self, n: int, lattices: Lattices, matrices: Sequence[np.ndarray], u: np.ndarray, x: np.ndarray):
        """Return the last x of sample n."""
        spatial, bilateral, compatibility = matrices
        for q, by_place, by_color in self._kept.data[:, n]:
            softmax(x[None], q[None])
            by_place[...], by_color[...] = (lattice.filter(q) for lattice in lattices)
            x = u - compatibility @ (spatial @ by_place + bilateral @ by_color)
        return x

    def backward(self, n: int, lattices: Lattices, matrices: Sequence[np.ndarray], dx: np.ndarray, gradients):
        """Return the gradients of u and of the first x of sample n; add to those of the matrices, arrays (C, C)."""
        spatial, bilateral, compatibility = matrices
        du = np.zeros_like(dx)
        for q, by_place, by_color in self._kept.read_data()[::-1, n]:
            du += dx
            gradients[2] -= dx @ (spatial @ by_place + bilateral @ by_color).T
            message = -compatibility.T @ dx
            gradients[0] += message @ by_place.T
            gradients[1] += message @ by_color.T
            dq = lattices[0].adjoint(spatial.T @ message) + lattices[1].adjoint(bilateral.T @ message)
            dx = q * (dq - (q * dq).sum(0))
        return du, dx

    # -- on the device ---------------------------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Bytes of the scores of a sample."""
        return self._parts.count_range(1) * self._dtype.itemsize

    def forward_gpu(self, n: int, lattices: Lattices, matrices: Sequence[int], u: int, x: int, y: int) -> None:
        """Write the last x of sample n to y."""
        _, classes, pixels = self._parts.shape
        message = self._parts.mutable_gpu_data()
        for q in self._softmaxes(n):
            softmax_gpu(x, q, (1, classes, pixels), self._dtype)
            for k, lattice in enumerate(lattices):
                filtered = q + (k + 1) * self.nbytes
                lattice.filter_gpu(classes, q, filtered)
                self._times(False, 1, matrices[k], filtered, k, message)
            ops.copy(classes * pixels, u, y, self._dtype)
            self._times(False, -1, matrices[2], message, 1, y)
            x = y

    def backward_gpu(self, n: int, lattices: Lattices, matrices: Sequence[int], dy: int, gradients) -> tuple[int, int]:
        """As `backward`; a pointer is 0 where no gradient is asked for.

        What is returned is overwritten by the next call.
        """
        _, classes, pixels = self._parts.shape
        dx, du, message, product = (self._parts.mutable_gpu_data() + k * self.nbytes for k in range(4))
        ops.copy(classes * pixels, dy, dx, self._dtype)
        ops.fill(classes * pixels, 0, du, self._dtype)
        for q in reversed([*self._softmaxes(n)]):
            filtered = q + self.nbytes, q + 2 * self.nbytes
            ops.axpy(classes * pixels, 1, dx, du, self._dtype)
            for k in (0, 1):
                self._times(False, 1, matrices[k], filtered[k], k, product)
            self._add_outer(-1, dx, product, gradients[2])
            self._times(True, -1, matrices[2], dx, 0, message)
            for k, lattice in enumerate(lattices):
                self._add_outer(1, message, filtered[k], gradients[k])
                self._times(True, 1, matrices[k], message, 0, product)
                lattice.adjoint_gpu(classes, product, dx, add=k > 0)
            grid, threads = row_geometry((1, classes, pixels))
            kernel("softmax", "backward", self._dtype).launch(grid, threads, pixels, classes, pixels, q, dx, dx)
        return du, dx

    def _softmaxes(self, n: int) -> Iterator[int]:
        """Yield for each step the pointer to softmax(x) of sample n; what the filters make of it is behind it."""
        kept, samples = self._kept.mutable_gpu_data(), self._kept.shape[1]
        return (kept + 3 * (step * samples + n) * self.nbytes for step in range(self._steps))

    def _times(self, transposed: bool, factor: float, matrix: int, x: int, kept: float, y: int) -> None:
        """Compute y = factor * op(matrix) x + kept * y for scores x and y."""
        _, classes, pixels = self._parts.shape
        ops.gemm(transposed, False, classes, pixels, classes, factor, matrix, x, kept, y, self._dtype)

    def _add_outer(self, factor: float, a: int, b: int, gradient: int) -> None:
        """Add factor * a b', of scores a and b, to the gradient of a matrix, unless that pointer is 0."""
        _, classes, pixels = self._parts.shape
        if gradient:
            ops.gemm(False, True, classes, classes, pixels, factor, a, b, 1, gradient, self._dtype)
