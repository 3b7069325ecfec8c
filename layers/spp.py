"""SPP: spatial pyramid pooling, a fixed number of outputs for pictures of any size."""

from __future__ import annotations

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import create_layer, register
from minicaffe.proto import caffe_pb2


@register("SPP")
class SPP(Layer):
    """Level l pools a grid of 2^l x 2^l bins over the picture; the top joins all levels.

    bottom: (N, C, H, W); top: (N, C * (1 + 4 + ... + 4^(pyramid_height - 1))), or (N, C, 1, 1) with one level

    spp_param: pyramid_height, pool MAX (or AVE, STOCHASTIC).
    Source: He, Zhang, Ren and Sun, 2014.
    """

    family = "pooling"
    exact_num_bottom = 1
    exact_num_top = 1
    in_place = False
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        param = self.layer_param.spp_param
        self.height, self.pool = param.pyramid_height, param.PoolMethod.Name(param.pool)
        if self.height < 1:
            raise self.error("pyramid_height must be at least 1")
        self._check(bottom[0].shape)
        self.size: tuple[int, ...] = ()  # of the pictures that `levels` are for
        self.split, self.concat = self._inner("Split"), self._inner("Concat")
        self.copies, self.pooled, self.flat = ([Blob((), self.dtype) for _ in range(self.height)] for _ in range(3))

    def top_shapes(self, bottom_shapes):
        (shape,) = bottom_shapes
        self._check(shape)
        if self.height == 1:
            return [(*shape[:2], 1, 1)]
        return [(shape[0], shape[1] * sum(4**level for level in range(self.height)))]

    def _check(self, shape):
        """Raise LayerError unless the shape is one of pictures with a pixel for each bin of the highest level."""
        if len(shape) != 4:
            raise self.error(f"bottom 0 must be (N, C, H, W), got {shape}")
        if self.height > min(shape[2:]).bit_length():  # 2^(height - 1) bins are more than the pixels
            raise self.error(f"pictures of {shape[2:]} are too small for pyramid_height {self.height}")

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if bottom[0].shape[2:] != self.size:
            self.size = bottom[0].shape[2:]
            self.levels = [self._level(level) for level in range(self.height)]
        if self.height == 1:
            self.levels[0].initialize(bottom, top)
            return
        self.split.initialize(bottom, self.copies)
        for layer, copy, pooled, flat in zip(self.levels, self.copies, self.pooled, self.flat):
            layer.initialize([copy], [pooled])
            flat.reshape(pooled.shape[0], pooled.count_range(1))
            flat.share_data(pooled)
            flat.share_diff(pooled)
        self.concat.initialize(self.flat, top)

    def _level(self, level: int) -> Layer:
        """Make the Pooling layer of a level: its bins cover the picture, padded to a multiple of their number."""
        bins = 2**level
        kernel = [-(-n // bins) for n in self.size]
        pad = [(k * bins - n + 1) // 2 for k, n in zip(kernel, self.size)]
        if any(p >= k for p, k in zip(pad, kernel)):
            raise self.error(f"pictures of {self.size} are too small for pyramid_height {self.height}")
        window = {
            f"{field}_{side}": value
            for field, values in (("kernel", kernel), ("stride", kernel), ("pad", pad))
            for side, value in zip("hw", values)
        }
        pool = caffe_pb2.PoolingParameter.PoolMethod.Value(self.pool)
        return self._inner("Pooling", pooling_param=caffe_pb2.PoolingParameter(pool=pool, **window))

    def _inner(self, kind: str, **param) -> Layer:
        layer_param = caffe_pb2.LayerParameter(name=f"{self.name}/{kind.lower()}", type=kind, **param)
        return create_layer(layer_param, self.phase, self.dtype)

    def forward_cpu(self, bottom, top):
        if self.height == 1:
            self.levels[0].forward(bottom, top)
            return
        self.split.forward(bottom, self.copies)
        for layer, copy, pooled in zip(self.levels, self.copies, self.pooled):
            layer.forward([copy], [pooled])
        self.concat.forward(self.flat, top)

    def backward_cpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        if self.height == 1:
            self.levels[0].backward(top, [True], bottom)
            return
        for copy in self.copies:
            copy.share_data(bottom[0])  # the kept copy, if another layer has overwritten the bottom
        self.concat.backward(top, [True] * self.height, self.flat)
        for layer, copy, pooled in zip(self.levels, self.copies, self.pooled):
            layer.backward([pooled], [True], [copy])
        self.split.backward(self.copies, [True], bottom)

    # the inner layers choose the device
    forward_gpu, backward_gpu = forward_cpu, backward_cpu
