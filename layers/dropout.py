"""Dropout: sets random numbers to zero while training."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.cuda.random import DeviceStream
from minicaffe.proto import TRAIN
from minicaffe.proto.caffe_pb2 import DropoutParameter


@register("Dropout")
class Dropout(Layer):
    """In TRAIN y = x * mask / (1 - dropout_ratio), each mask 0 with probability dropout_ratio, else 1; in TEST y = x.

    bottom, top: any shape; in place if wanted.
    dropout_param: dropout_ratio (0.5), in [0, 1).  Extensions: scale_train (true; false: no factor in TRAIN; in TEST
    y = x * (1 - dropout_ratio)), sample_weights_test (false; true: drops in TEST too, as for Bayesian SegNet).
    Source: Srivastava et al., JMLR 2014, with the factor in TRAIN, so that TEST is the identity.
    """

    keeps_coordinates = True
    exact_num_bottom = exact_num_top = 1
    in_place = True
    backward_reads = ()
    keeps_signs = True

    @staticmethod
    def describe(layer_param):
        return f"{layer_param.dropout_param.dropout_ratio:g}"

    def setup(self, bottom, top):
        self.read_param(self.layer_param.dropout_param)

    def read_param(self, param: DropoutParameter) -> None:
        """Read all fields of `param`."""
        ratio = param.dropout_ratio
        if not 0 <= ratio < 1:
            raise self.error(f"dropout_ratio must be at least 0 and below 1, got {ratio:g}")
        self.threshold = int(ratio * 0xFFFFFFFF)  # a number is kept where its random 32 bits are above
        self.drops = self.phase == TRAIN or param.sample_weights_test
        self.scale = 1 / (1 - ratio) if param.scale_train else 1.0
        self.scale_kept = 1.0 if param.scale_train else 1 - ratio  # the factor where nothing is dropped
        self.passes_through = not self.drops and self.scale_kept == 1
        self.mask = Blob((), self.dtype)  # 0 or scale
        self.device_rng: DeviceStream | None = None

    @property
    def repeatable(self):  # type: ignore[override]  # nothing sets it
        return not self.drops

    @property
    def replayable(self):
        return self.in_its_place

    def top_shapes(self, bottom_shapes):
        return bottom_shapes

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.in_its_place = self.passes_through and top[0] is bottom[0]  # nothing is left to compute
        if self.drops:
            self.mask.reshape(self.mask_shape(bottom[0].shape))

    def mask_shape(self, shape):
        """Return the shape of the mask for a bottom of a shape, to which it is broadcast."""
        return shape

    def forward_cpu(self, bottom, top):
        if self.in_its_place:
            return
        x, y = bottom[0].read_data(), top[0].data
        if self.drops:
            self.draw_mask()
            np.multiply(x, self.mask.read_data(), out=y)
        else:
            np.multiply(x, self.scale_kept, out=y)

    def draw_mask(self) -> None:
        """Draw the mask of a forward pass, in row-major order."""
        mask = self.mask.data
        keep = self.rng.uniform_u32(mask.size) > self.threshold
        np.multiply(keep.reshape(mask.shape), mask.dtype.type(self.scale), out=mask)

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
        self.draw = self.device_rng.draw(self.mask.count)
        self.drop(ops.tickets(1), n, x, y)

    def backward_gpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        n, dy, dx = bottom[0].count, top[0].gpu_diff(), bottom[0].mutable_gpu_diff()
        if self.drops:
            self.drop(0, n, dy, dx)
        else:
            ops.scale(n, self.scale_kept, dy, dx, self.dtype)

    def drop(self, ticket: DeviceBuffer | int, n: int, source: int, target: int) -> None:
        """Multiply n numbers by the mask; ticket: 0 for the random numbers that were drawn last."""
        self.kernel("drop")(-(-n // 8), n, self.draw, ticket, self.threshold, self.scale, source, target)
