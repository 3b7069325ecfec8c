"""Times minicaffe on the CPU beside PyTorch and whatever else is installed:

    python benchmarks/cpu.py                      the nets of the README, training and inference
    python benchmarks/cpu.py cifar10_full resnet50 --rounds 20
    python benchmarks/cpu.py cifar10_full --layers       where the time of a step goes (beside ONNX Runtime)
    python benchmarks/cpu.py cifar10_full --layers --precision bf16
    python benchmarks/cpu.py cifar10_full --batches 1 8 64 512
    python benchmarks/cpu.py cifar10_full --against PATH beside another checkout of minicaffe

Contestants take turns, a few steps each, so that a machine that is busy now and then is so for all of them. The table
has medians, and the ratio to the first contestant. With `--processor-time` it is the time that the processor worked, on
all threads, which other processes change less: with `--threads 1`, what a step takes on a machine of its own.

Before anything is timed, loss and gradients (or scores) of all are compared.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable

_FOLDER = os.path.dirname(os.path.abspath(__file__))
#: a contestant's process may be for another checkout of minicaffe
sys.path[:0] = [_FOLDER, os.environ.get("MINICAFFE_CHECKOUT") or os.path.dirname(_FOLDER)]

#: by precision, how much losses and scores may differ, and gradients: those of deep nets differ more, where rounding
#: decides the sign of a ReLU's input
_AGREE = {"float32": (1e-3, 3e-2), "bf16": (5e-2, 5e-1)}

#: for the question how cost grows with depth; raced only when named
_DEEP = ("cifar10_resnet32", "cifar10_resnet56", "cifar10_resnet110")

#: seconds between turns: the workers of the previous contestant may spin for a while before they sleep
_PAUSE = 0.05

import contestants  # noqa: E402
import nets  # noqa: E402
import numpy as np  # noqa: E402
from contestants.common import differences  # noqa: E402
from contestants.gpu_profile import products  # noqa: E402
from contestants.ours import CpuMinicaffe, OtherMinicaffe  # noqa: E402
from contestants.process import Process, environment  # noqa: E402


def build(net: str, batch: int | None):
    """Return (NetParameter, whether it trains, batch size) of a net by name."""
    if net in nets.TRAINING:
        make, default = nets.TRAINING[net]
        return make(batch or default), True, batch or default
    return nets.INFERENCE[net](batch or 1), False, batch or 1


def compare(reference: dict, other: dict, precision: str = "float32") -> str:
    """Return an empty string if loss, gradients or scores agree, otherwise a description of the difference."""
    results, gradients = _AGREE[precision]
    for key, worst in differences(reference, other).items():
        if not worst < (results if key in ("loss", "score") else gradients):
            return f"{key} differs by {worst:.1e} of its largest value"
    return ""


def race(net: str, table: dict, batch: int | None, rounds: int, steps: int, threads: int, clock: str) -> None:
    """Compare and time the contestants of a table on one net, in turns; print the results.

    clock: the function of the module `time`.
    """
    param, training, batch = build(net, batch)
    task = "training" if training else "inference"
    print(f"\n{net}, {task}, batch {batch}, {threads} threads: milliseconds a step, median of {rounds * steps}")
    field: dict[Process, list[float]] = {}
    start_ups, reference = {}, None
    for name, entry in table.items():
        if not contestants.installed(entry) or (training and not entry[3]):
            continue
        process = Process(name, table, threads)
        with environment({"MINICAFFE_CHECKOUT": entry[1][0]} if entry[0] is OtherMinicaffe else {}):
            process.send("build", param.SerializeToString(), training)
        try:
            result, start_ups[process] = process.receive()
        except RuntimeError as error:
            print(f"  {name}: does not take part: {str(error)[:100]}")
            continue
        if field and (difference := compare(reference, result, "bf16" if name.endswith("bf16") else "float32")):
            print(f"  {name}: {difference}")
        reference = reference or result
        process.ask("run", 3)
        field[process] = []
    for _ in range(rounds):
        for process, times in field.items():
            time.sleep(_PAUSE)
            times += process.ask("run", steps, clock)
    report(field, start_ups)


def report(field: dict[Process, list[float]], start_ups: dict[Process, float]) -> None:
    """Print a row per contestant: times in milliseconds, ratio to the first, start-up time, peak memory."""
    ours = statistics.median(next(iter(field.values())))
    print(f"  {'':24s}{'median':>9s}{'25 %':>9s}{'ratio':>8s}{'start s':>9s}{'peak MB':>9s}")
    for process, times in field.items():
        median, quarter = statistics.median(times), np.percentile(times, 25)
        peak = process.ask("peak")
        print(
            f"  {process.name:24s}{median * 1e3:9.1f}{quarter * 1e3:9.1f}{median / ours:8.2f}"
            f"{start_ups[process]:9.1f}{peak:9.0f}",
            flush=True,
        )
        process.end()


# -- where the time goes -----------------------------------------------------------------------------------------------


def layer_times(net_name: str, batch: int | None, variant: str, threads: int, passes: int = 20) -> None:
    """Print milliseconds of each layer or fused layers, forward and backward, and the GFLOP/s of matrix products."""
    import minicaffe

    param, training, batch = build(net_name, batch)
    runner = CpuMinicaffe(variant, threads)
    runner.build(param, training)
    net = runner.net
    parts = _forward_passes(net, training)
    forward, backward = ([[] for _ in net.layers] for _ in range(2))
    for _ in range(passes):
        for i, run in parts.items():
            start = time.perf_counter()
            run()
            forward[i].append(time.perf_counter() - start)
        for i in reversed(range(len(net.layers) if training else 0)):
            if net.layer_need_backward[i]:
                start = time.perf_counter()
                net.layers[i].backward(net.tops[i], net.bottom_need_backward[i], net.bottoms[i])
                backward[i].append(time.perf_counter() - start)
    print(f"\n{net_name}, batch {batch}, minicaffe {minicaffe.__version__} {variant}: milliseconds a layer, median")
    total = 0.0
    for i in parts:
        layer = net.layers[i]
        down, up = (statistics.median(t[i]) * 1e3 if t[i] else 0.0 for t in (forward, backward))
        work = products(layer, net.tops[i])
        rate = f"{work / down / 1e6:8.0f} GFLOP/s" if work else ""
        total += down + up
        print(f"  {net.layer_names[i]:28s}{layer.type:18s}{down:9.3f}{up:9.3f}{rate}")
    print(f"  {'all':46s}{total:18.3f}")


def _forward_passes(net, training: bool) -> dict[int, Callable[[], None]]:
    """The forward passes of the layers by index; in TEST fused layers are one, listed as the first of them."""
    groups, result, end = {} if training else net.fused, {}, -1
    for i, layer in enumerate(net.layers):
        if i > end:
            alone = functools.partial(layer.forward, net.bottoms[i], net.tops[i])
            result[i], end = (groups[i].forward, groups[i].end) if i in groups else (alone, i)
    return result


def node_times(net_name: str, batch: int | None, threads: int, passes: int = 20) -> None:
    """Print milliseconds of each node of ONNX Runtime's graph, for comparison with `layer_times`."""
    param, training, batch = build(net_name, batch)
    if training or not contestants.installed(contestants.CPU["ONNX Runtime"]):
        return
    runner = contestants.OnnxRuntime("profile", threads)
    runner.build(param, training)
    runner.run(passes)
    nodes = runner.node_times()
    print(f"\n{net_name}, batch {batch}, ONNX Runtime: milliseconds a node, median")
    for operator, shape, time_ in nodes:
        print(f"  {operator:28s}{shape:18s}{time_:9.3f}")
    print(f"  {'all':46s}{sum(time_ for _, _, time_ in nodes):9.3f}")


