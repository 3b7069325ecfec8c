"""Measures how OpenMP's threads wait, on the CPU: alone, beside another process, and in several Python threads:

    python benchmarks/threads.py                            all of it
    python benchmarks/threads.py alone --nets lenet --rounds 20
    python benchmarks/threads.py together beside --spins 1000 20000

alone     one process at a time computes: milliseconds a step by spin count (GOMP_SPINCOUNT, how often a worker looks
          for work before it sleeps)
together  two processes with the same spin count at once: their throughput, where 1.00 is that of one process alone
beside    minicaffe and PyTorch (channels_last, libgomp's default of 300,000) at once: how many times as long a step
          takes
python    two nets in two Python threads of one process, each with all cores or with its share of them

The processes take turns, so that a machine that is busy now and then is so for all of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import threading
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import contestants  # noqa: E402
import nets  # noqa: E402
import numpy as np  # noqa: E402
from contestants.process import Process  # noqa: E402

from minicaffe.cores import cores  # noqa: E402

_PAUSE = 0.02  # seconds between turns: the workers of the previous process may spin for a while before they sleep
_TORCH = "PyTorch channels_last"


class Turns:
    """Processes that run one net, and the seconds of their steps by process and kind of turn."""

    def __init__(self, net: str, threads: int, batch: int | None) -> None:
        training = net in nets.TRAINING
        make, default = nets.TRAINING[net] if training else (nets.INFERENCE[net], 1)
        self._build = ("build", make(batch or default).SerializeToString(), training)
        self._threads = threads
        self.times: dict[tuple[Process, str], list[float]] = {}

    def process(self, name: str, spins: int | None = None) -> Process:
        """Start a contestant whose workers wait for `spins` rounds; None: by its default."""
        environment = {} if spins is None else {"GOMP_SPINCOUNT": str(spins)}
        process = Process(name, contestants.CPU, self._threads, environment=environment)
        process.ask(*self._build)
        process.ask("run", 3)
        return process

    def take(self, kind: str, seconds: float, *processes: Process) -> None:
        """Let processes compute at once for some seconds."""
        time.sleep(_PAUSE)
        for process in processes:
            process.send("run_for", seconds)
        for process in processes:
            self.times.setdefault((process, kind), []).extend(process.receive()[0][1:])

    def median(self, process: Process, kind: str) -> float:
        """Seconds of a step."""
        return statistics.median(self.times[process, kind])


def alone(net: str, args: argparse.Namespace) -> None:
    """Print milliseconds of a step by spin count, of processes that compute one after the other."""
    turns = Turns(net, args.threads, args.batch)
    field = {spins: turns.process("minicaffe", spins) for spins in args.spins}
    for _ in range(args.rounds):
        for process in field.values():
            turns.take("alone", args.seconds, process)
    print(f"\n{net}, alone, {args.threads} threads: milliseconds a step")
    print(f"  {'spins':>8s}{'least':>9s}{'5 %':>9s}{'25 %':>9s}{'median':>9s}")
    for spins, process in field.items():
        times = [1e3 * float(q) for q in np.percentile(turns.times[process, "alone"], [0, 5, 25, 50])]
        print(f"  {spins:8d}" + "".join(f"{ms:9.2f}" for ms in times), flush=True)
        process.end()


def together(net: str, args: argparse.Namespace) -> None:
    """Print the throughput of two processes with one spin count, relative to that of one of them alone."""
    turns = Turns(net, args.threads, args.batch)
    field = {spins: [turns.process("minicaffe", spins) for _ in range(2)] for spins in args.spins}
    for _ in range(args.rounds):
        for first, second in field.values():
            turns.take("alone", args.seconds, first)
            turns.take("together", args.seconds, first, second)
    print(f"\n{net}, two processes of {args.threads} threads each: milliseconds a step, throughput of both")
    print(f"  {'spins':>8s}{'alone':>9s}{'together':>10s}{'throughput':>12s}")
    for spins, (first, second) in field.items():
        once = turns.median(first, "alone")
        both = [turns.median(process, "together") for process in (first, second)]
        print(
            f"  {spins:8d}{1e3 * once:9.2f}{1e3 * sum(both) / 2:10.2f}{sum(once / t for t in both):12.2f}", flush=True
        )
        first.end()
        second.end()


def beside(net: str, args: argparse.Namespace) -> None:
    """Print how many times as long a step takes beside PyTorch, for minicaffe and for PyTorch, by spin count."""
    turns = Turns(net, args.threads, args.batch)
    torch = turns.process(_TORCH)
    field = {spins: turns.process("minicaffe", spins) for spins in args.spins}
    for _ in range(args.rounds):
        for spins, ours in field.items():
            turns.take("alone", args.seconds, ours)
            turns.take("alone", args.seconds, torch)
            turns.take("together", args.seconds, ours, torch)
            turns.times.setdefault((torch, str(spins)), []).extend(turns.times.pop((torch, "together")))
    print(f"\n{net}, beside {_TORCH}, {args.threads} threads each: a step together / alone")
    print(f"  {'spins':>8s}{'minicaffe':>12s}{'PyTorch':>10s}{'throughput':>12s}")
    for spins, ours in field.items():
        slower = turns.median(ours, "together") / turns.median(ours, "alone")
        theirs = turns.median(torch, str(spins)) / turns.median(torch, "alone")
        print(f"  {spins:8d}{slower:12.2f}{theirs:10.2f}{1 / slower + 1 / theirs:12.2f}", flush=True)
        ours.end()
    torch.end()


class TwoNets(contestants.CpuMinicaffe):
    """Two nets, which two Python threads run at once."""

    def make(self, param) -> None:
        super().make(param)
        self.other = contestants.CpuMinicaffe(self.variant, self.threads)
        self.other.training = self.training
        self.other.make(param)

    def run_for(self, seconds: float) -> list[float]:
        """Seconds of each step, of both nets."""
        times: list[list[float]] = [[], []]

        def work(i: int, run_for) -> None:
            times[i] = run_for(seconds)

        workers = [
            threading.Thread(target=work, args=(i, run_for))
            for i, run_for in enumerate((super().run_for, self.other.run_for))
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return times[0][1:] + times[1]


def python(net: str, args: argparse.Namespace) -> None:
    """Print milliseconds of a step of two nets in two Python threads, each with all cores, or with half of them."""
    turns = Turns(net, args.threads, args.batch)
    table = {**contestants.CPU, "two nets": (TwoNets, "ONEDNN", "minicaffe", True)}
    field = {}
    for threads in (args.threads, max(1, args.threads // 2)):
        field[threads] = process = Process("two nets", table, threads)
        process.ask(*turns._build)
    for _ in range(args.rounds):
        for process in field.values():
            turns.take("both", args.seconds, process)
    print(f"\n{net}, two nets in two Python threads: milliseconds a step of each")
    for threads, process in field.items():
        print(f"  {threads} threads for each{1e3 * turns.median(process, 'both'):9.2f}", flush=True)
        process.end()


MODES = {"alone": alone, "together": together, "beside": beside, "python": python}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modes", nargs="*", help=f"of {', '.join(MODES)}; all unless given")
    parser.add_argument("--nets", nargs="*", default=["cifar10_full", "lenet", "mobilenet"], help="see nets.py")
    parser.add_argument("--batch", type=int, help="default: as in benchmarks/nets.py, for inference 1")
    parser.add_argument("--spins", type=int, nargs="*", default=[100, 1000, 5000, 20000, 100000], help="spin counts")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each process (20)")
    parser.add_argument("--seconds", type=float, default=0.4, help="length of a turn (0.4)")
    parser.add_argument("--threads", type=int, default=cores(), help="all cores unless given")
    args = parser.parse_args()
    if unknown := set(args.modes) - set(MODES):
        parser.error(f"unknown modes {', '.join(sorted(unknown))}; known are {', '.join(MODES)}")
    for mode in args.modes or MODES:
        for net in args.nets:
            if mode != "beside" or contestants.installed(contestants.CPU[_TORCH]):
                MODES[mode](net, args)


if __name__ == "__main__":
    main()
