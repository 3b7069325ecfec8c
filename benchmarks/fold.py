"""Nets before and after `minicaffe fold`: layers, megabytes of weights, and the time of inference.

    python benchmarks/fold.py                      ResNet-50 and MobileNet, by numpy, oneDNN and ONNX Runtime
    python benchmarks/fold.py mobilenet --batch 8 --threads 1
    python benchmarks/fold.py --random 500         fold random nets: the largest differences

Each net is run before and after, by each engine in a process of its own; all take turns, a few passes each.  The table
has medians in milliseconds.  ONNX Runtime folds BatchNorms itself unless its optimizations are off.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time

_FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [_FOLDER, os.path.dirname(_FOLDER), os.path.join(os.path.dirname(_FOLDER), "tests", "support")]

import numpy as np  # noqa: E402
from contestants.common import differences  # noqa: E402
from contestants.folded import NetOfFiles, OnnxOfFiles  # noqa: E402
from contestants.process import Process  # noqa: E402

from helpers.foldable import random_net  # noqa: E402
from helpers.trained import randomize  # noqa: E402
from minicaffe import TEST, Net  # noqa: E402
from minicaffe.cores import cores  # noqa: E402
from minicaffe.export.fold import fold  # noqa: E402
from minicaffe.models import zoo  # noqa: E402

NETS = {"resnet50": zoo.resnet50, "mobilenet": zoo.mobilenet}

#: name -> (class, its variant, module it needs)
ENGINES = {
    "numpy": (NetOfFiles, "CAFFE", "numpy"),
    "oneDNN": (NetOfFiles, "ONEDNN", "numpy"),
    "ONNX Runtime": (OnnxOfFiles, "ORT_ENABLE_ALL", "onnxruntime"),
    "ONNX Runtime, as given": (OnnxOfFiles, "ORT_DISABLE_ALL", "onnxruntime"),
}
_AGREE = 1e-4  #: of scores: ResNet-50's float32 rounding is in it


def race(name: str, args: argparse.Namespace, folder: str) -> None:
    """Fold a net of the zoo, then time both nets by all engines in turns."""
    net = Net(NETS[name](batch=args.batch, size=args.size, training=False), phase=TEST)
    randomize(net)
    folded = fold(net)
    sizes, field = [], {}
    for when, each, param in (("before", net, net.param), ("after", folded.net, folded.param)):
        path = os.path.join(folder, f"{name}_{when}.caffemodel")
        each.save(path)
        sizes.append(os.path.getsize(path) / 1e6)
        for engine in args.engines:
            kind, variant, module = ENGINES[engine]
            if importlib.util.find_spec(module):
                table = {f"{engine} {when}": (kind, (variant, path))}
                field[engine, when] = Process(f"{engine} {when}", table, args.threads), param.SerializeToString()
    print(f"\n{name}, batch {args.batch}, {args.threads} threads: {folded.before} layers before, {folded.after} after")
    print(f"  {sizes[0]:.1f} MB of weights before, {sizes[1]:.1f} after; difference {folded.difference.stored:.1e}")
    report(time_in_turns(build(field), args.rounds, args.steps))


def build(field: dict) -> dict:
    """Build each net in its process; leave out those that cannot, or that compute other scores."""
    built, reference = {}, None
    for key, (process, param) in field.items():
        try:
            found = process.ask("build", param, False)
        except RuntimeError as error:
            print(f"  {process.name}: does not take part: {str(error)[:100]}")
            continue
        reference = reference or found
        if not (worst := max(differences(reference, found).values())) < _AGREE:
            print(f"  {process.name}: scores differ by {worst:.1e} of the largest")
        built[key] = process
    return built


def time_in_turns(field: dict, rounds: int, steps: int) -> dict:
    """Return the median of milliseconds of a pass, by (engine, before or after)."""
    times: dict = {key: [] for key in field}
    for _ in range(rounds):
        for key, process in field.items():
            time.sleep(0.05)  # the threads of the one before may not sleep yet
            times[key] += process.ask("run", steps)
    for process in field.values():
        process.end()
    return {key: statistics.median(found) * 1e3 for key, found in times.items()}


def report(medians: dict) -> None:
    print(f"  {'':24s}{'before':>9s}{'after':>9s}{'ratio':>8s}")
    for engine in dict.fromkeys(engine for engine, _ in medians):
        before, after = (medians.get((engine, when), float("nan")) for when in ("before", "after"))
        print(f"  {engine:24s}{before:9.1f}{after:9.1f}{before / after:8.2f}", flush=True)


def fold_random(count: int) -> None:
    """Fold random nets; print the largest differences of the weights alone, and those of passes in float32."""
    exact_worst, stored_worst, rounding, layers = 0.0, 0.0, [0.0, 0.0], [0, 0]
    for seed in range(count):
        net = random_net(seed)
        folded = fold(net)
        data = np.random.default_rng(seed).standard_normal(net.blobs["data"].shape).astype(np.float32)
        exact = outputs(in_float64(net), data)
        exact_worst = max(exact_worst, folded.difference.exact)
        stored_worst = max(stored_worst, folded.difference.stored)
        for i, each in enumerate((net, folded.net)):
            rounding[i] = max(rounding[i], *differences(exact, outputs(each, data)).values())
        layers[0], layers[1] = layers[0] + folded.before, layers[1] + folded.after
    print(f"{count} random nets: {layers[0]} layers before, {layers[1]} after")
    print(f"largest difference of folded nets, activations in float64: {exact_worst:.1e} of an output's largest value, "
          f"{stored_worst:.1e} with the weights in float32")  # fmt: skip
    print(f"largest difference of a pass in float32 from the net in float64: {rounding[0]:.1e} before, "
          f"{rounding[1]:.1e} after")  # fmt: skip


def in_float64(net: Net) -> Net:
    """A net with the same parameters that computes in float64."""
    exact = Net(net.param, phase=TEST, dtype=np.float64)
    for layer, other in zip(net.layers, exact.layers, strict=True):
        for blob, copy in zip(layer.blobs, other.blobs, strict=True):
            copy.data = blob.read_data()
    return exact


def outputs(net: Net, data: np.ndarray) -> dict[str, list]:
    return {name: [values.copy()] for name, values in net.forward(data=data).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=list(NETS), metavar="net", help=f"of {', '.join(NETS)} (all)")
    parser.add_argument("--engines", nargs="*", choices=ENGINES, default=list(ENGINES), help="all unless given")
    parser.add_argument("--random", type=int, metavar="N", help="fold so many random nets instead")
    parser.add_argument("--batch", type=int, default=1, help="batch size (1)")
    parser.add_argument("--size", type=int, default=224, help="height and width of the input (224)")
    parser.add_argument("--rounds", type=int, default=6, help="turns each engine takes (6)")
    parser.add_argument("--steps", type=int, default=30, help="passes a turn (30)")
    parser.add_argument("--threads", type=int, default=cores(), help="all cores unless given")
    args = parser.parse_args()
    if args.random:
        fold_random(args.random)
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in args.nets:
            race(name, args, folder)


if __name__ == "__main__":
    main()
