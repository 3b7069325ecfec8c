"""CTCLoss: the CTC loss of TextBoxes++, which may count the runs of a class as several labels."""

from minicaffe.core.registry import register
from minicaffe.layers.shared.ctc import CTC
from minicaffe.layers.shared.ctc_labels import LabelForm


@register("CTCLoss")
class CTCLoss(CTC):
    """As `CTC`, with labels (L, N).

    bottoms: scores (T, N, K); continuation (T, N), a sequence ends before the first 0 behind step 0; labels (L, N), up
        to the first negative one, blanks left out.  A sequence without labels counts 0.  top: one number.
    ctc_loss_param: blank_index (negative, or not given: the last class), preprocess_collapse_repeated (false),
    ctc_merge_repeated (true), output_delay (only 0).
    Source: TextBoxes++; Graves, Fernandez, Gomez and Schmidhuber, 2006.
    """

    fork = "TextBoxes++"
    exact_num_bottom = 3
    no_gradient = (1, 2)

    def setup(self, bottom, top):
        super().setup(bottom, top)
        param = self.layer_param.ctc_loss_param
        if param.output_delay:
            raise self.error(f"output_delay must be 0, got {param.output_delay}")
        self.merge = param.ctc_merge_repeated
        self.form = LabelForm(labels=2, by_step=True, continuation=1, collapse=param.preprocess_collapse_repeated)

    def blank_of(self, classes):
        param = self.layer_param.ctc_loss_param
        return param.blank_index if param.HasField("blank_index") and param.blank_index >= 0 else classes - 1
