"""Exports nets as ONNX and compares them with onnxruntime:

    python benchmarks/export.py                        models/*/deploy.prototxt and models/zoo
    python benchmarks/export.py resnet50 ssd300        some of them
    python benchmarks/export.py --files deploy.prototxt net.caffemodel ...      real nets, pairs of files
    python benchmarks/export.py --fold                 after BatchNorm and Scale are folded into weights

Weights are random, with statistics of BatchNorms as if trained; inputs are standard normal.  Each file is run at the
batch size of its net and, where the batch size is free, at one larger by 2.  Differences are the largest of all
outputs, relative to the largest value of an output, or to 1 if that is larger; a Softmax at the end is left out.
"""

from __future__ import annotations

import argparse
import os
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [_ROOT, os.path.join(_ROOT, "tests", "support")]

import numpy as np  # noqa: E402

from helpers.trained import randomize  # noqa: E402
from minicaffe import TEST, Net, models  # noqa: E402
from minicaffe.export.fold import fold as fold_net  # noqa: E402
from minicaffe.export.onnx.checking import Check  # noqa: E402
from minicaffe.export.onnx.model import to_model  # noqa: E402
from minicaffe.models import zoo  # noqa: E402
from minicaffe.proto import read_net  # noqa: E402

#: nets of the zoo in TEST, by name
ZOO = {
    "captioner": lambda: zoo.captioner(batch=3, training=False),
    "densenet121": lambda: zoo.densenet121(batch=1, training=False),
    "fcn8s": lambda: zoo.fcn8s(size=200, training=False, fc=512),
    "googlenet": lambda: zoo.googlenet(batch=1, training=False),
    "mobilenet": lambda: zoo.mobilenet(batch=1, training=False),
    "resnet50": lambda: zoo.resnet50(batch=1, training=False),
    "squeezenet": lambda: zoo.squeezenet(batch=1, training=False),
    "ssd300": zoo.ssd300,
    "unet": lambda: zoo.unet(size=188, training=False, width=32),
    "vgg16": lambda: zoo.vgg16(batch=1, training=False),
}


def net_of(param, weights: str = "") -> Net:
    """Build a net in TEST without a Softmax at its end, which would hide differences of the scores.

    weights: path of a file; "": random ones.
    """
    if param.layer[-1].type == "Softmax":
        del param.layer[-1]
    net = Net(param, phase=TEST)
    if weights:
        net.copy_from(weights)
    else:
        randomize(net)
    return net


def measure(name: str, net: Net, folds: bool) -> None:
    """Export a net and print a line of the table."""
    if folds:
        net = fold_net(net).net
    exported = to_model(net)
    size, check, worst, shapes = exported.model.ByteSize() / 1e6, Check(exported), 0.0, []
    rng = np.random.default_rng(1)
    for inputs in check.random_inputs():
        normal = {key: rng.standard_normal(values.shape).astype(np.float32) for key, values in inputs.items()}
        found = check.run({key: normal[key] if values.ndim == 4 else values for key, values in inputs.items()})
        worst = max(worst, *(each.relative for each in found))
        shapes.append(" ".join("x".join(map(str, each.shape)) for each in found))
    counts = f"{len(net.layers):>7}{len(exported.model.graph.node):>7}"
    print(f"{name:<44}{counts}{size:>8.1f}  {worst:<12.1e}{', '.join(shapes)}", flush=True)
    for (key, axis), reason in exported.fixed.items():
        print(f"    axis {axis} of {key} is fixed: {reason}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=[*models.names(), *ZOO], help="default: all")
    parser.add_argument("--files", nargs="+", metavar="FILE", help="prototxt and weights, one after the other")
    parser.add_argument("--fold", action="store_true", help="fold first")
    args = parser.parse_args()
    print(f"{'net':<44}{'layers':>7}{'nodes':>7}{'MB':>8}  {'difference':<12}shapes of outputs")
    if args.files:
        for model, weights in zip(args.files[::2], args.files[1::2], strict=True):
            measure(os.path.basename(weights), net_of(read_net(model), weights), args.fold)
        return
    for name in args.nets:
        made = ZOO[name]() if name in ZOO else read_net(os.path.join(models.folder(name), "deploy.prototxt"))
        measure(name, net_of(made), args.fold)


if __name__ == "__main__":
    main()
