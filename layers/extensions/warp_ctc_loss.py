"""WarpCTCLoss: the CTC loss with labels in three forms."""

from minicaffe.core.registry import register
from minicaffe.layers.shared.ctc import CTC
from minicaffe.layers.shared.ctc_labels import LabelForm


@register("WarpCTCLoss")
class WarpCTCLoss(CTC):
    """As `CTC`, with labels in one of three forms, by the number of bottoms.

    bottom 0: scores (T, N, K).  top: one number.  Labels that are the blank are left out, and:
    2 bottoms: labels (N, L), up to the first negative one.
    3 bottoms: continuation (T, N), a sequence ends before the first 0 behind step 0; labels (L, N), up to the first
        negative one, to which 1 is added where the blank is 0.  A sequence without labels counts 0.
    4 bottoms: the numbers of steps (N), the numbers of labels (N), labels (L, N).
    ctc_loss_param: blank_index (0; negative: the last class).
    Source: caffe_ocr; Graves, Fernandez, Gomez and Schmidhuber, 2006.
    """

    fork = "caffe_ocr"
    exact_num_bottom = None
    min_bottom, max_bottom = 2, 4
    no_gradient = (1, 2, 3)

    def setup(self, bottom, top):
        super().setup(bottom, top)
        blank = self.layer_param.ctc_loss_param.blank_index
        self.form = {
            2: LabelForm(labels=1),
            3: LabelForm(labels=2, by_step=True, continuation=1, shift=int(blank == 0)),
            4: LabelForm(labels=3, by_step=True, steps=1, lengths=2),
        }[len(bottom)]

    def blank_of(self, classes):
        blank = self.layer_param.ctc_loss_param.blank_index
        return classes - 1 if blank < 0 else blank
