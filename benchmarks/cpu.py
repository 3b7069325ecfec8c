"""Compare the speed of minicaffe on the CPU with PyTorch and other frameworks that are installed:

    python benchmarks/cpu.py                      the nets of docs/cpu.md, training and inference
    python benchmarks/cpu.py cifar10_full resnet50 --rounds 20
    python benchmarks/cpu.py cifar10_full --layers       the time of each layer
    python benchmarks/cpu.py cifar10_full --batches 1 8 64 512

The contestants run in turn, a few steps each, so that other load on the machine affects all of them.  Printed are
medians, and their ratio to that of the first contestant.  Before timing, loss and gradients (or scores) are compared
with the first contestant's.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

#: tolerance of gradients: in deep nets rounding may change the sign of a ReLU's input
_GRADIENTS_AGREE = 3e-2

#: nets for measuring the cost by depth; run only when named
_DEEP = ("cifar10_resnet32", "cifar10_resnet56", "cifar10_resnet110")

#: seconds between turns: the last contestant's worker threads may spin for a while before they sleep
_PAUSE = 0.05

import contestants  # noqa: E402
import nets  # noqa: E402
import numpy as np  # noqa: E402


def build(net: str, batch: int | None):
    """Return (NetParameter, whether it is for training, batch size) of a net by name."""
    if net in nets.TRAINING:
        make, default = nets.TRAINING[net]
        return make(batch or default), True, batch or default
    return nets.INFERENCE[net](batch or 1), False, batch or 1


class Contestant:
    """A process that runs one net."""

    def __init__(self, name: str, param, training: bool, threads: int) -> None:
        self.name, self.times = name, []
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        args = (theirs, name, param.SerializeToString(), training, threads)
        self.process = context.Process(target=contestants.serve, args=args, daemon=True)
        self.process.start()
        self.error = self.pipe.recv()

    def call(self, *command):
        self.pipe.send(command)
        return self.pipe.recv()


def compare(reference: dict, other: dict) -> str:
    """Return an empty string if loss, gradients or scores agree, otherwise a description of the difference."""
    for key in reference.keys() & other.keys():
        # one scale for weights and bias: before a BatchNorm the gradient of a bias is 0 up to rounding errors
        scale = max(float(np.abs(a).max()) for a in reference[key]) or 1.0
        for a, b in zip(reference[key], other[key], strict=False):
            worst = float(np.abs(np.ravel(a) - np.ravel(b)).max()) / scale
            if not worst < (1e-3 if key in ("loss", "score") else _GRADIENTS_AGREE):
                return f"{key} differs by {worst:.1e} of its largest value"
    return ""


def race(net: str, names: list[str], batch: int | None, rounds: int, steps: int, threads: int) -> list[Contestant]:
    """Run contestants in turn on a net and print the table; return those that ran."""
    param, training, batch = build(net, batch)
    task = "training" if training else "inference"
    print(f"\n{net}, {task}, batch {batch}, {threads} threads: milliseconds a step, median of {rounds * steps}")
    field: list[Contestant] = []
    reference: dict = {}
    for name in names:
        if not contestants.installed(name) or not contestants.CONTESTANTS[name][3 if training else 4]:
            continue
        contestant = Contestant(name, param, training, threads)
        if contestant.error:
            print(f"  {name}: skipped: {str(contestant.error).splitlines()[0][:100]}")
            continue
        result, contestant.start_up = contestant.call("check")
        if field and (difference := compare(reference, result)):
            print(f"  {name}: {difference}")
        reference = reference or result
        contestant.call("run", 3)
        field.append(contestant)
    for _ in range(rounds):
        for contestant in field:
            time.sleep(_PAUSE)
            contestant.times += contestant.call("run", steps)
    report(field)
    return field


def report(field: list[Contestant]) -> None:
    """Print one row per contestant: median, first quartile, ratio to the first one's median, start-up, peak memory."""
    ours = statistics.median(field[0].times)
    print(f"  {'':24s}{'median':>9s}{'25 %':>9s}{'ratio':>8s}{'start s':>9s}{'peak MB':>9s}")
    for contestant in field:
        median, quarter = statistics.median(contestant.times), np.percentile(contestant.times, 25)
        peak = contestant.call("stop")
        print(
            f"  {contestant.name:24s}{median * 1e3:9.1f}{quarter * 1e3:9.1f}{median / ours:8.2f}"
            f"{contestant.start_up:9.1f}{peak:9.0f}",
            flush=True,
        )
        contestant.process.join(5)


# -- time of each layer ------------------------------------------------------------------------------------------------


def layer_times(net_name: str, batch: int | None, engine: str, threads: int, passes: int = 20) -> None:
    """Print milliseconds of each layer, forward and backward, and the GFLOP/s of matrix products."""
    import minicaffe

    param, training, batch = build(net_name, batch)
    runner = contestants.Minicaffe(param, training, engine, threads)
    net = runner.net
    runner.check()
    forward, backward = ([[] for _ in net.layers] for _ in range(2))
    for _ in range(passes):
        for i, layer in enumerate(net.layers):
            start = time.perf_counter()
            layer.forward(net.bottoms[i], net.tops[i])
            forward[i].append(time.perf_counter() - start)
        for i in reversed(range(len(net.layers) if training else 0)):
            if net.layer_need_backward[i]:
                start = time.perf_counter()
                net.layers[i].backward(net.tops[i], net.bottom_need_backward[i], net.bottoms[i])
                backward[i].append(time.perf_counter() - start)
    print(f"\n{net_name}, batch {batch}, minicaffe {minicaffe.__version__} {engine}: milliseconds a layer, median")
    total = 0.0
    for i, layer in enumerate(net.layers):
        down, up = (statistics.median(t[i]) * 1e3 if t[i] else 0.0 for t in (forward, backward))
        work = operations(layer, net.tops[i])
        rate = f"{work / down / 1e6:8.0f} GFLOP/s" if work else ""
        total += down + up
        print(f"  {net._layer_names[i]:28s}{layer.type:18s}{down:9.3f}{up:9.3f}{rate}")
    print(f"  {'all':46s}{total:18.3f}")


def operations(layer, top) -> float:
    """Return the multiplications and additions of a forward pass; 0 for layers without matrix products."""
    if layer.type not in ("Convolution", "InnerProduct"):
        return 0.0
    return 2.0 * top[0].count * int(np.prod(layer.blobs[0].shape[1:]))


def main() -> None:
    known = [*nets.TRAINING, *nets.INFERENCE]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "nets", nargs="*", metavar="net", help=f"of {', '.join(known)} (default: all but the deep ones)"
    )
    parser.add_argument("--rounds", type=int, default=10, help="turns of each contestant (10)")
    parser.add_argument("--steps", type=int, default=5, help="steps per turn (5)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    parser.add_argument("--batches", type=int, nargs="*", default=[], help="batch sizes instead of the default ones")
    parser.add_argument("--only", nargs="*", default=list(contestants.CONTESTANTS), help="contestants, by name")
    parser.add_argument("--layers", action="store_true", help="times of minicaffe's layers, no comparison")
    parser.add_argument("--engine", default="ONEDNN", help="for --layers: ONEDNN or CAFFE")
    args = parser.parse_args()
    if unknown := set(args.nets) - set(known):
        parser.error(f"unknown nets {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    for net in args.nets or [net for net in known if net not in _DEEP]:
        for batch in args.batches or ([None] if net in nets.TRAINING else [1, 8]):
            if args.layers:
                layer_times(net, batch, args.engine, args.threads)
            else:
                race(net, args.only, batch, args.rounds, args.steps, args.threads)


if __name__ == "__main__":
    main()
