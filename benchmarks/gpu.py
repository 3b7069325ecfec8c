"""Compare numbers and speed of minicaffe on the GPU with PyTorch on the same GPU:

    python benchmarks/gpu.py --json gpu.json                 everything: some ten minutes on an H200
    python benchmarks/gpu.py --quick                         three nets, the fastest contestants
    python benchmarks/gpu.py --only cifar10_full resnet50 --tasks training
    python benchmarks/gpu.py --cifar10 data/cifar10 --log train.log     cifar10_full's 70,000 iterations, from the LMDBs

First all kernels are compiled, in parallel. For each net the contestants, each in a process of its own, compute loss
and gradients (or scores) from the same weights, which are compared; then they run in turn, so that other load on the
device affects all of them. Printed are medians, the speed relative to PyTorch's best of the same precision, the time of
each kernel, and the floor (roofline): FLOP over the peak or bytes over the bandwidth, both measured.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path[:0] = [HERE, ROOT, os.path.join(ROOT, "tools")]

import gpu_contestants  # noqa: E402
import nets  # noqa: E402
import numpy as np  # noqa: E402
from gpu_profile import floor  # noqa: E402

TASKS = ("training", "inference")
QUICK_NETS = ("cifar10_full", "cifar10_resnet20", "resnet50")
QUICK = ("minicaffe float32", "minicaffe tf32", "PyTorch compile float32", "PyTorch compile tf32")
#: tolerances: of the loss, relative to the reference's; of gradients and scores, relative to the largest value
LOSS = {"float32": 1e-3, "tf32": 2e-2}
LARGEST = {"float32": 1e-2, "tf32": 1.0}
TURN = 0.1  # seconds of a turn
TIMEOUTS = {"build": 400, "run": 200, "profile": 200, "ceilings": 200}  # seconds


# -- the nets ----------------------------------------------------------------------------------------------------------


def contests(smoke: bool) -> list[tuple[str, int]]:
    """Return all (net, batch size) to be timed."""
    batches = {"cifar10_resnet20": (100, 128), "resnet50": (32,)}
    names = ("cifar10_quick", "cifar10_full", "cifar10_full_sigmoid_bn", "cifar10_resnet20", "resnet50")
    return [(name, 2 if smoke else batch) for name in names for batch in batches.get(name, (100,))[: 1 if smoke else 2]]


def build(name: str, batch: int, training: bool, smoke: bool):
    """Return the NetParameter of a net by name."""
    if name == "resnet50":
        from minicaffe.models.zoo.resnet import resnet50

        net = resnet50(batch, 32 if smoke else 224, training=True)
    else:
        net = nets.TRAINING[name][0](batch)
    score, loss = next(layer for layer in net.layer if layer.top[0] == net.layer[-1].bottom[0]), net.layer[-1]
    score.top[0] = loss.bottom[0] = "score"  # the name that all contestants use
    if not training:
        for layer in [layer for layer in net.layer if "label" in layer.top]:
            at = list(layer.top).index("label")
            del layer.top[at], layer.input_param.shape[at]
            if not layer.top:
                net.layer.remove(layer)
        loss.name, loss.type, loss.top[0] = "prob", "Softmax", "prob"
        del loss.bottom[1:]
    return net


# -- the processes -----------------------------------------------------------------------------------------------------


class Process:
    """A process for one framework with one precision (gpu_contestants.serve); restarted if it has ended."""

    def __init__(self, name: str, smoke: bool) -> None:
        self.name, self.smoke, self.process = name, smoke, None
        self.ways = gpu_contestants.PROCESSES[name][0].ways

    def send(self, *command) -> None:
        if self.process is None or not self.process.is_alive():
            if command[0] in ("run", "profile"):
                raise RuntimeError("its process has ended")  # the net was in it
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            args = (theirs, self.name, self.smoke)
            self.process = context.Process(target=gpu_contestants.serve, args=args, daemon=True)
            self.process.start()
            theirs.close()
        self.command = command[0]
        try:
            self.pipe.send(command)
        except OSError as error:
            raise RuntimeError(f"the process ended before {self.command}") from error

    def begin(self, *command) -> None:
        """Like `send`, but a failure is raised by `receive`."""
        try:
            self.send(*command)
        except RuntimeError:
            self.end()

    def receive(self):
        """Return (answer, seconds); raise the RuntimeError that occurred in the process."""
        if self.process is None:
            raise RuntimeError("its process has ended")
        try:
            if not self.pipe.poll(TIMEOUTS[self.command]):
                self.end()
                raise RuntimeError(f"no answer to {self.command} after {TIMEOUTS[self.command]} s")
            answer, seconds = self.pipe.recv()
        except (EOFError, ConnectionError) as error:
            self.end()
            raise RuntimeError(f"the process ended during {self.command}") from error
        if isinstance(answer, Exception):
            raise answer
        return answer, seconds

    def call(self, *command):
        self.send(*command)
        return self.receive()[0]

    def end(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.join(10)
            self.process = None


def differences(reference: dict, other: dict) -> tuple[float, float]:
    """Return the relative difference of the losses (0 without one), and the largest of all other arrays."""
    off, worst = 0.0, 0.0
    for key in reference.keys() & other.keys():
        if key == "loss":
            off = abs(float(other[key][0]) - float(reference[key][0])) / max(abs(float(reference[key][0])), 1e-6)
            continue
        # one scale for weights and bias: before a BatchNorm the gradient of a bias is 0 up to rounding errors
        scale = max(float(np.abs(a).max()) for a in reference[key]) or 1.0
        for a, b in zip(reference[key], other[key], strict=True):
            worst = max(worst, float(np.abs(np.ravel(a) - np.ravel(b)).max()) / scale)
            if np.isnan(b).any():
                worst = float("nan")
    return off, worst


# -- comparison --------------------------------------------------------------------------------------------------------


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
            print(f"  {process.name}: skipped: {error}")
            continue
        reference = reference or result
        field += _entries(process, seconds, *differences(reference, result))
    field = [entry for entry in field if _warm_up(entry)]
    for _ in range(rounds):
        for entry in list(field):
            try:
                entry["times"].append(entry["process"].call("run", entry["way"], entry["steps"]) / entry["steps"])
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
    return [dict(common, name=f"{process.name} {way}", way=way, times=[]) for way in process.ways]


def _warm_up(entry: dict) -> bool:
    """Run until all is compiled and captured; set the steps per turn. Return False if it fails."""
    try:
        entry["process"].call("run", entry["way"], 4)
        each = entry["process"].call("run", entry["way"], 3) / 3
        entry["steps"] = 1 if entry["process"].smoke else max(3, min(2000, round(TURN / each)))
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
        found = process.call("profile")
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
    ceilings = {"copy": 0.0, "product float32": 0.0, "product tf32": 0.0}
    for process in processes:
        try:
            found = process.call("ceilings")
        except RuntimeError as error:
            print(f"  {process.name}: {error}")
            continue
        math = process.name.split()[-1]
        copy = f", copy {found['copy'] / 1e9:.0f} GB/s" if "copy" in found else ""
        print(f"  {process.name}: product {found['product'] / 1e12:.1f} TFLOP/s{copy}", flush=True)
        ceilings["product " + math] = max(ceilings["product " + math], found["product"])
        ceilings["copy"] = max(ceilings["copy"], found.get("copy", 0.0))
    return ceilings


# -- from the database to the accuracy ---------------------------------------------------------------------------------


def end_to_end(folder: str, log: str, math: str, limits: tuple[int, ...], batch: int = 0) -> dict:
    """Train cifar10_full in its three parts by `minicaffe train`; return seconds and test accuracies.

    batch: the batch size, if not the net's; tests then have two batches.
    """
    import tempfile

    open(log, "w").close()
    with tempfile.TemporaryDirectory() as work:
        began = time.perf_counter()
        state = None
        for part, limit in zip(("solver", "solver_lr1", "solver_lr2"), limits, strict=True):
            state = _train_part(work, os.path.abspath(folder), part, limit, state, math, log, batch)
        seconds = time.perf_counter() - began
    with open(log) as file:
        values = [line.rsplit("=", 1)[1] for line in file if "net output" in line and "accuracy" in line]
    accuracies = [float(value.split()[0]) for value in values]
    print(f"\ncifar10_full, {limits[-1]} iterations with data and tests, {math}: {seconds:.1f} s, "
          f"accuracy {accuracies[-1]:.4f}; log: {log}")  # fmt: skip
    return {"seconds": seconds, "accuracies": accuracies, "math": math, "iterations": limits[-1]}


def _train_part(work: str, data: str, part: str, limit: int, state: str | None, math: str, log: str, batch: int) -> str:
    """Run one part in a process of its own, appending to `log`; return the path of its final solver state."""
    from minicaffe.proto import read_net, read_solver

    models = os.path.join(ROOT, "models", "cifar10_full")
    net = read_net(os.path.join(models, "train_test.prototxt"))
    solver = read_solver(os.path.join(models, part + ".prototxt"))
    for layer in net.layer:
        if layer.type == "Data":
            layer.data_param.batch_size = batch or layer.data_param.batch_size
            layer.data_param.source = os.path.join(data, os.path.basename(layer.data_param.source))
            layer.transform_param.mean_file = os.path.join(data, os.path.basename(layer.transform_param.mean_file))
    files = {"net.prototxt": net, f"{part}.prototxt": solver}
    solver.net, solver.snapshot_prefix = os.path.join(work, "net.prototxt"), os.path.join(work, "full")
    solver.max_iter, solver.snapshot = limit, 0
    solver.test_iter[:] = [2] if batch else solver.test_iter
    for name, message in files.items():
        with open(os.path.join(work, name), "w") as file:
            file.write(str(message))
    command = [sys.executable, "-m", "minicaffe", "train", "--solver", os.path.join(work, f"{part}.prototxt")]
    command += ["-gpu", "0", "--math", math, *(["--snapshot", state] if state else [])]
    with open(log, "a") as file:
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH")))))
        subprocess.run(command, stderr=file, stdout=file, check=True, env=environment)
    return os.path.join(work, f"full_iter_{limit}.solverstate.h5")


# -- main --------------------------------------------------------------------------------------------------------------


def installed(name: str) -> bool:
    """Return whether a process's module is installed."""
    return importlib.util.find_spec(gpu_contestants.PROCESSES[name][2]) is not None


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
    parser.add_argument("--only", nargs="*", default=[], metavar="NET", help=f"of {', '.join(known)} (default: all)")
    parser.add_argument("--tasks", nargs="*", default=TASKS, choices=TASKS, help="default: both")
    parser.add_argument("--with", nargs="*", dest="contestants", default=[], metavar="NAME", help="contestants")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contestant (7)")
    parser.add_argument("--quick", action="store_true", help=f"{', '.join(QUICK_NETS)}; the fastest contestants")
    parser.add_argument("--json", metavar="OUT", help="write all figures here, after each net")
    parser.add_argument("--cifar10", metavar="FOLDER", help="train cifar10_full from this folder's LMDBs, nothing else")
    parser.add_argument("--log", default="cifar10_full.log", help="where that training's log goes")
    parser.add_argument("--math", default="float32", choices=("float32", "tf32"), help="of that training")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to test that everything runs")
    args = parser.parse_args()
    for given, all_known in ((args.only, known), (args.contestants, list(gpu_contestants.PROCESSES))):
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
    wanted = args.contestants or (QUICK if args.quick else list(gpu_contestants.PROCESSES))
    processes = [Process(name, args.smoke) for name in wanted if installed(name)]
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
