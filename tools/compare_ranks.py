#!/usr/bin/env python
"""Compare trainings of several processes with those of one process that has the same records in one batch.

python tools/compare_ranks.py                                   # LeNet and cifar10_full, 2 and 4 processes, 60 updates
python tools/compare_ranks.py --nets lenet --types SGD Adam --engines CAFFE ONEDNN --batch 32
python tools/compare_ranks.py --records data/cifar10_train_lmdb --nets cifar10_full

Prints the largest difference of the losses (of the processes: the mean of theirs) in the first 4 updates and in all,
and of the parameters after the last, relative to their norms.  Exit status 1 if processes do not have the same
parameters to the bit, or losses differ by more than 1e-6 in the first 4 updates or 1e-3 in all.
"""

from __future__ import annotations

import argparse
import itertools
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from helpers.equal_training import (  # noqa: E402  (needs the line above)
    SHAPES,
    Trained,
    differences,
    model_solver,
    together,
    trained,
    write_records,
)
from minicaffe import parallel  # noqa: E402

RULES = {
    "AdaGrad": {"base_lr": 0.001},
    "RMSProp": {"base_lr": 0.0001, "rms_decay": 0.98},
    "AdaDelta": {"base_lr": 1.0, "momentum": 0.95, "delta": 1e-6},
    "Adam": {"base_lr": 0.0001, "momentum": 0.9, "momentum2": 0.999},
}
COUNT = 1000  #: records of a database that is written here


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare trainings of several processes with those of one.")
    parser.add_argument("--nets", nargs="+", default=["lenet", "cifar10_full"], choices=SHAPES, help="of models/")
    parser.add_argument("--ranks", nargs="+", type=int, default=[2, 4], help="numbers of processes (default 2 4)")
    parser.add_argument("--types", nargs="+", default=["SGD"], choices=["SGD", "Nesterov", *RULES], help="solver types")
    parser.add_argument("--engines", nargs="+", default=["DEFAULT"], help="as for set_engine")
    parser.add_argument("--batch", type=int, default=16, help="of each process (default 16)")
    parser.add_argument("--updates", type=int, default=60, help="(default 60)")
    parser.add_argument("--sync-bn", action="store_true", help="exchange the statistics of BatchNorm")
    parser.add_argument("--records", type=Path, help="an LMDB for all nets (default: random images)")
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        train_as_a_rank(args, *args.child)
        return
    print("net              ranks batch engine  type        losses, 4  losses, all  parameters")
    with tempfile.TemporaryDirectory() as folder:
        wrong = [
            case
            for case in itertools.product(args.nets, args.engines, args.types, args.ranks)
            if not compare(args, Path(folder), *case)
        ]
    raise SystemExit(1 if wrong else 0)


def compare(args: argparse.Namespace, folder: Path, net: str, engine: str, kind: str, size: int) -> bool:
    """Print the line of one comparison; return whether the trainings are equal enough."""
    records = args.records or folder / net
    if not records.exists():
        write_records(records, net, COUNT)
    one = run(args, folder, 1, net, records, size * args.batch, engine, kind)[0]
    ranks = run(args, folder, size, net, records, args.batch, engine, kind)
    same = len({rank.digest for rank in ranks}) == 1
    found = together(ranks if same else ranks[:1])
    first = np.abs(np.subtract(found.losses, one.losses))[:4].max()
    losses, parameters = differences(found, one)
    case = f"{net:<16} {size:>5} {args.batch:>5} {engine:<7} {kind:<10}"
    fault = "" if same else "  the processes differ"
    print(f"{case} {first:>10.1e}   {losses:>10.1e}  {parameters:>10.1e}{fault}", flush=True)
    return same and first <= 1e-6 and losses <= 1e-3


def run(args: argparse.Namespace, folder: Path, size: int, *case: object) -> list[Trained]:
    """Train in `size` processes; return what each has."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    options = ["--updates", str(args.updates), *(["--sync-bn"] if args.sync_bn else [])]
    outputs = [folder / f"rank{rank}.npz" for rank in range(size)]
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, *options, "--child", str(output), *map(str, case)],
            env={**os.environ, **shared, "RANK": str(rank)},
        )
        for rank, output in enumerate(outputs)
    ]
    if any([process.wait() for process in processes]):
        raise SystemExit("a process failed")
    return [loaded(output) for output in outputs]


def loaded(path: Path) -> Trained:
    with np.load(path) as file:
        return Trained(file["losses"].tolist(), [file[f"arr_{i}"] for i in range(len(file) - 1)])


def train_as_a_rank(
    args: argparse.Namespace, output: str, net: str, records: str, batch: str, engine: str, kind: str
) -> None:
    """Train in a process that `run` has started, and write what it has."""
    parallel.start()
    fields = {"type": kind, "lr_policy": "fixed", "weight_decay": 0.0005, **RULES[kind]} if kind in RULES else {}
    own = {"sync_bn": True} if args.sync_bn else {}
    solver = model_solver(net, records, int(batch), **fields)
    solver.type = kind
    found = trained(solver, args.updates, engine, **own)
    np.savez(output, *found.parameters, losses=found.losses)
    parallel.stop()


if __name__ == "__main__":
    main()
