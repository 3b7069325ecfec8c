"""Times trainings over a simulated network, with the gradients summed after the backward pass and in parts during it:

    python benchmarks/overlap.py                                   cifar10_full and LeNet, 2 ranks
    python benchmarks/overlap.py lenet --ranks 4 --bandwidth 100 1000 --latency 0.1

The ranks are processes of this machine.  Each of their sums takes `latency` + bytes / `bandwidth` longer than it does
here: that long the process sleeps, as it would wait for a network card.  Milliseconds of an iteration at rank 0,
medians of `--rounds`; the ways take turns.  hidden: the part of the time for the network that overlap saves.  chosen:
what the mode "auto" chooses.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import nets  # noqa: E402
import numpy as np  # noqa: E402

import minicaffe  # noqa: E402
from minicaffe import parallel  # noqa: E402
from minicaffe.parallel.cost import Cost  # noqa: E402
from minicaffe.parallel.sockets import free_address  # noqa: E402
from minicaffe.proto import caffe_pb2  # noqa: E402
from minicaffe.solvers.overlap import RUNS, Overlap  # noqa: E402

WAYS = ("here", "after", "during")  # without the network; with it, summed after and during the backward pass


class SlowGroup(parallel.Group):
    """A group whose sums take longer by a `Cost`; the process sleeps meanwhile."""

    def __init__(self, group: parallel.Group, cost: Cost) -> None:
        super().__init__(group.rank, group.size)
        self.group, self.cost, self.name = group, cost, f"slow {group.name}"
        self.broadcast, self.waiting = group.broadcast, group.waiting
        self.gather_bytes, self.share_bytes = group.gather_bytes, group.share_bytes

    def sum(self, array: np.ndarray) -> None:
        self.group.sum(array)
        time.sleep(self.cost.seconds(array.nbytes))

    def duplicate(self) -> SlowGroup:
        return SlowGroup(self.group.duplicate(), self.cost)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=["cifar10_full", "lenet"], help="names of training nets")
    parser.add_argument("--ranks", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--batch", type=int, help="of each rank (default: the net's)")
    parser.add_argument("--bandwidth", type=float, nargs="*", default=[10, 30, 100, 1000], help="MB/s")
    parser.add_argument("--latency", type=float, default=0.1, help="ms (default 0.1)")
    parser.add_argument("--rounds", type=int, default=10, help="iterations of each way (default 10)")
    args = parser.parse_args()
    if "RANK" in os.environ:
        race(args)
        return
    port = str(free_address()[1])
    common = {**os.environ, "WORLD_SIZE": str(args.ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]]
    processes = [subprocess.Popen(command, env={**common, "RANK": str(rank)}) for rank in range(args.ranks)]
    if any([process.wait() for process in processes]):
        sys.exit("a rank has failed")


def race(args: argparse.Namespace) -> None:
    """Time all nets and bandwidths in this rank; print them at the root."""
    minicaffe.set_threads(1)
    group = parallel.start()
    if group.root:
        print(f"{'net':14s}{'MB':>7s}{'MB/s':>7s}" + "".join(f"{way:>9s}" for way in WAYS) + "  parts  hidden  chosen")
    for name in args.nets:
        make, default = nets.TRAINING[name]
        net = make(args.batch or default)
        for bandwidth in args.bandwidth:
            slow = SlowGroup(group, Cost(args.latency / 1e3, 1e-6 / bandwidth))
            row = measured(net, group, slow, args.rounds)
            if group.root:
                print(f"{name:14s}{row['MB']:7.2f}{bandwidth:7g}", end="")
                print("".join(f"{1e3 * row[way]:9.1f}" for way in WAYS), end="")
                print(f"{row['parts']:7d}{row['hidden']:8.0%}  {row['chosen']}", flush=True)
    parallel.stop()


def measured(net: caffe_pb2.NetParameter, group: parallel.Group, slow: SlowGroup, rounds: int) -> dict:
    """Return the median seconds of the three ways, and what "auto" chooses, by the titles of columns."""
    solvers = {
        "here": solver_of(net, group, "never"),
        "after": solver_of(net, slow, "never"),
        "during": solver_of(net, slow, "always"),
        "auto": solver_of(net, slow, "auto"),
    }
    for solver in solvers.values():
        solver.step(2)
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            began = time.perf_counter()
            solvers[way].step(1)
            times[way].append(time.perf_counter() - began)
    solvers["auto"].step(2 * RUNS + 2)
    row = {way: statistics.median(times[way]) for way in WAYS}
    row["MB"] = sum(blob.count for blob in solvers["here"].net.learnable_params) * 4e-6
    row["hidden"] = (row["after"] - row["during"]) / (row["after"] - row["here"])
    row["parts"] = solvers["during"].ranks.overlap.parts
    row["chosen"] = "during" if solvers["auto"].ranks.overlap.parts > 1 else "after"
    for solver in solvers.values():
        solver.ranks.overlap.close()
    return row


def solver_of(net: caffe_pb2.NetParameter, group: parallel.Group, mode: str):
    """Return a solver that sums its gradients over a group in one of the modes of `Overlap`."""
    param = caffe_pb2.SolverParameter(base_lr=0.001, lr_policy="fixed", momentum=0.9, random_seed=1, net_param=net)
    solver = minicaffe.get_solver(param)
    solver.ranks.overlap = Overlap(group, mode)
    return solver


if __name__ == "__main__":
    main()
