"""YoloSeg: the loss of masks that are independent for each class."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.elementwise import logistic
from minicaffe.layers.shared.loss import LossLayer


@register("YoloSeg")
class YoloSeg(LossLayer):
    """loss = sum of d d / N with d = s (sigmoid(x) - t); the gradient is d / N, times the loss weight.

    bottoms: x (N, C, H, W); masks t of the same shape, from 0 to 1; optionally (N, C, ...), how many places each mask
        has, as of a Reduction of t.
    top: the loss, one number.

    The factor s is object_scale; with the third bottom, where t is above 0.5, it is object_scale (2 - a / b), a being
    the places of the class in the masks of the batch, and b the others, at least 1.

    yolo_seg_param: object_scale 5.  The other fields have no effect.
    Source: MobileNet-YOLO.
    """

    fork = "YOLO"
    exact_num_bottom = None
    min_bottom, max_bottom = 2, 3
    no_gradient = (1, 2)

    def setup(self, bottom, top):
        self.scale = self.layer_param.yolo_seg_param.object_scale
        self.diff = Blob((), self.dtype)

    def top_shapes(self, bottom_shapes):
        x, masks, *counts = bottom_shapes
        if len(x) != 4 or masks != x:
            raise self.error(f"bottoms 0 and 1 must be (N, C, H, W), got {x} and {masks}")
        if counts and int(np.prod(counts[0])) != x[0] * x[1]:
            raise self.error(f"bottom 2 must hold {x[0] * x[1]} numbers, one for each mask, got {counts[0]}")
        return [()]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.diff.reshape(bottom[0].shape)

    def forward_cpu(self, bottom, top):
        masks, scale = bottom[1].read_data(), self.scale
        if len(bottom) > 2:
            n, channels, height, width = bottom[0].shape
            places = bottom[2].read_data().reshape(n, channels).sum(0)
            factor = self.scale * (2 - places / np.maximum(n * height * width - places, 1))
            scale = np.where(masks > 0.5, factor.astype(self.dtype)[:, None, None], self.dtype.type(self.scale))
        d = np.multiply(logistic(bottom[0].read_data()) - masks, scale, out=self.diff.data)
        top[0].data[...] = np.vdot(d, d) / self.batch_size(bottom)

    def backward_cpu(self, top, propagate_down, bottom):
        self._refuse_others(propagate_down)
        if propagate_down[0]:
            scale = self.loss_weight(top) / self.batch_size(bottom)
            np.multiply(self.diff.read_data(), scale, out=bottom[0].diff)

    def _refuse_others(self, propagate_down):
        for index, what in enumerate(("masks", "numbers of places")[: len(propagate_down) - 1], 1):
            self.refuse_gradient(propagate_down, index, what)

    def forward_gpu(self, bottom, top):
        n, channels, *size = bottom[0].shape
        x, masks, d = bottom[0].gpu_data(), bottom[1].gpu_data(), self.diff.mutable_gpu_data()
        counts = bottom[2].gpu_data() if len(bottom) > 2 else 0
        self.kernel("steps")(self.diff.count, n, channels, size[0] * size[1], self.scale, x, masks, counts, d)
        out = top[0].mutable_gpu_data()
        ops.dot(self.diff.count, d, d, self.dtype, out=out, alpha=1 / self.batch_size(bottom))

    def backward_gpu(self, top, propagate_down, bottom):
        self._refuse_others(propagate_down)
        if propagate_down[0]:
            dx, scale = bottom[0].mutable_gpu_diff(), 1 / self.batch_size(bottom)
            self.scaled_gpu(self.diff.count, top, self.diff.gpu_data(), dx, scale)
