"""`minicaffe train --workers N`, and -gpu with several ids: the processes that train together on this machine."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from minicaffe.cli.command import FlagParser
from minicaffe.cli.devices import gpu_ids
from minicaffe.cli.progress import StatusLine, logging_to
from minicaffe.cli.signals import Interrupted, effects_of, requests
from minicaffe.errors import UsageError
from minicaffe.parallel import environment, launcher

log = logging.getLogger("minicaffe")


def worker_flags(flags: FlagParser) -> None:
    """Add --workers, --scale-lr, --warmup and --sync-bn."""
    flags.section("several processes")
    flags.flag("workers", type=int, metavar="N",
               help="train in N processes on the CPU, which divide the cores (--threads: of each) and average their "
                    "gradients; each reads batches of batch_size; for GPUs: -gpu 0,1 or -gpu all")  # fmt: skip
    flags.flag("scale-lr", metavar="RULE", default="", values=("linear",),
               help="linear: multiply base_lr by the number of processes (default: do not)")  # fmt: skip
    flags.flag("warmup", type=int, metavar="N",
               help="with --scale-lr: rise from the solver's base_lr to the scaled one in N iterations")  # fmt: skip
    flags.flag("sync-bn", action="store_true",
               help="BatchNorm: mean and variance over the batches of all processes (default: each over "
                    "its own)")  # fmt: skip


def check_worker_flags(args: argparse.Namespace) -> None:
    """Raise UsageError for wrong values of `worker_flags`."""
    if args.workers is not None and args.workers < 1:
        raise UsageError(f"--workers: expected a number above 0, got {args.workers}")
    if args.workers is not None and args.gpu not in ("", "none"):
        raise UsageError(
            "--workers is for CPUs; -gpu with several ids starts a process for each of them: give one of the two"
        )
    started_by = environment.launcher()
    if args.workers is not None and started_by and not launcher.is_worker():
        raise UsageError(f"--workers: {started_by.name} has started this process among others; leave out --workers")
    if args.scale_lr not in ("", "linear"):
        raise UsageError(f"--scale-lr: expected linear, got '{args.scale_lr}'")
    if args.warmup is not None and not args.scale_lr:
        raise UsageError("--warmup is for --scale-lr linear, which is not given")
    if args.warmup is not None and args.warmup < 1:
        raise UsageError(f"--warmup: expected a number above 0, got {args.warmup}")


def count_to_start(args: argparse.Namespace) -> int:
    """Return how many processes the flags request, if this process is to start them; 1 if it trains itself.

    UsageError for wrong flags, unless this process is one of several: then `check_worker_flags` raises it.
    """
    if environment.launcher():
        return 1
    check_worker_flags(args)
    return args.workers if args.workers is not None else max(len(gpu_ids(args.gpu)), 1)


def run_workers(args: argparse.Namespace, words: list[str], count: int) -> int:
    """Start `count` processes of this command, forward signals to them, and return their exit status.

    words: the command and its flags, from which each worker takes its part by its rank.
    A signal is sent to rank 0 alone, so that it has its effect once; all ranks agree on what it requests.
    """
    threads = args.threads if args.threads is not None else launcher.threads_each(count)
    parts = launcher.slices(count, threads)
    running: list[launcher.Workers] = []
    received: list[int] = []

    def forward(number: int) -> None:
        received.append(number)
        for workers in running:
            workers.send_root(number)

    with logging_to(StatusLine(), args.log), requests(effects_of(args), forward):
        where = "each on cores of its own" if parts else "all on the same cores"
        log.info("Starting %d workers with %d thread%s each, %s", count, threads, "s" if threads > 1 else "", where)
        with launcher.Workers(_program() + words, count, threads, parts) as workers:
            running.append(workers)
            if received:  # before rank 0 was there
                return 128 + received[0]
            try:
                status = workers.wait()
            except Interrupted as second:
                workers.end_soon()
                workers.wait()
                return 128 + second.number
        if workers.killed():
            log.error("%s", workers.killed())
    return status


def _program() -> list[str]:
    """Return the words that start minicaffe, as this process was started."""
    script = sys.argv[0]
    if os.path.basename(script) == "minicaffe" and os.path.isfile(script):
        return [sys.executable, script]
    return [sys.executable, "-m", "minicaffe"]
