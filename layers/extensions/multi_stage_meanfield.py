"""MultiStageMeanfield: CRF-RNN, a conditional random field whose mean field is computed in the net."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.mean_field import Lattices, MeanField
from minicaffe.layers.shared.permutohedral import Lattice, pixel_features
from minicaffe.layers.shared.views import by_channel
from minicaffe.proto.caffe_pb2 import FillerParameter


@register("MultiStageMeanfield")
class MultiStageMeanfield(Layer):
    """x <- u - M (S K_s softmax(x) + B K_b softmax(x)), num_iterations times from x = bottom 1; y = the last x

    K_s and K_b are normalised Gaussian filters of each class, by lattices: K_s over (column, row) / theta_gamma, K_b
    over (column, row) / theta_alpha and the image's channels / theta_beta.

    Bottoms: u (N, C, H, W), scores; x (N, C, H, W), normally the same; the image (N, D, H, W).  Top: (N, C, H, W),
        scores.  There is no gradient with respect to the image.
    Parameters: S, B, the weights of both kernels, and M, the compatibility; each (1, 1, C, C).
    multi_stage_meanfield_param: num_iterations, theta_alpha 10, theta_beta 10, theta_gamma 10; at first S and B are
        diagonal with spatial_filter_weight 1 and bilateral_filter_weight 1, or spatial_filter_weights_str and
        bilateral_filter_weights_str, a number for each class; M is -1 times the identity.
    Source: Zheng, Jayasumana, Romera-Paredes, Vineet, Su, Du, Huang and Torr, Conditional random fields as recurrent
    neural networks, 2015.
    """

    fork = "CRF-RNN"
    exact_num_bottom = 3
    exact_num_top = 1
    no_gradient = (2,)
    in_place = False
    backward_reads = ()
    keeps_coordinates = True
    capturable = False  # lattices are built on the host

    @staticmethod
    def describe(layer_param):
        return f"{layer_param.multi_stage_meanfield_param.num_iterations} iterations"

    def setup(self, bottom, top):
        param = self.layer_param.multi_stage_meanfield_param
        self.steps = param.num_iterations
        if self.steps < 2:
            raise self.error(f"num_iterations must be at least 2, got {self.steps}")
        self.widths = {name: getattr(param, f"theta_{name}") for name in ("alpha", "beta", "gamma")}
        if not min(self.widths.values()) > 0:
            raise self.error(f"theta_alpha, theta_beta and theta_gamma must be above 0, got {[*self.widths.values()]}")
        self.lattices: list[Lattices] = []  # of each sample
        self.spatial: tuple[tuple[int, ...], Lattice] | None = None  # the size for which it was made, and the lattice
        self.field = MeanField(self.steps, self.dtype)

    def top_shapes(self, bottom_shapes):
        u, x, image = bottom_shapes
        if len(u) != 4 or u != x or len(image) != 4 or image[0] != u[0] or image[2:] != u[2:]:
            raise self.error(f"bottoms must be (N, C, H, W) twice and an image (N, D, H, W), got {u}, {x} and {image}")
        return [u]

    def param_shapes(self, bottom_shapes):
        classes = self.top_shapes(bottom_shapes)[0][1]
        return [((1, 1, classes, classes), FillerParameter())] * 3

    def macs(self, bottom_shapes, top_shapes):
        samples, classes, height, width = top_shapes[0]
        return 3 * self.steps * samples * classes**2 * height * width

    def _make_blobs(self, bottom, filled):
        made = not self.blobs
        super()._make_blobs(bottom, filled)
        if made and filled:
            classes = self.blobs[0].shape[2]
            for blob, name in zip(self.blobs, ("spatial", "bilateral")):
                np.fill_diagonal(blob.data[0, 0], self._first_weights(name, classes))
            np.fill_diagonal(self.blobs[2].data[0, 0], -1)

    def _first_weights(self, name: str, classes: int) -> Sequence[float]:
        param = self.layer_param.multi_stage_meanfield_param
        words = getattr(param, f"{name}_filter_weights_str").split()
        if not words:
            return [getattr(param, f"{name}_filter_weight")] * classes
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            numbers = []
        if len(numbers) != classes:
            raise self.error(f"{name}_filter_weights_str must hold {classes} numbers, one for each class, got {words}")
        return numbers

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        samples, classes, *size = bottom[0].shape
        self.field.reshape(samples, classes, size[0] * size[1])

    def _build(self, image) -> None:
        """Make the lattices of all samples."""
        size, xy = image.shape[2:], self.widths["alpha"]
        if self.spatial is None or self.spatial[0] != size:
            self.spatial = size, Lattice(pixel_features(size, self.widths["gamma"]), self.dtype)
        with self._named():
            self.lattices = [
                (self.spatial[1], Lattice(pixel_features(size, xy, values, self.widths["beta"]), self.dtype))
                for values in image.read_data()
            ]

    def forward_cpu(self, bottom, top):
        self._build(bottom[2])
        matrices = [blob.read_data()[0, 0] for blob in self.blobs]
        u, x = bottom[0].read_data(), bottom[1].read_data()
        for n, lattices in enumerate(self.lattices):
            y = self.field.forward(n, lattices, matrices, by_channel(u)[n], by_channel(x)[n])
            top[0].data[n] = y.reshape(u.shape[1:])

    def backward_cpu(self, top, propagate_down, bottom):
        matrices = [blob.read_data()[0, 0] for blob in self.blobs]
        gradients = [np.zeros_like(matrix) for matrix in matrices]
        for n, lattices in enumerate(self.lattices):
            dx = self.field.backward(n, lattices, matrices, by_channel(top[0].read_diff())[n], gradients)
            for blob, wanted, values in zip(bottom, propagate_down, dx):
                if wanted:
                    blob.diff[n] = values.reshape(blob.shape[1:])
        for blob, wanted, gradient in zip(self.blobs, self.param_propagate_down, gradients):
            if wanted:
                blob.diff[0, 0] += gradient

    def forward_gpu(self, bottom, top):
        self._build(bottom[2])
        matrices = [blob.gpu_data() for blob in self.blobs]
        pointers = bottom[0].gpu_data(), bottom[1].gpu_data(), top[0].mutable_gpu_data()
        for n, lattices in enumerate(self.lattices):
            self.field.forward_gpu(n, lattices, matrices, *(p + n * self.field.nbytes for p in pointers))

    def backward_gpu(self, top, propagate_down, bottom):
        matrices, dy = [blob.gpu_data() for blob in self.blobs], top[0].gpu_diff()
        gradients = [b.mutable_gpu_diff() if w else 0 for b, w in zip(self.blobs, self.param_propagate_down)]
        for n, lattices in enumerate(self.lattices):
            start = n * self.field.nbytes
            dx = self.field.backward_gpu(n, lattices, matrices, dy + start, gradients)
            for blob, wanted, values in zip(bottom, propagate_down, dx):
                if wanted:
                    ops.copy(blob.count_range(1), values, blob.mutable_gpu_diff() + start, self.dtype)
