"""A net for faces: features whose angles differ between identities (SphereFace)."""

from __future__ import annotations

from minicaffe.models.zoo.blocks import WEIGHTS_AND_BIAS, XAVIER
from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L
from minicaffe.net_spec import params as P
from minicaffe.proto import TEST, TRAIN

_SMALL = dict(weight_filler=dict(type="gaussian", std=0.01))  # of residuals: a block begins near the identity
_SIZE, _FEATURES = 32, 64


def sphereface_faces(part: str = "train_test", width: int = 16, identities: int = 400, threshold: float = 0.35):
    """The net of models/sphereface_faces: convolutions with PReLU and residuals, and the scores of SphereFace.

    part: "train_test" (default) or "deploy", for one picture, which ends in `feature`, of length 1.
    width: channels of the first level.  identities: those for training.
    threshold: in the test, pairs whose features have a larger cosine count as of one identity.
    Training reads the pictures of `minicaffe data faces`, the test its pairs.
    """
    n = NetSpec()
    in_train, in_test = (dict(include=dict(phase=phase)) for phase in (TRAIN, TEST))
    if part == "deploy":
        in_test = {}
        n.data = L.Input(shape=dict(dim=[1, 3, _SIZE, _SIZE]))
    else:
        n.pairs, n.same = _pictures("pairs", 100, **in_test)
        n.data = L.Reshape(n.pairs, shape=dict(dim=[-1, 3, _SIZE, _SIZE]), **in_test)
    x = n.data
    for level in (1, 2, 3):
        x = _conv_prelu(n, f"conv{level}_1", x, width << level - 1, XAVIER, stride=2)
        y = _conv_prelu(n, f"conv{level}_2", x, width << level - 1, _SMALL)
        y = _conv_prelu(n, f"conv{level}_3", y, width << level - 1, _SMALL)
        x = n[f"res{level}"] = L.Eltwise(x, y, operation=P.Eltwise.SUM)
    n.fc = L.InnerProduct(x, num_output=_FEATURES, param=WEIGHTS_AND_BIAS, **XAVIER)
    n.feature = L.Normalize(n.fc, **in_test)
    if part != "deploy":
        _verify(n, threshold, in_test)
        n.score, n["lambda"] = L.MarginInnerProduct(
            n.fc, n.same, ntop=2, num_output=identities, type=P.MarginInnerProduct.QUADRUPLE, base=1000, gamma=0.2,
            lambda_min=5, **XAVIER, **in_train,
        )  # fmt: skip
        n.loss = L.SoftmaxWithLoss(n.score, n.same, **in_train)
    net = n.to_proto()
    if part != "deploy":
        _read_in_train(net)
    net.name = "sphereface_faces"
    return net


def _read_in_train(net) -> None:
    """Give the layers of TRAIN the blob label, and put the layer that reads it in front."""
    train = NetSpec()
    train.data, train.label = _pictures("train", 64, include=dict(phase=TRAIN))
    for layer in net.layer[-2:]:
        layer.bottom[1] = "label"
    net.layer.insert(0, train.to_proto().layer[0])


def _verify(n: NetSpec, threshold: float, in_test: dict) -> None:
    """Add the cosine of each pair's features, and the share of pairs that the threshold puts right."""
    n.both = L.Reshape(n.feature, shape=dict(dim=[-1, 2, _FEATURES]), **in_test)
    n.first, n.second = L.Slice(n.both, ntop=2, axis=1, **in_test)
    n.products = L.Eltwise(n.first, n.second, operation=P.Eltwise.PROD, **in_test)
    n.sums = L.Reduction(n.products, axis=1, **in_test)
    n.cosine = L.Reshape(n.sums, shape=dict(dim=[-1, 1]), **in_test)
    n.threshold = L.Power(n.cosine, scale=0, shift=threshold, **in_test)
    n.answers = L.Concat(n.threshold, n.cosine, **in_test)
    n.accuracy = L.Accuracy(n.answers, n.same, **in_test)


def _conv_prelu(n: NetSpec, name: str, bottom, num_output: int, filler: dict, **more):
    """Add Convolution `name` of 3x3, then PReLU in place; return the top."""
    n[name] = L.Convolution(
        bottom, num_output=num_output, kernel_size=3, pad=1, param=WEIGHTS_AND_BIAS, **filler, **more
    )
    n[f"relu_{name}"] = L.PReLU(n[name], in_place=True)
    return n[f"relu_{name}"]


def _pictures(part: str, batch: int, **more):
    """Return the tops of a layer that reads a database of `minicaffe data faces`."""
    transform = dict(mean_value=[127.5], scale=1 / 128, **(dict(mirror=True) if part == "train" else {}))
    reading = dict(source=f"data/faces/{part}_lmdb", batch_size=batch, backend=P.Data.LMDB)
    return L.Data(ntop=2, transform_param=transform, data_param=reading, **more)
