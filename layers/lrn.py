"""LRN: local response normalisation, across channels or within each."""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops, planes
from minicaffe.layers.shared.pool_windows import average
from minicaffe.layers.shared.window import Window, overlaps


@register("LRN")
class LRN(Layer):
    """y = x / scale^beta

    ACROSS_CHANNELS: scale = k + alpha / n * sum of x^2 over n channels around each number (0 beyond the ends)
    WITHIN_CHANNEL: scale = 1 + alpha / n^2 * sum of x^2 over n x n places around each number (k is not used)

    bottom, top: (N, C, H, W); in place if wanted

    lrn_param: local_size n 5 (odd), alpha 1, beta 0.75, k 1, norm_region ACROSS_CHANNELS.
    Source: Krizhevsky, Sutskever and Hinton, 2012, section 3.3.
    """

    family = "normalization"
    keeps_coordinates = True
    exact_num_bottom = 1
    exact_num_top = 1
    in_place = True
    backward_reads = ("bottom",)

    @staticmethod
    def describe(layer_param):
        param = layer_param.lrn_param
        region = param.NormRegion.Name(param.norm_region).split("_")[0].lower()
        return f"{region} {param.local_size}"

    def setup(self, bottom, top):
        param = self.layer_param.lrn_param
        self.size, self.alpha, self.beta = param.local_size, param.alpha, param.beta
        if self.size % 2 == 0:
            raise self.error(f"local_size must be odd, got {self.size}")
        self.across = param.norm_region == param.ACROSS_CHANNELS
        self.k = param.k if self.across else 1.0
        self.rate = self.alpha / self.size if self.across else self.alpha
        reach = self.size // 2
        self.window = Window((self.size,) * 2, (1, 1), (reach,) * 2, (1, 1))
        self.scale = Blob((), self.dtype)

    def top_shapes(self, bottom_shapes):
        if len(bottom_shapes[0]) != 4:
            raise self.error(f"bottom 0 must be (N, C, H, W), got {bottom_shapes[0]}")
        return bottom_shapes

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.scale.reshape(bottom[0].shape)

    def forward_cpu(self, bottom, top):
        x = bottom[0].read_data()
        self.find_scale(x)
        np.multiply(x, power(self.scale.read_data(), -self.beta), out=top[0].data)

    def find_scale(self, x: np.ndarray) -> None:
        """Compute `scale`, which backward reads as well."""
        scale = self.scale.data
        self._neighbours(x * x, scale)
        scale *= self.rate
        scale += self.k

    def backward_cpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        x, dy, scale = bottom[0].read_data(), top[0].read_diff(), self.scale.read_data()
        dx = power(scale, -self.beta)
        dx *= dy
        ratios = dx * x
        ratios /= scale
        sums = np.empty_like(dx)
        self._neighbours(ratios, sums)  # windows are symmetric, so the sum is its own transpose
        sums *= x
        sums *= 2 * self.rate * self.beta
        np.subtract(dx, sums, out=bottom[0].diff)

    def forward_gpu(self, bottom, top):
        x, scale, y = bottom[0].gpu_data(), self.scale.mutable_gpu_data(), top[0].mutable_gpu_data()
        samples, channels, height, width = bottom[0].shape
        out = self.scale.mutable_gpu_diff() if bottom[0] is top[0] else y  # in place, x is read after y is written
        if self.across:
            geometry: tuple[float, ...] = (channels, height * width, self.size, self.rate, self.k, self.beta)
            self.kernel("across_forward")(samples * height * width, *geometry, x, scale, out)
        else:
            rate = self.rate / self.size**2
            if self._launch_nine("forward", bottom[0].shape, 1, rate, self.beta, x, scale, y):
                return
            self._launch_within("forward", bottom[0].shape, 0, self.size, rate, self.beta, x, scale, out)
        ops.copy(top[0].count, out, y, self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        x, dy, dx = bottom[0].gpu_data(), top[0].gpu_diff(), bottom[0].mutable_gpu_diff()
        samples, channels, height, width = bottom[0].shape
        scale, kept, factor = self.scale.gpu_data(), self.scale.mutable_gpu_diff(), 2 * self.rate * self.beta
        if self.across:
            geometry = (channels, height * width, self.size, factor, self.beta)
            self.kernel("across_backward")(samples * height * width, *geometry, x, dy, scale, kept, dx)
            return
        if self._launch_nine("backward", bottom[0].shape, 2, factor / self.size**2, self.beta, x, dy, scale, dx):
            return
        if dx == dy:  # in place, dy is read after dx is written
            ops.copy(bottom[0].count, dy, kept, self.dtype)
            dy = kept
        arguments = self.size, factor / self.size**2, self.beta, x, dy, scale, dx
        self._launch_within("backward", bottom[0].shape, width * self.dtype.itemsize, *arguments)

    def _launch_nine(self, name: str, shape: tuple[int, ...], kept: int, *arguments: float) -> bool:
        """Launch a kernel on whole planes, with `kept` arrays of each in shared memory, if there is one that can."""
        count, height, width = shape[0] * shape[1], shape[2], shape[3]
        plane_bytes = kept * height * width * self.dtype.itemsize
        addresses = arguments[2:]
        if self.size != 3 or width % 4 or not 0 < plane_bytes <= planes.SHARED or any(a % 16 for a in addresses):
            return False
        threads = planes.threads(width // 4, height, count, plane_bytes)
        grid, shared = (-(-count // threads[2]), 1), threads[2] * plane_bytes
        if count:
            self.kernel(f"nine_{name}").launch(grid, threads, count, height, width, *arguments, shared=shared)
        return True

    def _launch_within(self, name: str, shape: tuple[int, ...], row_bytes: int, *arguments: float) -> None:
        """Launch a kernel on strips of planes; row_bytes: of shared memory for a row that a strip reaches, 0: none."""
        count, height, width = shape[0] * shape[1], shape[2], shape[3]
        if not (count and height and width):
            return
        threads = planes.threads(width, height, count, height * row_bytes)
        rows, sizes = planes.strip(height, count, threads), []
        if row_bytes:
            most = planes.SHARED // (threads[2] * row_bytes)  # rows that fit
            rows = min(rows, max(most - self.size + 1, 1)) if most < height else rows
            kept = min(height, rows + self.size - 1)
            sizes = [kept if kept <= most else 0]
        shared = threads[2] * sizes[0] * row_bytes if sizes else 0
        grid, kernel = (-(-count // threads[2]), -(-height // rows)), self.kernel(f"within_{name}")
        kernel.launch(grid, threads, count, height, width, rows, *sizes, *arguments, shared=shared)

    def _neighbours(self, values: np.ndarray, out: np.ndarray) -> None:
        """Write to `out` the sums over neighbouring channels, or the means over neighbouring places."""
        if not self.across:
            average(values, self.window, out)
            return
        channels = values.shape[1]
        out[...] = 0
        for _, inside, source in overlaps(channels, channels, self.size, 1, self.size // 2):
            out[:, inside] += values[:, source]


def power(x: np.ndarray, exponent: float) -> np.ndarray:
    """Return x ** exponent for positive x; for multiples of 1/4 by square roots, which are many times faster."""
    if exponent == -0.75:
        root = np.sqrt(x)
        product = np.sqrt(root)
        product *= root
        return np.divide(1, product, out=product)
    return x**exponent
