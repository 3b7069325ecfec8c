"""Checks and times minicaffe on the GPU beside PyTorch on the same GPU:

    python benchmarks/gpu.py --json gpu.json                 everything: some ten minutes on an H200
    python benchmarks/gpu.py --quick                         three nets, the strongest contestants
    python benchmarks/gpu.py --only cifar10_full resnet50 --tasks training
    python benchmarks/gpu.py --cifar10 data/cifar10 --log train.log     cifar10_full's 70,000 iterations, from the LMDBs

First all kernels are compiled, several at a time. For each net the contestants, each in a process of its own, compute
loss and gradients (or scores) from the same weights, which are compared; then they take turns, so that a device that is
busy now and then is so for all of them. The tables have medians, how many times as fast as PyTorch's best of the same
precision each is, where the time goes, and the floor: FLOP over the peak and bytes over the bandwidth, both measured.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path[:0] = [HERE, ROOT, os.path.join(ROOT, "tools")]

import contestants  # noqa: E402
import nets  # noqa: E402
import numpy as np  # noqa: E402
from contestants import common  # noqa: E402
from contestants.gpu_profile import floor  # noqa: E402
from contestants.process import Process  # noqa: E402
from end_to_end import end_to_end  # noqa: E402

from minicaffe.models import zoo  # noqa: E402

TASKS = ("training", "inference")
QUICK_NETS = ("cifar10_full", "cifar10_resnet20", "resnet50")
MATHS = ("float32", "tf32", "bf16")
QUICK = (
    "minicaffe float32",
    "minicaffe tf32",
    "minicaffe bf16",
    "PyTorch float32",
    *(f"PyTorch compile {math}" for math in MATHS),
)
#: how far a loss may be from the reference's, and gradients or scores from its largest
LOSS = {"float32": 1e-3, "tf32": 2e-2, "bf16": 1e-1}
LARGEST = {"float32": 1e-2, "tf32": 1.0, "bf16": 1.0}
TURN = 0.1  # seconds
PATIENCE = {"build": 400, "run": 200, "profile": 200, "ceilings": 200}


# -- the nets ----------------------------------------------------------------------------------------------------------


def contests(smoke: bool) -> list[tuple[str, int]]:
    """Return all (net, batch size) to be timed."""
    batches = {"cifar10_resnet20": (100, 128), "resnet50": (32,)}
    names = ("cifar10_quick", "cifar10_full", "cifar10_full_sigmoid_bn", "cifar10_resnet20", "resnet50")
    return [(name, 2 if smoke else batch) for name in names for batch in batches.get(name, (100,))[: 1 if smoke else 2]]


def build(name: str, batch: int, training: bool, smoke: bool):
    """Return the NetParameter of a net by name."""
    if name == "resnet50":
        net = nets.score_named(zoo.resnet50(batch, 32 if smoke else 224, training=True))
    else:
        net = nets.TRAINING[name][0](batch)
    return net if training else nets.without_labels(net)


# -- a contest ---------------------------------------------------------------------------------------------------------


def start(name: str, smoke: bool) -> Process:
    """A contestant's process, for nets of any size."""
    return Process(name, contestants.GPU, smoke, patience=PATIENCE)


def differences(reference: dict, other: dict) -> tuple[float, float]:
    """Return the relative difference of the losses (0 without one), and the largest of all other arrays."""
    found = common.differences(reference, other)
    off = found.pop("loss", 0.0)
    return off, float(np.max([0.0, *found.values()]))


def race(name: str, batch: int, task: str, processes: list[Process], rounds: int, smoke: bool, ceilings: dict) -> dict:
    """Compare and time all processes on one net; print the table; return it for JSON."""
    net = build(name, batch, task == "training", smoke).SerializeToString()
    print(f"\n{name}, {task}, batch {batch}", flush=True)
    for process in processes:
        process.begin("build", net, task == "training")
    field, reference = [], None
    for process in processes:
        try:
            result, seconds = process.receive()
        except RuntimeError as error:
            print(f"  {process.name}: does not take part: {error}")
            continue
        reference = reference or result
        field += _entries(process, seconds, *differences(reference, result))
    field = [entry for entry in field if _warm_up(entry, smoke)]
    for _ in range(rounds):
        for entry in list(field):
            try:
                entry["times"].append(entry["process"].ask("run", entry["way"], entry["steps"]) / entry["steps"])
            except RuntimeError as error:
                print(f"  {entry['name']}: {error}")
                field.remove(entry)
    table = report(field, batch)
    result = {"net": name, "batch": batch, "task": task, "contestants": table, "profile": {}}
    for process in processes:
        if process.name.startswith("minicaffe") and any(entry["process"] is process for entry in field):
            result["profile"][process.name] = profile(process, table, ceilings)
    return result


