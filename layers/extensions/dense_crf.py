"""DenseCRF: refines scores by the mean field of a fully connected conditional random field."""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.cuda.strided import StridedView
from minicaffe.layers.shared.permutohedral import Lattice, pixel_features
from minicaffe.layers.shared.softmax import softmax, softmax_gpu


@register("DenseCRF")
class DenseCRF(Layer):
    """q <- softmax(x + the sum over kernels of w K q), max_iter times from q = softmax(x); y = q, or log q

    The K are normalised Gaussian filters of each class, by lattices, over (column, row) / pos_xy_std, or with an image
    over (column, row) / bi_xy_std and its channels / bi_rgb_std.

    Bottoms: x (N, C, H, W), scores; the size of each sample (N, 1, 1, 2), rows and columns; optionally the image
        (N, D, H, W).  Top: (N, C, H, W); 0 where padding is.  There is no gradient.
    dense_crf_param: max_iter 10; pos_xy_std and pos_w, bi_xy_std, bi_rgb_std and bi_w, one for each kernel;
        output_probability true: q; false: log q.
    Source: Kraehenbuehl and Koltun, Efficient inference in fully connected CRFs with Gaussian edge potentials, 2011.
    """

    fork = "DeepLab and PSPNet"
    min_bottom, max_bottom = 2, 3
    exact_num_top = 1
    no_gradient = (0, 1, 2)
    in_place = False
    backward_reads = ()
    keeps_coordinates = True
    capturable = False  # lattices are built on the host

    @staticmethod
    def describe(layer_param):
        return f"{layer_param.dense_crf_param.max_iter} iterations"

    def setup(self, bottom, top):
        param = self.layer_param.dense_crf_param
        self.steps, self.logarithm = param.max_iter, not param.output_probability
        self.places = self._kernels("pos_w", "pos_xy_std")
        self.colors = self._kernels("bi_w", "bi_xy_std", "bi_rgb_std")
        if len(bottom) == 3 and not self.colors:
            raise self.error("with an image bi_w, bi_xy_std and bi_rgb_std must be given")
        if self.steps < 0:
            raise self.error(f"max_iter must be at least 0, got {self.steps}")
        self.parts = [Blob((), self.dtype) for _ in range(3)]  # on the device: x, x + messages, q; without padding
        self.spatial: dict[tuple[float, int, int], Lattice] = {}  # those of the last pass, by width and size

    def _kernels(self, *names: str) -> list[tuple[float, ...]]:
        """Return weight and widths of each kernel."""
        given = [list(getattr(self.layer_param.dense_crf_param, name)) for name in names]
        if len({len(each) for each in given}) > 1:
            raise self.error(f"{', '.join(names)} must be given equally often, got {given}")
        if any(width <= 0 for widths in given[1:] for width in widths):
            raise self.error(f"{' and '.join(names[1:])} must be above 0, got {given[1:]}")
        return list(zip(*given))

    def top_shapes(self, bottom_shapes):
        x, sizes, *image = bottom_shapes
        if len(x) != 4 or sizes[:1] != x[:1] or np.prod(sizes[1:]) != 2:
            raise self.error(f"bottoms 0 and 1 must be (N, C, H, W) and sizes (N, 1, 1, 2), got {x} and {sizes}")
        for shape in image:
            if len(shape) != 4 or shape[:1] + shape[2:] != x[:1] + x[2:]:
                raise self.error(f"bottom 2 must be an image (N, D, H, W) for bottom 0 {x}, got {shape}")
        return [x]

    def samples(self, bottom):
        """Yield for each sample its rows and columns without padding, and the kernels: weights and lattices."""
        spatial: dict[tuple[float, int, int], Lattice] = {}
        for n, given in enumerate(bottom[1].read_data().reshape(-1, 2)):
            rows, columns = (int(np.clip(np.nan_to_num(m), 0, k)) for m, k in zip(given, bottom[0].shape[2:]))
            size = rows, columns
            kernels = []
            for weight, xy in self.places if all(size) else ():
                if (xy, *size) not in spatial:
                    known = self.spatial.get((xy, *size))
                    spatial[xy, *size] = known or Lattice(pixel_features(size, xy), self.dtype)
                kernels.append((weight, spatial[xy, *size]))
            with self._named():
                for weight, xy, width in self.colors if len(bottom) == 3 and all(size) else ():
                    image = bottom[2].read_data()[n, :, : size[0], : size[1]]
                    kernels.append((weight, Lattice(pixel_features(size, xy, image, width), self.dtype)))
            yield n, size, kernels
        self.spatial = spatial

    def forward_cpu(self, bottom, top):
        y = top[0].data
        y[...] = 0
        for n, (rows, columns), kernels in self.samples(bottom):
            part = bottom[0].read_data()[n, :, :rows, :columns]
            x = part.reshape(len(part), rows * columns)
            q = np.empty_like(x)
            softmax(x[None], q[None])
            for _ in range(self.steps):
                softmax((x + sum(weight * lattice.filter(q) for weight, lattice in kernels))[None], q[None])
            y[n, :, :rows, :columns] = (np.log(np.maximum(q, _TINY)) if self.logarithm else q).reshape(part.shape)

    def forward_gpu(self, bottom, top):
        channels, y = bottom[0].shape[1], top[0].mutable_gpu_data()
        ops.fill(top[0].count, 0, y, self.dtype)
        for n, size, kernels in self.samples(bottom):
            view = StridedView(bottom[0].shape, (1, channels, *size), (n, 0, 0, 0))
            for part in self.parts:
                part.reshape(channels, size[0] * size[1])
            x, messages, q = (part.mutable_gpu_data() for part in self.parts)
            shape, count = (1, channels, size[0] * size[1]), self.parts[0].count
            view.take(bottom[0].gpu_data(), x, self.dtype)
            softmax_gpu(x, q, shape, self.dtype)
            for _ in range(self.steps):
                ops.copy(count, x, messages, self.dtype)
                for weight, lattice in kernels:
                    lattice.filter_gpu(channels, q, messages, weight, add=True)
                softmax_gpu(messages, q, shape, self.dtype)
            if self.logarithm:
                self.kernel("logarithm")(count, q, messages)
            view.put(messages if self.logarithm else q, y, self.dtype)


_TINY = np.finfo(np.float32).tiny
