"""`minicaffe train`: train, resume or fine-tune a net with a solver's prototxt."""

from __future__ import annotations

import argparse
import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

from minicaffe import parallel
from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.devices import computing_on, device_flags, gpu_ids, solver_gpu
from minicaffe.cli.joining import command_line, divide_threads, joined, log_ranks, scale_rate
from minicaffe.cli.progress import StatusLine, logging_to
from minicaffe.cli.settings import apply, seed_flag, set_flag, settings_of
from minicaffe.cli.shared_flags import (
    log_flag,
    need_file,
    python_layer_flags,
    python_layers_of,
    stages,
    state_flags,
    weight_files,
)
from minicaffe.cli.signals import Received, effects_of, requests, signal_flags
from minicaffe.cli.workers import check_worker_flags, count_to_start, run_workers, worker_flags
from minicaffe.errors import SolverError, UsageError, listed
from minicaffe.parallel import environment

log = logging.getLogger("minicaffe")

_EXAMPLES = """
  minicaffe models cifar10_quick my_net
  minicaffe train --solver my_net/solver.prototxt
  minicaffe train --solver my_net/solver_lr1.prototxt \\
      --snapshot my_net/cifar10_quick_iter_4000.solverstate.h5
  minicaffe train --solver finetune/solver.prototxt --weights pretrained.caffemodel -gpu 0
  minicaffe train --solver my_net/solver.prototxt --set base_lr=0.0005 --set max_iter=2000 --seed 7
  minicaffe train --solver my_net/solver.prototxt --workers 4
  mpiexec -n 4 minicaffe train --solver my_net/solver.prototxt --scale-lr linear --warmup 500
""".strip("\n")


def _flags(flags: FlagParser) -> None:
    flags.section("what to train")
    flags.flag("solver", metavar="FILE", default="", help="the solver's prototxt")
    flags.flag("snapshot", metavar="FILE", default="",
               help="resume from this .solverstate or .solverstate.h5; auto: from the newest whole snapshot of the "
                    "solver's snapshot_prefix, or start if there is none")  # fmt: skip
    flags.flag("weights", metavar="FILES", default="",
               help="fine-tune: start from these .caffemodel files (comma-separated); "
                    "not with -snapshot FILE")  # fmt: skip
    set_flag(flags)
    seed_flag(flags, "that of the solver")
    flags.switch("stop_on_nan", "stop with an error when the loss is nan or infinite, before the update")
    flags.section("what to keep")
    flags.flag("keep", type=int, metavar="N", help="keep the newest N snapshots and remove older ones (default: all)")
    flags.flag("best", metavar="OUTPUT",
               help="write the weights with the best test score to <snapshot_prefix>_best.caffemodel; OUTPUT is an "
                    "output of a test net, such as accuracy; OUTPUT:smaller or OUTPUT:larger sets which values are "
                    "better (smaller for outputs with a loss weight, larger for others)")  # fmt: skip
    flags.flag("patience", type=int, metavar="N",
               help="stop, after a snapshot, when N tests in succession do not improve --best")  # fmt: skip
    state_flags(flags)
    python_layer_flags(flags)
    device_flags(flags)
    worker_flags(flags)
    signal_flags(flags)
    flags.section("what to see")
    log_flag(flags)
    flags.flag("tensorboard", metavar="DIR", help="write losses, outputs and rates as event files for TensorBoard")
    flags.switch("tensorboard_histograms", "with --tensorboard: also histograms of weights and gradients, and norms of "
                                           "gradients, at each display")  # fmt: skip


@command("train", "Train and measure", "train a net, resume its training or fine-tune it", _flags, _EXAMPLES)
def train(args: argparse.Namespace) -> int:
    """Write log lines in Caffe's format, so log parsers work; on a terminal, a progress bar is shown below them.

    Snapshots are written to the solver's snapshot_prefix, in a folder that exists.  Ctrl-C or SIGTERM stops after a
    snapshot, with exit status 0; --snapshot resumes from it.  A second one stops at once, with status 130 or 143.
    The last line of an unfinished run, on standard output, is the command that resumes it.

    Several processes train together with --workers, with several ids of -gpu, or when mpiexec, srun or torchrun start
    the command: each reads its share of the data in batches of batch_size, and gradients are averaged before an update.
    """
    count = count_to_start(args)
    if count > 1:
        _check_before_start(args)
        return run_workers(args, ["train", *_words(args)], count)
    with requests(effects_of(args)) as action, joined(args) as group:
        check_worker_flags(args)
        files = _check_files(args, group.root)
        status = StatusLine()
        with logging_to(status, args.log if group.root else None), python_layers_of(args, logging.INFO):
            from minicaffe.solvers import nets

            source = apply(nets.load(args.solver), args)
            param = source.param
            param.train_state.level = args.level
            param.train_state.stage.extend(stages(args))
            resume_from = _snapshot_of(args, param) if group.root else ""
            if resume_from or files:
                param.weights[:] = [] if resume_from else files  # replace the solver's own
            scale_rate(param, args, group.size)
            with computing_on(args, solver_gpu(param), environment.local_rank(group)):
                divide_threads(args, group)
                run(source, args, status, action, resume_from)
    return 0


def _check_files(args: argparse.Namespace, root: bool) -> list[str]:
    """Return the files of -weights; UsageError for flags that exclude each other and for files that do not exist.

    root: whether this process reads the snapshot and the weights; otherwise they are not checked, and [] is returned.
    """
    need_file(args.solver, "-solver", "a solver definition to train")
    settings_of(args)
    if args.tensorboard_histograms and not args.tensorboard:
        raise UsageError("--tensorboard_histograms needs --tensorboard DIR")
    if args.snapshot not in ("", "auto"):
        if args.weights:
            raise UsageError("give -snapshot to resume training or -weights to fine-tune, but not both")
        if root:
            need_file(args.snapshot, "-snapshot", "a solver state")
    return weight_files(args.weights) if args.weights and root else []