def _entries(process: Process, seconds: float, off: float, worst: float) -> list[dict]:
    """Return an entry for each way of a process; print a line if its numbers are wrong."""
    math = process.name.split()[-1]
    right = off <= LOSS[math] and worst <= LARGEST[math]
    if not right:
        print(f"  {process.name}: WRONG: the loss is off by {off:.1e}, the worst array by {worst:.1e} of its largest")
    common = dict(process=process, math=math, built=seconds, loss_off=off, worst=worst, right=right)
    return [dict(common, name=f"{process.name} {way}", way=way, times=[]) for way in process.kind.ways]


def _warm_up(entry: dict, smoke: bool) -> bool:
    """Run until all is compiled and captured; set the steps per turn. Return False if it fails."""
    try:
        entry["process"].ask("run", entry["way"], 4)
        each = entry["process"].ask("run", entry["way"], 3) / 3
        entry["steps"] = 1 if smoke else max(3, min(2000, round(TURN / each)))
        return True
    except RuntimeError as error:
        print(f"  {entry['name']}: {error}")
        return False


def report(field: list[dict], batch: int) -> list[dict]:
    """Print a row per contestant and way; return the rows."""
    rows = []
    for entry in field:
        median = statistics.median(entry["times"])
        low, high = np.percentile(entry["times"], [25, 75])
        kept = {key: entry[key] for key in ("name", "math", "way", "built", "loss_off", "worst", "right", "steps")}
        rows.append(dict(kept, ms=median * 1e3, spread=float(high - low) / median, images_per_s=batch / median))
    best = {}
    for row in rows:
        if row["name"].startswith("PyTorch"):
            best[row["math"]] = min(best.get(row["math"], np.inf), row["ms"])
    print(f"  {'':40s}{'images/s':>12s}{'ms':>10s}{'spread':>8s}{'x PyTorch':>11s}{'loss off':>10s}{'worst':>9s}")
    for row in rows:
        row["times_pytorch"] = best[row["math"]] / row["ms"] if row["math"] in best else None
        ratio = f"{row['times_pytorch']:.2f}" if row["times_pytorch"] else "-"
        print(
            f"  {row['name']:40s}{row['images_per_s']:12.0f}{row['ms']:10.3f}{row['spread']:8.1%}{ratio:>11s}"
            f"{row['loss_off']:10.1e}{row['worst']:9.1e}",
            flush=True,
        )
    return rows


def profile(process: Process, table: list[dict], ceilings: dict) -> dict | None:
    """Print the time of each kernel of a minicaffe step, and the ratio of the step to the floor."""
    try:
        found = process.ask("profile")
    except RuntimeError as error:
        print(f"  {process.name}: no profile: {error}")
        return None
    math = process.name.split()[-1]
    least = 1e3 * floor(found["work"], ceilings["product " + math], ceilings["copy"])
    times = sorted(found["kernels"].items(), key=lambda item: -item[1][0])
    total = sum(ms for _, (ms, _) in times) or 1.0
    launches = sum(count for _, (_, count) in times)
    step = min(row["ms"] for row in table if row["name"].startswith(process.name))
    note = "" if found["captured"] else ", NOT captured into a graph"
    print(f"  {process.name}: step {step:.3f} ms, floor {least:.3f} ms ({step / least:.1f}x), {launches} launches of "
          f"{total:.3f} ms together{note}")  # fmt: skip
    for kernel, (ms, count) in times[:12]:
        print(f"    {kernel:36s}{count:5d} x{ms:10.3f} ms{ms / total:8.1%}")
    return dict(found, floor_ms=least)


