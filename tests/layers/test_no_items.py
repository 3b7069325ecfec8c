"""A batch without items in activations, losses and layers that rearrange: empty tops, sums of 0."""

import numpy as np
import pytest

from helpers.engines import of_layer
from minicaffe.testing import run_layer

PLAIN = "AbsVal BNLL ELU Exp Log Power ReLU ReLU6 Sigmoid Swish TanH PReLU Scale Bias Dropout Softmax Flatten".split()
SAME_SHAPE = [(f"type: '{name}'", [(0, 3)], (0, 3)) for name in PLAIN]
OTHERS = [
    ("type: 'Clip' clip_param { min: 0 max: 1 }", [(0, 3)], (0, 3)),
    ("type: 'Eltwise'", [(0, 3)] * 2, (0, 3)),
    ("type: 'Eltwise' eltwise_param { operation: MAX }", [(0, 3)] * 3, (0, 3)),
    ("type: 'Concat'", [(0, 3), (0, 2)], (0, 5)),
    ("type: 'Concat' concat_param { axis: 0 }", [(0, 3), (2, 3)], (2, 3)),
    ("type: 'Slice'", [(0, 3)], (0, 3)),
    ("type: 'Split'", [(0, 3)], (0, 3)),
    ("type: 'Reshape' reshape_param { shape { dim: 0 dim: 3 dim: 1 } }", [(0, 3)], (0, 3, 1)),
    ("type: 'Tile' tile_param { tiles: 2 }", [(0, 3)], (0, 6)),
    ("type: 'Reduction'", [(0, 3)], ()),
    ("type: 'Reduction' reduction_param { axis: 1 operation: MEAN }", [(0, 3)], (0,)),
    ("type: 'Crop' crop_param { axis: 1 }", [(0, 3), (0, 2)], (0, 2)),
    ("type: 'ArgMax'", [(0, 3)], (0, 1, 1)),
    ("type: 'Permute' permute_param { order: 1 }", [(0, 3)], (3, 0)),
    ("type: 'ShuffleChannel' shuffle_channel_param { group: 2 }", [(0, 4)], (0, 4)),
    ("type: 'Axpy'", [(0, 3), (0, 3, 2), (0, 3, 2)], (0, 3, 2)),
    ("type: 'Embed' embed_param { input_dim: 4 num_output: 3 }", [(0,)], (0, 3)),
    ("type: 'BatchReindex'", [(2, 3), (0,)], (0, 3)),
    ("type: 'Filter'", [(0, 3), (0,)], (0, 3)),
]
LABELLED = "SoftmaxWithLoss SoftmaxWithLossOHEM HingeLoss MultinomialLogisticLoss Accuracy".split()
PAIRED = "EuclideanLoss SigmoidCrossEntropyLoss SmoothL1Loss SmoothL1LossOHEM".split()
LOSSES = [
    *((f"type: '{name}'", [(0, 3), (0,)], ()) for name in LABELLED),
    ("type: 'CenterLoss' center_loss_param { num_output: 2 }", [(0, 3), (0,)], ()),
    ("type: 'InfogainLoss'", [(0, 3), (0,), (3, 3)], ()),
    ("type: 'ContrastiveLoss'", [(0, 3), (0, 3), (0,)], ()),
    *((f"type: '{name}'", [(0, 3)] * 2, ()) for name in PAIRED),
]
WITHOUT_GRADIENT = ("ArgMax", "Accuracy", "Embed")


@pytest.mark.parametrize(("text", "shapes", "shape"), [of_layer(*each) for each in SAME_SHAPE + OTHERS + LOSSES])
def test_no_items(text, shapes, shape, engine):
    layer, bottom, top = run_layer(text, *(np.ones(s) for s in shapes), dtype=np.float32)
    assert top[0].shape == shape
    if "axis: 0" not in text:
        assert (top[0].data == 0).all()
    layer.backward(top, [layer.type not in WITHOUT_GRADIENT] + [False] * (len(bottom) - 1), bottom)
    assert (bottom[0].diff == 0).all()
