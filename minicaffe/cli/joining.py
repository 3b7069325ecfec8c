"""`minicaffe train` as one of several ranks: joining the others, the learning rate, lines of the log."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shlex
import socket
from collections.abc import Iterator
from typing import Any

from minicaffe import parallel
from minicaffe.cli.command import own_name
from minicaffe.core.settings import set_threads, settings
from minicaffe.cores import cores
from minicaffe.parallel import environment
from minicaffe.threads import THREADS, from_environment

log = logging.getLogger("minicaffe")


@contextlib.contextmanager
def joined(args: argparse.Namespace) -> Iterator[parallel.Group]:
    """Join the ranks that a launcher has started, if one has, until the end of the block; yield their group."""
    was = settings.sync_bn
    with parallel.guarded():
        group = parallel.start()
        settings.sync_bn = args.sync_bn
        try:
            yield group
        finally:
            settings.sync_bn = was


def scale_rate(param: Any, args: argparse.Namespace, count: int) -> None:
    """Multiply the base_lr of a SolverParameter by the number of ranks, if --scale-lr requests it, with its warm-up.

    Source: Goyal et al., Accurate, Large Minibatch SGD, arXiv:1706.02677, sections 2.1 and 2.2.
    """
    if not args.scale_lr:
        return
    base = param.base_lr
    param.base_lr = base * count
    log.info("base_lr: %g x %d rank%s = %g", base, count, "s" if count > 1 else "", param.base_lr)
    if args.warmup is not None:
        param.rampup_interval, param.rampup_lr = args.warmup, base


def divide_threads(args: argparse.Namespace, group: parallel.Group) -> None:
    """Let the ranks that may use the same cores divide them, unless --threads or OMP_NUM_THREADS sets their threads."""
    if group.size == 1:
        return
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    own = [socket.gethostname(), allowed]
    sharing = group.share(group.gather(own)).count(own)
    if args.threads is None and not from_environment():
        set_threads(max(1, cores() // sharing))


def log_ranks(solver: Any) -> None:
    """Log who trains: ranks, how they are connected, threads, and the number of images per update."""
    from minicaffe.solvers.progress import images_per_iteration

    group = solver.ranks.group
    if group.size == 1:
        return
    threads = THREADS.count()
    images = images_per_iteration(solver)
    batch = f"{images // solver.iter_size} x {solver.iter_size} x {group.size} = {images * group.size}"
    log.info(
        "%d ranks over %s, %d thread%s each; effective batch (batch_size x iter_size x ranks): %s",
        group.size, group.name, threads, "s" if threads > 1 else "", batch if images else "unknown",
    )  # fmt: skip


def command_line(words: list[str], count: int) -> str:
    """Return the command that starts `minicaffe train` again with as many ranks; words: its flags.

    With torchrun's variables, whose command is unknown, it is that of one rank.
    """
    program = f"{own_name()} train {shlex.join(words)}"
    started_by = environment.launcher()
    if started_by is None or started_by is environment.TORCHRUN:
        return program
    return f"{'srun' if started_by.name == 'srun' else 'mpiexec'} -n {count} {program}"