def _check_before_start(args: argparse.Namespace) -> None:
    """Raise the error of flags, files and devices that workers would raise."""
    from minicaffe.cuda import context
    from minicaffe.solvers import nets

    for index in gpu_ids(args.gpu):
        context.check(index)
    _check_files(args, root=True)
    source = apply(nets.load(args.solver), args)
    nets.SolverNets(source)
    if args.workers is not None and not args.gpu and solver_gpu(source.param) is not None and context.device_count():
        raise UsageError(
            "--workers is for CPUs, and the solver sets solver_mode: GPU; -gpu none trains on CPUs, -gpu 0,1 on GPUs"
        )


def _words(args: argparse.Namespace) -> list[str]:
    """Return the words of flags that parse to `args`."""
    flags = FlagParser("train")
    _flags(flags)
    return flags.words(args)


def _snapshot_of(args: argparse.Namespace, param: Any) -> str:
    """Return the path of the solver state from which to resume; "" for none."""
    return newest_snapshot(param.snapshot_prefix) if args.snapshot == "auto" else args.snapshot


def newest_snapshot(prefix: str) -> str:
    """Return the path of the newest whole snapshot of a prefix; '' if there is none, with a log line."""
    from minicaffe.solvers import snapshot_files

    path = snapshot_files.newest(prefix)
    if not path:
        log.info("There is no whole snapshot of '%s': training starts", prefix)
    return path or ""


def run(source: Any, args: argparse.Namespace, status: StatusLine, action: Received, resume_from: str = "") -> None:
    """Build the solver, with its weights, restore the snapshot if given, and train to the end.

    source: the argument of `get_solver`: a SolverParameter, a path, or a Source.
    action: the solver's `action`.
    resume_from: path of a solver state; '' (default): none.
    """
    from minicaffe.core.sharing import Sharing
    from minicaffe.solvers import get_solver

    root = parallel.current().root
    with contextlib.ExitStack() as stack:
        observers: list[Any] = []
        if root:
            check_snapshots(source.param, "snapshot" in effects_of(args).values())
        if root and args.tensorboard:
            from minicaffe.cli.tensorboard import EventWriter

            observers.append(stack.enter_context(EventWriter(args.tensorboard, args.tensorboard_histograms)))
        solver = get_solver(source)
        solver.action, solver.stop_on_nan = action, args.stop_on_nan
        for net in (solver.net, *solver.test_nets):
            net.share_memory(Sharing.FORGET)  # nothing reads the blobs that lose their values
        if solver.ranks.several:
            solver.observers.append(action)
        if not root:
            solver.solve()
            return
        _prepare(solver, args, status, observers, resume_from)
        log_findings(source, resume_from, solver.iter)
        log_ranks(solver)
        log.info("Starting Optimization")
        with printing_how_to_resume(solver, args, status):
            solver.solve()
        log.info("Optimization Done.")


def _prepare(solver: Any, args: argparse.Namespace, status: StatusLine, observers: list[Any], resume_from: str) -> None:
    """Restore the snapshot, if given, and add the root's observers: `observers`, and those of the flags."""
    from minicaffe.solvers import Keeper
    from minicaffe.solvers.progress import TrainingProgress

    solver.observers.append(Keeper(solver, args.keep, args.best, args.patience))
    if resume_from:
        log.info("Resuming from %s", resume_from)
        solver.restore(resume_from)
    if status.is_terminal:
        observers.append(TrainingProgress(status, solver))
    solver.observers += observers


def log_findings(source: Any, snapshot: str, start: int) -> None:
    """Log the errors and warnings of the static checks (`minicaffe check`) as warnings, one line for each sentence."""
    from minicaffe.checks.finding import grouped
    from minicaffe.checks.running import before_training

    for finding, places in grouped(before_training(source, snapshot, start)):
        if finding.level != "info":
            log.warning("%s: %s (%s in docs/check.md)", listed(places), finding.text, finding.code)


@contextlib.contextmanager
def printing_how_to_resume(solver: Any, args: argparse.Namespace, status: StatusLine) -> Iterator[None]:
    """Print the command that resumes the run, if the block fails or ends before the training is finished.

    It has the flags of this run, and -snapshot with the last solver state, unless that was auto.
    """
    once = threading.Lock()

    def print_it() -> None:
        if solver.last_state and once.acquire(blocking=False):
            again = {} if args.snapshot == "auto" else {"snapshot": solver.last_state, "weights": ""}
            words = _words(argparse.Namespace(**{**vars(args), **again}))
            status.clear()
            log.info("The training is not finished; this command resumes it:")
            print_line(command_line(words, solver.ranks.group.size), flush=True)

    solver.ranks.group.on_loss(print_it)
    try:
        yield
        if not solver.stopped and solver.iter >= solver.param.max_iter:
            once.acquire()
    finally:
        print_it()


def check_snapshots(param, by_signals: bool) -> None:
    """Check, before anything is computed, that snapshots can be written.

    Raises SolverError if they cannot.  If only signals cause snapshots (`by_signals`: whether any does), this is logged
    as a warning.
    """
    from minicaffe.solvers.snapshot import check_writable

    required = param.snapshot or param.snapshot_after_train
    try:
        if required or by_signals:
            check_writable(param)
    except SolverError as error:
        if required:
            raise
        log.warning("%s, or a signal will write no snapshot", error)
