"""`minicaffe quickstart`: prepare data, train cifar10_quick and draw its curve, in under five minutes on two cores."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from minicaffe import models
from minicaffe.cli.command import FlagParser, command, own_name, print_line
from minicaffe.cli.devices import computing_on, device_flags
from minicaffe.cli.progress import StatusLine, logging_to
from minicaffe.cli.quickdata import QuickData, find_data
from minicaffe.cli.shared_flags import need_writable
from minicaffe.cli.signals import requests
from minicaffe.errors import UsageError
from minicaffe.files import write_atomically
from minicaffe.models.texts import in_prototxt, texts
from minicaffe.proto import TRAIN

TESTS = 5  #: number of tests, without the one before training
SECONDS = 150.0  #: for training and tests, if they suffice
SHORTEST = 10 * TESTS  #: the fewest iterations that are run, however few seconds are given
LONGEST = 3000  #: the most iterations that a number of seconds gives
CHANCE = 1 / 10  #: accuracy of guessing one of the ten classes

_EXAMPLES = """
  minicaffe quickstart
  minicaffe quickstart --seconds 60 --out runs/short
""".strip("\n")

_SOLVER = """\
# cifar10_quick, shortened to {iterations} iterations: the rate drops to a tenth for the last of them.
net: "{out}/train_test.prototxt"
test_iter: 100
test_interval: {interval}

base_lr: 0.001
lr_policy: "multistep"
gamma: 0.1
stepvalue: {drop}
momentum: 0.9
weight_decay: 0.004

display: {display}
max_iter: {iterations}
snapshot: {iterations}
snapshot_prefix: "{out}/cifar10_quick"
snapshot_format: HDF5
random_seed: 1
"""

_NEXT = """
In {out}/:
  train_test.prototxt, deploy.prototxt, solver.prototxt
{files}

