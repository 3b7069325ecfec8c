"""`minicaffe train`: train, resume or fine-tune a net with a solver's prototxt."""

from __future__ import annotations

import argparse
import contextlib
import logging

from minicaffe.cli.command import FlagParser, command
from minicaffe.cli.devices import computing_on, device_flags
from minicaffe.cli.progress import StatusLine, TrainingProgress, logging_to
from minicaffe.cli.shared_flags import (
    log_flag,
    need_file,
    python_layer_flags,
    python_layers_of,
    stages,
    state_flags,
    weight_files,
)
from minicaffe.cli.signals import requests, signal_flags
from minicaffe.errors import UsageError

log = logging.getLogger("minicaffe")

_EXAMPLES = """
  minicaffe train --solver models/cifar10_quick/solver.prototxt
  minicaffe train --solver models/cifar10_quick/solver_lr1.prototxt \\
      --snapshot models/cifar10_quick/cifar10_quick_iter_4000.solverstate.h5
  minicaffe train --solver finetune/solver.prototxt --weights pretrained.caffemodel -gpu 0
""".strip("\n")


def _flags(flags: FlagParser) -> None:
    flags.section("what to train")
    flags.flag("solver", metavar="FILE", default="", help="the solver's prototxt")
    flags.flag("snapshot", metavar="FILE", default="",
               help="resume from this .solverstate or .solverstate.h5")  # fmt: skip
    flags.flag("weights", metavar="FILES", default="",
               help="fine-tune: start from these .caffemodel files (comma-separated); not with -snapshot")  # fmt: skip
    state_flags(flags)
    python_layer_flags(flags)
    device_flags(flags)
    signal_flags(flags)
    flags.section("what to see")
    log_flag(flags)
    flags.flag("tensorboard", metavar="DIR", help="write losses, outputs and rates as event files for TensorBoard")


@command("train", "Train and measure", "train a net, resume its training or fine-tune it", _flags, _EXAMPLES)
def train(args: argparse.Namespace) -> None:
    """Write log lines in Caffe's format, so log parsers work; on a terminal, a progress bar is shown below them.

    Snapshots are written to the solver's snapshot_prefix.  Ctrl-C stops after a snapshot; --snapshot resumes from it.
    """
    need_file(args.solver, "solver", "a solver definition to train")
    if args.snapshot and args.weights:
        raise UsageError("give -snapshot to resume training or -weights to fine-tune, but not both")
    if args.snapshot:
        need_file(args.snapshot, "snapshot", "a solver state")
    files = weight_files(args.weights) if args.weights else []
    status = StatusLine()
    with logging_to(status, args.log), python_layers_of(args, logging.INFO):
        from minicaffe.solvers import nets

        source = nets.load(args.solver)
        param = source.param
        param.train_state.level = args.level
        param.train_state.stage.extend(stages(args))
        if args.snapshot or files:
            param.weights[:] = files  # replace the solver's own
        with computing_on(args, solver_gpu(param), single=False):
            run(source, args, status)


def solver_gpu(param) -> str | None:
    """Return the solver's device_id, as text, if it sets `solver_mode: GPU`; None otherwise, or if it is unset."""
    if param.HasField("solver_mode") and param.solver_mode == param.GPU:
        return str(param.device_id)
    return None


def run(source, args: argparse.Namespace, status: StatusLine):
    """Build the solver, with its weights, restore the snapshot if given, and train to the end; return the solver.

    source: the argument of `get_solver`: a SolverParameter, a path, or a Source.
    """
    from minicaffe.core.sharing import Sharing
    from minicaffe.solvers import get_solver

    with requests(args.sigint_effect, args.sighup_effect) as action:
        solver = get_solver(source)
        solver.action = action
        for net in (solver.net, *solver.test_nets):
            net.share_memory(Sharing.FORGET)  # nothing reads the blobs that lose their values
        if args.snapshot:
            log.info("Resuming from %s", args.snapshot)
            solver.restore(args.snapshot)
        with contextlib.ExitStack() as stack:
            if status.is_terminal:
                solver.observers.append(TrainingProgress(status, solver))
            if args.tensorboard:
                from minicaffe.cli.tensorboard import EventWriter

                solver.observers.append(stack.enter_context(EventWriter(args.tensorboard)))
            log.info("Starting Optimization")
            solver.solve()
        log.info("Optimization Done.")
    return solver
