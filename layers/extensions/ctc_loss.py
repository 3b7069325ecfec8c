"""CtcLoss: the CTC loss of sequences of one length."""

from minicaffe.core.registry import register
from minicaffe.layers.shared.ctc import CTC
from minicaffe.layers.shared.ctc_labels import LabelForm


@register("CtcLoss")
class CtcLoss(CTC):
    """As `CTC`, with labels that are padded by the blank.

    bottoms: scores (T, N, K); labels (N, L), 0 to K - 1, those that are the blank left out.  top: one number.
    ctc_loss_param: alphabet_size, which must be K; time_step, the steps that count, at most T; blank_label (0).
    WarpCTCLoss and CTCLoss are other layers, with other fields of the same message.
    Source: warpctc-caffe; Graves, Fernandez, Gomez and Schmidhuber, 2006.
    """

    fork = "warpctc-caffe"

    def setup(self, bottom, top):
        super().setup(bottom, top)
        param = self.layer_param.ctc_loss_param
        if not (param.alphabet_size and param.time_step):
            raise self.error("alphabet_size and time_step must be given")
        self.form = LabelForm(labels=1, most_steps=param.time_step)

    def blank_of(self, classes):
        param = self.layer_param.ctc_loss_param
        if param.alphabet_size != classes:
            raise self.error(f"alphabet_size must be {classes}, the scores of a step, got {param.alphabet_size}")
        return param.blank_label
