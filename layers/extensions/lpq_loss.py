"""LpqLoss: a norm of the channels, raised to a power, of the differences of two blobs."""

from minicaffe.core.registry import register
from minicaffe.layers.shared.masked_loss import MaskedLoss, Powers
from minicaffe.layers.shared.passes import CountsPasses
from minicaffe.proto import TRAIN


@register("LpqLoss")
class LpqLoss(CountsPasses, MaskedLoss):
    """loss = sum over places of (s * sum over c of (|d| + p_epsilon)^p + q_epsilon)^q / N, with d = a - b, or d = a.

    Where d is nan it counts as 0, without a gradient; where d is 0 it has the gradient of -d.

    bottoms: a and b, (N, C, ...), or a alone; all get a gradient.  top: one number.

    lpq_loss_param: p and q, one value each, or as many as pq_episode_starts_at_iter: p[i] and q[i] hold from iteration
        pq_episode_starts_at_iter[i] on; p_epsilon (0), q_epsilon (0.01), l2_prescale_by_channels (false: s = 1; true:
        1 / C), normalize_by_num_entries (false: N; true: the divisor is the number of d that are not nan, divided by
        C).  Iterations are forward passes in TRAIN; in TEST the first p and q hold.
    Source: Ilg et al., FlowNet 2.0, 2017.
    """

    def setup(self, bottom, top):
        super().setup(bottom, top)
        param = self.layer_param.lpq_loss_param
        starts = list(param.pq_episode_starts_at_iter) or [0]
        if not len(starts) == len(param.p) == len(param.q):
            raise self.error(
                f"p and q must have one value for each of pq_episode_starts_at_iter, {len(starts)}, got "
                f"{len(param.p)} and {len(param.q)}"
            )
        if starts[0] != 0 or starts != sorted(set(starts)):
            raise self.error(f"pq_episode_starts_at_iter must begin with 0 and ascend, got {starts}")
        for p, q in zip(param.p, param.q):
            self.check_exponent(p, "p", param.p_epsilon, "p_epsilon")
            self.check_exponent(q, "q", param.q_epsilon, "q_epsilon")
        self.episodes = [
            (start, Powers(p, q, param.p_epsilon, param.q_epsilon)) for start, p, q in zip(starts, param.p, param.q)
        ]
        self.by_entries, self.by_channels = param.normalize_by_num_entries, param.l2_prescale_by_channels
        self.powers = self.episodes[0][1]
        self.capturable = len(starts) == 1

    def forward_cpu(self, bottom, top):
        self._begin_pass()
        super().forward_cpu(bottom, top)

    def forward_gpu(self, bottom, top):
        self._begin_pass()
        super().forward_gpu(bottom, top)

    def _begin_pass(self) -> None:
        """Choose the exponents of this pass, and count it."""
        if self.phase == TRAIN and len(self.episodes) > 1:
            self.powers = [powers for start, powers in self.episodes if start <= self.passes][-1]
            self.passes += 1