def main() -> None:
    from minicaffe.cores import cores

    known = [*nets.TRAINING, *nets.INFERENCE]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "nets", nargs="*", metavar="net", help=f"of {', '.join(known)}; all but the deep ones unless given"
    )
    parser.add_argument("--rounds", type=int, default=10, help="turns each contestant takes (10)")
    parser.add_argument("--steps", type=int, default=5, help="steps a turn (5)")
    parser.add_argument("--threads", type=int, default=cores(), help="all cores unless given")
    parser.add_argument("--batches", type=int, nargs="*", default=[], help="batch sizes instead of the usual ones")
    parser.add_argument("--only", nargs="*", metavar="name", help="contestants (all)")
    parser.add_argument("--against", help="another checkout of minicaffe, which takes part with both engines")
    parser.add_argument("--processor-time", action="store_true", help="instead of the time by the clock")
    parser.add_argument("--layers", action="store_true", help="times of minicaffe's layers and ONNX Runtime's nodes")
    parser.add_argument("--engine", default="ONEDNN", help="for --layers: ONEDNN or CAFFE")
    parser.add_argument("--precision", default="float32", help="for --layers: float32 or bf16")
    args = parser.parse_args()
    if unknown := set(args.nets) - set(known):
        parser.error(f"unknown nets {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    table = contestants.CPU | (contestants.of_checkout(os.path.abspath(args.against)) if args.against else {})
    if unknown := set(args.only or ()) - set(table):
        parser.error(f"unknown contestants {', '.join(sorted(unknown))}; known are {', '.join(table)}")
    table = {name: table[name] for name in args.only or table}
    for net in args.nets or [net for net in known if net not in _DEEP]:
        for batch in args.batches or ([None] if net in nets.TRAINING else [1, 8]):
            if args.layers:
                layer_times(net, batch, f"{args.engine} {args.precision}", args.threads)
                node_times(net, batch, args.threads)
            else:
                clock = "process_time" if args.processor_time else "perf_counter"
                race(net, table, batch, args.rounds, args.steps, args.threads, clock)


if __name__ == "__main__":
    main()
