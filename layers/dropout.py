"""Dropout: switches numbers off at random while training."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.cuda.random import DeviceStream
from minicaffe.proto import caffe_pb2


@register("Dropout")
class Dropout(Layer):
    """In TRAIN y = x * mask / (1 - dropout_ratio), each mask 0 with probability dropout_ratio, else 1; in TEST y = x.

    One bottom, one top of its shape, in place if wanted.  dropout_param: dropout_ratio (0.5), in [0, 1).
    Extensions: scale_train (true; false: no factor in TRAIN, y = x * (1 - dropout_ratio) in TEST), sample_weights_test
    (false; true: numbers are dropped in TEST too, as for Bayesian SegNet).
    (Srivastava et al., JMLR 2014; scaled while training, so that TEST is the identity.)
    """

    exact_num_bottom = exact_num_top = 1
    in_place = True
    backward_reads = ()
    keeps_signs = True

    def setup(self, bottom, top):
        param = self.layer_param.dropout_param
        ratio = param.dropout_ratio
        if not 0 <= ratio < 1:
            raise self.error(f"dropout_ratio must be at least 0 and below 1, got {ratio:g}")
        self.threshold = int(ratio * 0xFFFFFFFF)  # a 32-bit draw above it keeps the number
        self.drops = self.phase == caffe_pb2.TRAIN or param.sample_weights_test
        self.scale = 1 / (1 - ratio) if param.scale_train else 1.0
        self.scale_kept = 1.0 if param.scale_train else 1 - ratio  # where nothing is dropped
        self.passes_through = not self.drops and self.scale_kept == 1
        self.mask = Blob((), self.dtype)  # 0 or scale
        self.device_rng = None

    def top_shapes(self, bottom_shapes):
        return bottom_shapes

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if self.drops:
            self.mask.reshape(bottom[0].shape)

    def forward_cpu(self, bottom, top):
        x, y = bottom[0].read_data(), top[0].data
        if self.drops:
            mask = self.mask.data
            keep = self.rng.uniform_u32(bottom[0].count) > self.threshold
            np.multiply(keep.reshape(mask.shape), mask.dtype.type(self.scale), out=mask)
            np.multiply(x, mask, out=y)
        else:
            np.multiply(x, self.scale_kept, out=y)

    def backward_cpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        dy, dx = top[0].read_diff(), bottom[0].diff
        if self.drops:
            np.multiply(dy, self.mask.read_data(), out=dx)
        else:
            np.multiply(dy, self.scale_kept, out=dx)

    def forward_gpu(self, bottom, top):
        n, x, y = bottom[0].count, bottom[0].gpu_data(), top[0].mutable_gpu_data()
        if not self.drops:
            ops.scale(n, self.scale_kept, x, y, self.dtype)
            return
        if self.device_rng is None:
            self.device_rng = DeviceStream(self.rng)
        self.draw = self.device_rng.draw(n)
        self.kernel("drop")(-(-n // 8), n, self.draw, self.threshold, self.scale, x, y)

    def backward_gpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        n, dy, dx = bottom[0].count, top[0].gpu_diff(), bottom[0].mutable_gpu_diff()
        if self.drops:
            # the same numbers, drawn again
            self.kernel("drop")(-(-n // 8), n, self.draw, self.threshold, self.scale, dy, dx)
        else:
            ops.scale(n, self.scale_kept, dy, dx, self.dtype)
