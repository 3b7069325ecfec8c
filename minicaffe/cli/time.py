"""`minicaffe time`: measure the time of each layer of a net, forward and backward."""

from __future__ import annotations

import argparse
import logging
import time as clock

from minicaffe.cli.command import FlagParser, command
from minicaffe.cli.devices import computing_on, device_flags
from minicaffe.cli.progress import StatusLine, logging_to
from minicaffe.cli.settings import seed_flag, seeded
from minicaffe.cli.shared_flags import (
    built_net,
    log_flag,
    need_file,
    python_layer_flags,
    python_layers_of,
    state_flags,
    weight_files,
)
from minicaffe.core.settings import settings
from minicaffe.errors import UsageError
from minicaffe.progress.counting import Progress
from minicaffe.progress.display import Display
from minicaffe.proto import TEST, TRAIN

log = logging.getLogger("minicaffe")

_EXAMPLES = """
  minicaffe time --model my_net/train_test.prototxt --iterations 20
  minicaffe time --model my_net/deploy.prototxt --phase TEST -gpu 0
""".strip("\n")


def _flags(flags: FlagParser) -> None:
    flags.section("what to time")
    flags.flag("model", metavar="FILE", default="", help="the net's prototxt")
    flags.flag("weights", metavar="FILES", default="", help="start from these .caffemodel files (default: the fillers)")
    flags.flag("iterations", type=int, default=50, metavar="N", help="how many passes (default 50)")
    flags.flag("phase", default="", metavar="PHASE", values=("TRAIN", "TEST"), help="TRAIN (the default) or TEST")
    seed_flag(flags)
    state_flags(flags)
    python_layer_flags(flags)
    device_flags(flags)
    flags.section("what to see")
    log_flag(flags)


@command("time", "Train and measure", "time a net's layers, forward and backward", _flags, _EXAMPLES)
def time(args: argparse.Namespace) -> None:
    """Run one warm-up pass, then log the averages over all iterations per layer and in total, in Caffe's format.

    On a GPU the times are measured by CUDA events, and the device memory in use is logged.
    """
    need_file(args.model, "-model", "a model definition to time")
    files = weight_files(args.weights) if args.weights else []
    phases = {"": TRAIN, "TRAIN": TRAIN, "TEST": TEST}
    if args.phase not in phases:
        raise UsageError(f'-phase must be "TRAIN" or "TEST", got \'{args.phase}\'')
    if args.iterations < 1:
        raise UsageError(f"-iterations: expected a number above 0, got {args.iterations}")
    status = StatusLine()
    with logging_to(status, args.log), python_layers_of(args), seeded(args), computing_on(args):
        benchmark(built_net(args, phases[args.phase], files), args.iterations, status)


def benchmark(net, iterations: int, display: Display) -> None:
    """Time the net and log the lines of `caffe time`; display: for the number of iterations that are done."""
    log.info("Performing Forward")
    net.run_forward()
    log.info("Initial loss: %.6g", net.loss())
    log.info("Performing Backward")
    net.run_backward()
    log.info("*** Benchmark begins ***")
    log.info("Testing for %d iterations.", iterations)
    forward, backward = [0.0] * len(net.layers), [0.0] * len(net.layers)
    stopwatch = settings.engine.stopwatch()
    began = clock.perf_counter()
    with Progress("timing", iterations, "iterations", display) as progress:
        for i in range(iterations):
            began_iteration = clock.perf_counter()
            _run_timed(net, stopwatch, forward, backward)
            took = 1000 * (clock.perf_counter() - began_iteration)
            log.info("Iteration: %d forward-backward time: %.6g ms.", i + 1, took)
            progress(i + 1)
    report(net, forward, backward, 1000 * (clock.perf_counter() - began), iterations)


def _run_timed(net, stopwatch, forward: list[float], backward: list[float]) -> None:
    """Run all layers forward and backward; add the milliseconds of each to `forward` and `backward`."""
    count = len(net.layers)
    for k in range(count):
        stopwatch.start()
        net.layers[k].forward(net.bottoms[k], net.tops[k])
        stopwatch.stop(forward, k)
    for k in reversed(range(count)):
        stopwatch.start()
        if net.layer_need_backward[k]:
            net.layers[k].backward(net.tops[k], net.bottom_need_backward[k], net.bottoms[k])
        stopwatch.stop(backward, k)
    stopwatch.finish()


def report(net, forward: list[float], backward: list[float], total: float, iterations: int) -> None:
    """Log the averages; the times given are in milliseconds, summed over all iterations."""
    log.info("Average time per layer: ")
    for k, name in enumerate(net.layer_names):
        log.info("%10s\tforward: %.6g ms.", name, forward[k] / iterations)
        log.info("%10s\tbackward: %.6g ms.", name, backward[k] / iterations)
    log.info("Average Forward pass: %.6g ms.", sum(forward) / iterations)
    log.info("Average Backward pass: %.6g ms.", sum(backward) / iterations)
    log.info("Average Forward-Backward: %.6g ms.", total / iterations)
    log.info("Total Time: %.6g ms.", total)
    if usage := settings.engine.memory_usage():
        log.info("Device memory: %s", ", ".join(f"{key} {value:,} bytes" for key, value in usage.items()))
    log.info("*** Benchmark ends ***")
