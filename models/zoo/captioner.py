"""A recurrent net that generates captions of images.

Donahue et al., "Long-term recurrent convolutional networks", 2014.
"""

from __future__ import annotations

from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L


def captioner(
    batch: int = 100,
    steps: int = 20,
    words: int = 8801,
    hidden: int = 1000,
    features: int = 1000,
    training: bool = True,
):
    """Words in, next words out, with the image's features at every step: Embed, two LSTMs, InnerProduct.

    Inputs, time first: `cont` (T, N), 0 where a sentence begins; `input_sentence` (T, N), words; `features` (N, F);
    for training `target_sentence` (T, N), -1 where the loss is ignored.  Parameters: the embedding (words x hidden),
    two LSTMs (4 hidden (input + hidden + 1), the second with 4 hidden F more for the features), the output
    (words x (hidden + 1)).
    """
    n = NetSpec()
    n.cont = L.Input(shape=dict(dim=[steps, batch]))
    n.input_sentence = L.Input(shape=dict(dim=[steps, batch]))
    n.features = L.Input(shape=dict(dim=[batch, features]))
    uniform = dict(type="uniform", min=-0.08, max=0.08)
    n.embedded = L.Embed(n.input_sentence, input_dim=words, num_output=hidden, bias_term=False, weight_filler=uniform)
    lstm = dict(num_output=hidden, weight_filler=uniform, bias_filler=dict(type="constant"))
    n.lstm1 = L.LSTM(n.embedded, n.cont, recurrent_param=lstm)
    n.lstm2 = L.LSTM(n.lstm1, n.cont, n.features, recurrent_param=lstm)
    n.predict = L.InnerProduct(n.lstm2, num_output=words, axis=2, weight_filler=uniform)
    if training:
        n.target_sentence = L.Input(shape=dict(dim=[steps, batch]))
        n.loss = L.SoftmaxWithLoss(
            n.predict, n.target_sentence, softmax_param=dict(axis=2), loss_param=dict(ignore_label=-1)
        )
    else:
        n.prob = L.Softmax(n.predict, axis=2)
    net = n.to_proto()
    net.name = "captioner"
    return net
