"""L1Loss: the absolute differences of two blobs, or the lengths of their vectors of channels."""

from minicaffe.core.registry import register
from minicaffe.layers.shared.masked_loss import MaskedLoss, Powers


@register("L1Loss")
class L1Loss(MaskedLoss):
    """loss = sum of |d| / N, with d = a - b, or d = a.

    bottoms: a and b, (N, C, ...), or a alone; all get a gradient.  top: one number.

    Two forks have a layer of this name; it is FlowNet 2.0's if l1_loss_param is given, even if empty, or with one
    bottom.
    FlowNet 2.0 (Ilg et al., 2017), LiteFlowNet (Hui et al., 2018): where d is nan it counts as 0.  Where d is 0 it has
    the gradient of -d.  l1_loss_param: l2_per_location (false; true: the sum of (s * sum over c of d^2 +
    epsilon)^power, epsilon 0.01, power 0.5), l2_prescale_by_channels (false: s = 1; true: 1 / C),
    normalize_by_num_entries (false: N; true: the divisor is the number of d that are not nan, divided by C), plateau
    (0; |d|, or with l2_per_location its length, below it is 0 without a gradient).
    NVIDIA: no parameters; nan stays nan, and where d is 0 there is no gradient.
    """

    fork = "FlowNet 2.0; NVIDIA"

    def setup(self, bottom, top):
        super().setup(bottom, top)
        param = self.layer_param.l1_loss_param
        self.by_entries = param.normalize_by_num_entries
        if not self.layer_param.HasField("l1_loss_param") and len(bottom) == 2:
            self.powers = Powers(slope_at_0=0.0, masked=False)
        elif param.l2_per_location:
            self.check_exponent(param.power, "power", param.epsilon, "epsilon")
            self.by_channels = param.l2_prescale_by_channels
            self.powers = Powers(2.0, param.power, 0.0, param.epsilon, plateau=param.plateau**2, whole=True)
        else:
            self.powers = Powers(plateau=param.plateau)