def measure_ceilings(processes: list[Process]) -> dict:
    """Measure the bandwidth of copies, and for each precision the fastest product of large matrices."""
    ceilings = {"copy": 0.0, **{f"product {math}": 0.0 for math in MATHS}}
    for process in processes:
        try:
            found = process.ask("ceilings")
        except RuntimeError as error:
            print(f"  {process.name}: {error}")
            continue
        math = process.name.split()[-1]
        copy = f", copy {found['copy'] / 1e9:.0f} GB/s" if "copy" in found else ""
        print(f"  {process.name}: product {found['product'] / 1e12:.1f} TFLOP/s{copy}", flush=True)
        ceilings["product " + math] = max(ceilings["product " + math], found["product"])
        ceilings["copy"] = max(ceilings["copy"], found.get("copy", 0.0))
    return ceilings


# -- the whole ---------------------------------------------------------------------------------------------------------


def machine() -> dict:
    """Return GPU, compiler and versions of the packages."""
    import minicaffe
    from minicaffe.cuda import context, kernels

    facts = {"gpu": context.current().name, "multiprocessors": context.current().multiprocessors,
             "compiler": kernels.compiler().version.strip().splitlines()[-1], "minicaffe": minicaffe.__version__,
             "python": sys.version.split()[0]}  # fmt: skip
    for module in ("torch", "pycuda", "nvidia-cudnn-frontend"):
        try:
            facts[module] = importlib.metadata.version(module)
        except importlib.metadata.PackageNotFoundError:
            facts[module] = None
    return facts


def write_json(path: str | None, results: dict) -> None:
    """Write the results so far, atomically."""
    if path:
        with open(path + ".part", "w") as file:
            json.dump(results, file, indent=1)
        os.replace(path + ".part", path)


def arguments() -> argparse.Namespace:
    known = list(dict.fromkeys(name for name, _ in contests(False)))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], metavar="NET", help=f"of {', '.join(known)}; all unless given")
    parser.add_argument("--tasks", nargs="*", default=TASKS, choices=TASKS, help="default: both")
    parser.add_argument("--with", nargs="*", dest="contestants", default=[], metavar="NAME", help="who takes part")
    parser.add_argument("--rounds", type=int, default=7, help="turns each contestant takes (7)")
    parser.add_argument("--quick", action="store_true", help=f"{', '.join(QUICK_NETS)}; the strongest contestants")
    parser.add_argument("--json", metavar="OUT", help="write all figures here, after each net")
    parser.add_argument("--cifar10", metavar="FOLDER", help="train cifar10_full from this folder's LMDBs, nothing else")
    parser.add_argument("--log", default="cifar10_full.log", help="where that training's log goes")
    parser.add_argument("--math", default="float32", choices=MATHS, help="of that training")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does everything run?")
    args = parser.parse_args()
    for given, all_known in ((args.only, known), (args.contestants, list(contestants.GPU))):
        if unknown := set(given) - set(all_known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(all_known)}")
    return args


def main() -> int:
    args = arguments()
    from compile_kernels import compile_all

    from minicaffe.cuda import context

    results: dict = {"machine": machine(), "contests": []}
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items()))
    if not args.smoke:
        results["compile_s"] = compile_all(context.current().arch)
        print(f"all kernels compiled, or found in the cache, in {results['compile_s']:.1f} s", flush=True)
    if args.cifar10:
        limits = (6, 8, 10) if args.smoke else (60000, 65000, 70000)
        batch = 4 if args.smoke else 0
        results["end_to_end"] = end_to_end(args.cifar10, args.log, args.math, limits, batch)
        write_json(args.json, results)
        return 0
    wanted = args.contestants or (QUICK if args.quick else list(contestants.GPU))
    processes = [start(name, args.smoke) for name in wanted if contestants.installed(contestants.GPU[name])]
    print("ceilings:")
    results["ceilings"] = ceilings = measure_ceilings(processes)
    for name, batch in contests(args.smoke):
        if name in (args.only or (QUICK_NETS if args.quick else [name])):
            for task in args.tasks:
                result = race(name, batch, task, processes, 1 if args.smoke else args.rounds, args.smoke, ceilings)
                results["contests"].append(result)
                write_json(args.json, results)
    for process in processes:
        process.end()
    rows = [row for result in results["contests"] for row in result["contestants"]]
    wrong = dict.fromkeys(row["name"] for row in rows if not row["right"])
    if wrong:
        print(f"\nWRONG numbers: {', '.join(wrong)}")
    return 1 if any(name.startswith("minicaffe") for name in wrong) and not args.smoke else 0


if __name__ == "__main__":
    sys.exit(main())
