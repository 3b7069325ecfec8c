"""`minicaffe calibrate`: compute BatchNorm's statistics anew over the training set."""

from __future__ import annotations

import argparse

from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.devices import computing_on, device_flags, solver_gpu
from minicaffe.cli.progress import StatusLine, logging_to
from minicaffe.cli.shared_flags import (
    log_flag,
    need_file,
    need_writable,
    python_layer_flags,
    python_layers_of,
    stages,
    state_flags,
    weight_files,
)
from minicaffe.cli.test import score
from minicaffe.errors import UsageError
from minicaffe.progress.counting import Progress

_EXAMPLES = """
  minicaffe calibrate --solver my_net/solver.prototxt --weights my_net_iter_60000.caffemodel.h5 \\
      calibrated.caffemodel.h5 --test
""".strip("\n")


def _flags(flags: FlagParser) -> None:
    flags.argument("out", metavar="OUT", help="the file to write: .caffemodel, or .caffemodel.h5 for HDF5")
    flags.section("what to compute")
    flags.flag("solver", metavar="FILE", default="", help="the solver's prototxt, for the training net and its data")
    flags.flag("weights", metavar="FILES", default="", help="the trained .caffemodel files, comma-separated")
    flags.flag("iterations", type=int, metavar="N", help="how many batches (default: each record once)")
    flags.switch("sequential", "layer after layer, each behind layers that use their new statistics")
    flags.switch("test", "run the solver's test nets before and after")
    state_flags(flags)
    python_layer_flags(flags)
    device_flags(flags)
    log_flag(flags)


@command(
    "calibrate", "Train and measure", "compute BatchNorm's statistics anew over the training set", _flags, _EXAMPLES
)
def calibrate(args: argparse.Namespace) -> None:
    """Write the weights with the mean and the variance of all values that each BatchNorm reads in one pass over the
    training set, in place of the running averages of training, and print how far those were off."""
    need_file(args.solver, "-solver", "a solver definition, for the training net")
    if not args.weights:
        raise UsageError("need trained weights: give -weights FILE")
    files = weight_files(args.weights)
    need_writable(args.out)
    status = StatusLine()
    with logging_to(status, args.log), python_layers_of(args):
        from minicaffe.calibration import Calibration
        from minicaffe.solvers import nets

        source = nets.load(args.solver)
        source.param.train_state.level = args.level
        source.param.train_state.stage.extend(stages(args))
        with computing_on(args, solver_gpu(source.param)):
            calibration = Calibration(source, *files)
            calibration.check_target(args.out)
            plan = calibration.plan(args.iterations)
            before = _scores(calibration, status) if args.test else []
            with Progress("calibrating", 0, "batches", status) as progress:
                changes = calibration.run(args.iterations, args.sequential, progress)
            after = _scores(calibration, status) if args.test else []
            calibration.save(args.out)
    _print_changes(changes, calibration.frozen)
    for name, old, new in _compared(before, after):
        print_line(f"{name}: {old:.6g} before, {new:.6g} after")
    records = f" of {plan.records} records" if plan.records else ""
    print_line(f"{args.out}: statistics of {len(changes)} layer(s), from {plan.batches} batches{records}")


def _scores(calibration, status: StatusLine) -> list[dict[tuple[str, int], float]]:
    """Return the mean outputs of each test net with the present weights, from the start of its data."""
    from minicaffe.core.net import Net

    scores = []
    for param, iterations in zip(calibration.tests, calibration.test_iter):
        net = Net.of_upgraded(param)
        net.share_with(calibration.net)
        scores.append(score(net, iterations, status))
    return scores


def _compared(before: list[dict], after: list[dict]):
    """Yield (name of an output, value before, value after)."""
    for number, (old, new) in enumerate(zip(before, after)):
        for output, k in old:
            place = f"[{k}]" if (output, 1) in old else ""
            yield f"test net #{number}, {output}{place}", old[output, k], new[output, k]


def _print_changes(changes: list, frozen: list[str]) -> None:
    width = max(len("layer"), *(len(name) for name in (*(change.name for change in changes), *frozen)))
    print_line(f"{'layer':<{width}}  channels  mean off by  old variance / new")
    for change in changes:
        low, high = change.variance_ratios
        text = f"{change.mean_error:8.3g} std  {low:.3g} to {high:.3g}" if change.had_statistics else "   none before"
        print_line(f"{change.name:<{width}}  {change.mean.size:8}  {text}")
    for name in frozen:
        print_line(f"{name:<{width}}  keeps its statistics: use_global_stats is true in training")
