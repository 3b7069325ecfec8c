"""Times one snapshot, in both formats, and what it consists of:

    python benchmarks/snapshot.py                             cifar10_full, and a net as large as VGG-16
    python benchmarks/snapshot.py --against PATH              beside another checkout of minicaffe, in turns

Milliseconds, medians of `--rounds`.  With `--processor-time` those that the processor worked: other programs do not
change them, and they leave out what the disk takes.

Serialising is what is not hashing, writing or flushing to the disk (fsync).  Snapshots of checkouts that write HDF5
without `write_atomically` count as serialising as a whole.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("serialise", "hash", "write", "fsync")
FORMS = ("BINARYPROTO", "HDF5")

#: one layer with as many weights, 138 million, as the sixteen of VGG-16
_VGG16_SIZE = """
layer { name: "data" type: "Input" top: "x" top: "t"
        input_param { shape { dim: 1 dim: 33778 } shape { dim: 1 dim: 4096 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 4096 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" }
"""
NETS = ("cifar10_full", "vgg16_size")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=NETS, help=f"of {', '.join(NETS)} (default: all)")
    parser.add_argument("--against", type=Path, help="another checkout of minicaffe")
    parser.add_argument("--forms", nargs="*", default=FORMS, help=f"of {', '.join(FORMS)} (default: both)")
    parser.add_argument("--rounds", type=int, default=5, help="snapshots of each kind (default 5)")
    parser.add_argument("--folder", type=Path, help="where to write (default: the temporary folder)")
    parser.add_argument("--processor-time", action="store_true", help="instead of the time by the clock")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, time.process_time if args.processor_time else time.perf_counter)
        return
    head = "".join(f"{part:>11s}" for part in PARTS)
    print(f"{'net':14s}{'format':13s}{'before':>11s}{'after':>11s}{'ratio':>8s}   after:{head}")
    for net in args.nets:
        for form, before, after in race(net, args):
            old = before["total"] if before else float("nan")
            print(f"{net:14s}{form:13s}{old:11.2f}{after['total']:11.2f}{after['total'] / old:8.2f}         "
                  + "".join(f"{after[part]:11.2f}" for part in PARTS), flush=True)  # fmt: skip


def race(net: str, args: argparse.Namespace):
    """Yield (format, medians of the other checkout or None, medians of this one); the checkouts take turns."""
    checkouts = [each for each in (args.against, ROOT) if each]
    with tempfile.TemporaryDirectory(dir=args.folder) as where:
        processes = {checkout: start(checkout, net, Path(where) / f"{i}", args.processor_time)
                     for i, checkout in enumerate(checkouts)}  # fmt: skip
        for form in args.forms:
            times: dict[Path, dict[str, list[float]]] = {checkout: defaultdict(list) for checkout in checkouts}
            for turn in range(args.rounds + 1):
                for checkout, process in processes.items():
                    os.sync()  # what earlier snapshots left to be written
                    for part, seconds in ask(process, form).items():
                        times[checkout][part] += [1000 * seconds] if turn else []  # the first one warms up
            medians = {checkout: {part: statistics.median(each) for part, each in parts.items()}
                       for checkout, parts in times.items()}  # fmt: skip
            yield form, medians.get(args.against), medians[ROOT]
        for process in processes.values():
            process.stdin.close()
            process.wait()


def start(checkout: Path, net: str, folder: Path, processor_time: bool) -> Any:
    """Start a process that makes snapshots of a net with the minicaffe of a checkout."""
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, str(Path(__file__).resolve()), "--serve", net, *["--processor-time"] * processor_time]
    return subprocess.Popen(
        words, cwd=folder, text=True, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def ask(process: Any, form: str) -> dict[str, float]:
    """Let a process make one snapshot; return its seconds, in total and by part."""
    process.stdin.write(form + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"a process ended with status {process.wait()}")
    return json.loads(line)


# -- in the process ----------------------------------------------------------------------------------------------------


def serve(net: str, now: Callable[[], float]) -> None:
    """Make a snapshot of the net for each format that is read, and print the seconds it took."""
    from minicaffe.core import weights
    from minicaffe.solvers import snapshot

    clock = Clock(now)
    os.fsync = clock.timed("fsync", os.fsync)
    hashlib.sha256 = clock.timed("hash", hashlib.sha256)
    for module in (weights, snapshot):
        if hasattr(module, "write_atomically"):
            module.write_atomically = clock.timed("write", module.write_atomically)
    solver = build(net)
    for form in sys.stdin:
        solver.param.snapshot_format = getattr(solver.param, form.strip())
        clock.seconds.clear()
        clock.timed("total", solver.snapshot)()
        seconds = {part: clock.seconds[part] for part in ("total", *PARTS)}
        seconds["write"] = max(seconds["write"] - seconds["fsync"], 0.0)
        seconds["serialise"] = seconds["total"] - sum(seconds[part] for part in PARTS[1:])
        print(json.dumps(seconds), flush=True)


def build(net: str):
    """Return the solver of a net, with one step done so that its history holds numbers."""
    from minicaffe import get_solver
    from minicaffe.proto import caffe_pb2, parse_text

    text = 'base_lr: 1e-6 momentum: 0.9 lr_policy: "fixed" snapshot_prefix: "s"'
    param = parse_text(text, caffe_pb2.SolverParameter())
    if net == "vgg16_size":
        parse_text(_VGG16_SIZE, param.net_param)
    else:
        import nets

        make, batch = nets.TRAINING[net]
        param.net_param.CopyFrom(make(batch))
    solver = get_solver(param)
    solver.step(1)
    return solver


class Clock:
    """Adds up the seconds spent in functions, by name; `now` returns the present one."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed."""

        def call(*args: Any, **options: Any) -> Any:
            began = self.now()
            try:
                return function(*args, **options)
            finally:
                self.seconds[name] += self.now() - began

        return call


if __name__ == "__main__":
    main()