What to try next:
  {me} test --model {out}/train_test.prototxt --iterations 100 \\
      --weights {weights} --confusion{labels}
  {me} draw {out}/train_test.prototxt net.svg
  {me} time --model {out}/train_test.prototxt --iterations 20
  {me} --help"""


def _flags(flags: FlagParser) -> None:
    flags.section("what to do")
    flags.flag("out", metavar="DIR", default="runs/quickstart", help="where to write (default runs/quickstart)")
    flags.flag("data", metavar="DIR", default="data", help="where data sets are, or will be (default data)")
    flags.flag("seconds", type=float, metavar="S",
               help=f"train for about so long, but at least {SHORTEST} iterations (default {SECONDS:g})")  # fmt: skip
    flags.flag("iterations", type=int, metavar="N", help="train for exactly so many iterations instead")
    flags.switch("offline", help="do not try to download CIFAR-10")
    device_flags(flags)


@command("quickstart", "Begin", "make data, train cifar10_quick, draw its curve: a few minutes", _flags, _EXAMPLES)
def quickstart(args: argparse.Namespace) -> None:
    """Use CIFAR-10 if it is in DIR/cifar10 or can be downloaded, else generated images; print which.  Write prototxts,
    snapshots (HDF5), a log and curve.png; print the test accuracy at the end.  A loss that is nan is an error.

    A training step is measured first, and as many iterations are run as there is time for, at least 50; if 50 need more
    than --seconds, their time is printed before the training begins.
    """
    _check(args)
    status = StatusLine()
    os.makedirs(args.out, exist_ok=True)
    curve = need_writable(os.path.join(args.out, "curve.png"))
    data = find_data(args.data, download=not args.offline)
    print_line(f"Data: {data.description}", flush=True)
    log = os.path.join(args.out, "cifar10_quick.log")
    if os.path.exists(log):
        os.unlink(log)
    with logging_to(status, log, quiet=True), computing_on(args):
        iterations, step = plan(args, data)
        print_line(announcement(iterations, step, args), flush=True)
        result = train(args.out, status)
    if not result.iterations:
        print_line("Stopped before the first iteration.")
        return
    draw_curve(log, curve)
    print_line(f"\nTest accuracy {result.accuracy:.4f} (loss {result.loss:.4f}) after {result.iterations} iterations "
               f"on {data.name}.")  # fmt: skip
    if result.accuracy < 1.5 * CHANCE:
        more = "--iterations" if args.iterations else "--seconds"
        print_line(f"This is close to guessing ({CHANCE:g}): the training was too short, give more {more}.")
    print_line(next_steps(args.out, result, data))


def _check(args: argparse.Namespace) -> None:
    """Raise UsageError for numbers with which nothing can be trained."""
    if args.iterations is not None and args.iterations < 1:
        raise UsageError(f"--iterations: expected a number above 0, got {args.iterations}")
    if args.seconds is not None and not 0 < args.seconds < float("inf"):
        raise UsageError(f"--seconds: expected a number above 0, got {args.seconds:g}")


def next_steps(out: str, result: Result, data: QuickData) -> str:
    """Return the last lines: the files that were written, and commands to try on them.  Each file named exists."""
    files = {
        f"cifar10_quick_iter_{result.iterations}.caffemodel.h5": "the weights",
        f"cifar10_quick_iter_{result.iterations}.solverstate.h5": "the solver state, to resume training",
        "cifar10_quick.log": "the log",
        "curve.png": "loss and accuracy over the iterations",
    }
    weights, labels = os.path.join(out, next(iter(files))), f"{data.folder}/classes.txt"
    text = _NEXT.format(
        out=out,
        me=own_name(),
        weights=weights,
        labels=f" --labels {labels}" if os.path.exists(labels) else "",
        files="\n".join(f"  {name:<40}{what}" for name, what in files.items() if os.path.exists(f"{out}/{name}")),
    )
    readme = os.path.join(models.folder("cifar10_quick"), "readme.md")
    about = f"\n{readme} documents the full training: 5000 iterations, 75% accuracy on CIFAR-10."
    return text + about if os.path.exists(readme) else text


# -- how long ----------------------------------------------------------------------------------------------------------

#: Time of all tests, 100 forward passes each, in units of one training step.
_TESTS_COST = 40 * (TESTS + 1)


def plan(args: argparse.Namespace, data: QuickData) -> tuple[int, float]:
    """Write the prototxts of net and solver; return the number of iterations, and the seconds per training step."""
    files = texts("cifar10_quick", args.out, {"data/cifar10": data.folder})
    for name in ("train_test.prototxt", "deploy.prototxt"):
        write_atomically(os.path.join(args.out, name), files[name])
    step = seconds_per_step(os.path.join(args.out, "train_test.prototxt"))
    wanted = args.iterations or affordable(args.seconds, step)
    solver = _SOLVER.format(out=in_prototxt(args.out), iterations=wanted, interval=max(wanted // TESTS, 1),
                            drop=round(0.85 * wanted), display=max(wanted // 50, 1))  # fmt: skip
    write_atomically(os.path.join(args.out, "solver.prototxt"), solver)
    return wanted, step


def affordable(seconds: float | None, step: float) -> int:
    """Return how many iterations, and their tests, fit into `seconds`: a multiple of SHORTEST, from it to LONGEST.

    seconds: None for SECONDS.  step: seconds per training step.
    """
    count = int((seconds or SECONDS) / step - _TESTS_COST) // SHORTEST * SHORTEST
    return min(max(count, SHORTEST), LONGEST)


def announcement(iterations: int, step: float, args: argparse.Namespace) -> str:
    """Return the line that gives the time of the training, and that it is more than --seconds, if it is."""
    needed = (iterations + _TESTS_COST) * step
    text = f"A training step takes {1000 * step:.0f} ms here: "
    if args.seconds and not args.iterations and needed > args.seconds:
        return f"{text}the shortest training, {iterations} iterations and their tests, needs about {needed:.0f} s, " \
               f"more than --seconds {args.seconds:g}."  # fmt: skip
    return f"{text}{iterations} iterations and their tests need about {needed / 60:.1f} minutes."


def seconds_per_step(model: str, steps: int = 8, clock: Callable[[], float] = time.perf_counter) -> float:
    """Measure the median time of a forward and a backward pass, after two warm-up passes.

    clock: returns the time in seconds.
    """
    from minicaffe.core.net import Net

    net = Net(model, phase=TRAIN)
    times = []
    for _ in range(steps + 2):
        began = clock()
        net.forward_backward()
        times.append(clock() - began)
    return sorted(times[2:])[steps // 2]


# -- training ----------------------------------------------------------------------------------------------------------


@dataclass
class Result:
    """The newest test scores; an observer of the solver that prints them after each test."""

    status: StatusLine
    iterations: int = 0
    accuracy: float = float("nan")
    loss: float = float("nan")

    def on_test(self, solver, net_id: int, scores: dict[str, list[float]]) -> None:
        """Called after a test: keep its scores and print them."""
        self.iterations, self.accuracy, self.loss = solver.iter, scores["accuracy"][0], scores["loss"][0]
        self.status.clear()
        print_line(f"  iteration {solver.iter:>5}: test accuracy {self.accuracy:.4f}, loss {self.loss:.4f}", flush=True)


def train(out: str, status: StatusLine) -> Result:
    """Train with the solver in `out`; if a signal stops it after the first iteration, test the weights once more."""
    from minicaffe.solvers import get_solver
    from minicaffe.solvers.progress import TrainingProgress

    result = Result(status)
    with requests() as requested:
        solver = get_solver(os.path.join(out, "solver.prototxt"))
        solver.stop_on_nan = True
        solver.observers += [result]
        if status.is_terminal:
            solver.observers.append(TrainingProgress(status, solver))
        solver.action = requested
        solver.solve()
        if result.iterations < solver.iter:  # stopped early, or during the last test
            solver.param.max_iter = solver.param.test_interval = solver.iter
            solver.action = lambda: None
            solver.solve()
    return result


def draw_curve(log: str, picture: str) -> None:
    """Draw loss, accuracy and learning rate over the iterations, as PNG."""
    from minicaffe.pictures.plot import plot_logs, save

    save(plot_logs([log], smooth=3), picture)
