"""SoftmaxWithLossOHEM: the softmax loss, also of each region, for online hard example mining."""

from minicaffe.core.registry import register
from minicaffe.layers.softmax_loss import SoftmaxWithLoss


@register("SoftmaxWithLossOHEM")
class SoftmaxWithLossOHEM(SoftmaxWithLoss):
    """SoftmaxWithLoss with a third top, the loss of each position.

    Bottoms: scores x (N, C, ...), labels (N, ...) or (N, 1, ...).  Tops: the loss, one number; optionally p =
    softmax(x), of the shape of x; optionally -log p(label), of the shape of the labels, 0 where ignored.  Only the
    first top has a gradient.
    softmax_param and loss_param: as of SoftmaxWithLoss, which Cascade R-CNN's prototxts write, with three tops.
    Source: Shrivastava, Gupta and Girshick, Training region-based object detectors with online hard example mining,
    2016; Dai, Li, He and Sun, R-FCN, 2016.
    """

    fork = "R-FCN; Cascade R-CNN"
    max_top = 3

    @classmethod
    def kernel_file(cls):
        return "softmax_loss"

    def top_shapes(self, bottom_shapes):
        return [*super().top_shapes(bottom_shapes), bottom_shapes[1]]

    def forward_cpu(self, bottom, top):
        super().forward_cpu(bottom, top)
        if len(top) > 2:
            top[2].data = self.losses.reshape(top[2].shape)

    def losses_gpu(self, top):
        return top[2].mutable_gpu_data() if len(top) > 2 else 0
