"""AdaCosAddmScale: ArcFace's margin, and a scale of the cosines that adapts to them (AdaCos)."""

import math

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.cuda.kernels import kernel
from minicaffe.layers.extensions.cosin_add_m import CosinAddm
from minicaffe.saved import field


@register("AdaCosAddmScale")
class AdaCosAddmScale(CosinAddm):
    """y = s times what CosinAddm gives.

    Bottoms: cosines x (N, ...), labels, N numbers (below 0: without a margin).  Top: y, of the shape of x.
    adacos_add_m_scale_param: m (0.5), num_classes (8750).  transform_test has no effect.
    s is sqrt(2) log(num_classes - 1) at first; each forward pass, in TRAIN and TEST, sets
    s = log(sum of exp(s x) / N) / cos(t), where a label's x counts as 0, and t is the mean of all arccos x, at most
    pi / 4.  The gradient takes s as constant.  A snapshot has s.
    Source: Zhang et al., AdaCos, 2019, where t is the median of the angles of the labels.
    """

    param_field = "adacos_add_m_scale_param"
    in_place = False
    repeatable = False  # a pass changes the scale

    @classmethod
    def kernel_file(cls):
        return "extensions/cosin_add_m"

    def setup(self, bottom, top):
        param = self.layer_param.adacos_add_m_scale_param
        if param.num_classes < 3:
            raise self.error(f"num_classes must be at least 3, got {param.num_classes}")
        super().setup(bottom, top)
        self.scale = Blob((1,), self.dtype)
        self.scale.data[0] = math.sqrt(2) * math.log(param.num_classes - 1)
        self.sums = Blob((), self.dtype)  # on the device, of each sample: of exp(s x), of arccos x

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.sums.reshape(2, self.samples)

    def state(self):
        return {**super().state(), "scale": float(self.scale.read_data()[0])}

    def load_state(self, state):
        super().load_state(state)
        self.load_common_state(state)

    def load_common_state(self, state):
        self.scale.data[0] = field(state, "scale")

    def forward_cpu(self, bottom, top):
        super().forward_cpu(bottom, top)
        x, scale = bottom[0].read_data().reshape(self.samples, self.classes), self.scale.data
        labels = self.kept.read_data()[0].astype(np.int32)
        if not x.size:
            return
        powers, rows = np.exp(scale[0] * x), np.flatnonzero(labels >= 0)
        powers[rows, labels[rows]] = 1
        angle = min(np.arccos(np.clip(x, -1, 1)).mean(), math.pi / 4)
        scale[0] = math.log(powers.sum() / self.samples) / math.cos(angle)
        top[0].data[...] *= scale[0]

    def backward_cpu(self, top, propagate_down, bottom):
        super().backward_cpu(top, propagate_down, bottom)
        if propagate_down[0]:
            bottom[0].diff[...] *= self.scale.read_data()[0]

    def forward_gpu(self, bottom, top):
        super().forward_gpu(bottom, top)
        x, scale = bottom[0].gpu_data(), self.scale.mutable_gpu_data()
        if bottom[0].count:
            sums, kept = self.sums.mutable_gpu_data(), self.kept.gpu_data()
            self._adacos("sums").launch((self.samples, 1), 256, self.samples, self.classes, x, kept, scale, sums)
            self._adacos("adapt").launch((1, 1), 256, self.samples, self.classes, sums, scale)
        self._scaled_gpu(top[0].count, top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        super().backward_gpu(top, propagate_down, bottom)
        if propagate_down[0]:
            self._scaled_gpu(bottom[0].count, bottom[0].mutable_gpu_diff())

    def _scaled_gpu(self, n, values):
        scale_all = kernel("extensions/channel_scale", "scale_all", self.dtype)
        scale_all(n, self.scale.gpu_data(), values, values)

    def _adacos(self, name):
        return kernel("extensions/adacos_add_m_scale", name, self.dtype)
