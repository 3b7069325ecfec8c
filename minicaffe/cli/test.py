"""`minicaffe test`: score a net's weights on its TEST data."""

from __future__ import annotations

import argparse
import logging

from minicaffe.cli.command import FlagParser, command
from minicaffe.cli.confusion import Confusion, check_target
from minicaffe.cli.devices import computing_on, device_flags
from minicaffe.cli.progress import StatusLine, logging_to
from minicaffe.cli.settings import seed_flag, seeded
from minicaffe.cli.shared_flags import (
    built_net,
    log_flag,
    need_file,
    need_writable,
    python_layer_flags,
    python_layers_of,
    state_flags,
    weight_files,
)
from minicaffe.errors import UsageError
from minicaffe.progress.counting import Progress
from minicaffe.proto import TEST

log = logging.getLogger("minicaffe")

_EXAMPLES = """
  minicaffe test --model my_net/train_test.prototxt \\
      --weights my_net/cifar10_quick_iter_5000.caffemodel.h5 --iterations 100
  minicaffe test --model train_test.prototxt --weights net.caffemodel --confusion matrix.png --labels names.txt
""".strip("\n")


def _flags(flags: FlagParser) -> None:
    flags.section("what to score")
    flags.flag("model", metavar="FILE", default="", help="the net's prototxt")
    flags.flag("weights", metavar="FILES", default="", help="its .caffemodel files, comma-separated")
    flags.flag("iterations", type=int, default=50, metavar="N", help="how many batches (default 50)")
    seed_flag(flags)
    state_flags(flags)
    python_layer_flags(flags)
    device_flags(flags)
    flags.section("what to see")
    flags.flag("confusion", nargs="?", const="-", metavar="FILE",
               help="the confusion matrix, printed, or written to FILE: .png, .svg, .pdf or .csv")  # fmt: skip
    flags.flag("labels", metavar="FILE", help="class names for --confusion, one a line")
    log_flag(flags)


@command("test", "Train and measure", "score a net's weights on its test data", _flags, _EXAMPLES)
def test(args: argparse.Namespace) -> None:
    """Log each output of each batch, then the means over all batches, in Caffe's format."""
    need_file(args.model, "model", "a model definition to score")
    if not args.weights:
        raise UsageError("need model weights to score: give -weights FILE")
    files = weight_files(args.weights)
    if args.iterations < 1:
        raise UsageError(f"-iterations: expected a number above 0, got {args.iterations}")
    if args.confusion not in (None, "-"):
        check_target(need_writable(args.confusion))
    status = StatusLine()
    with logging_to(status, args.log), python_layers_of(args), seeded(args), computing_on(args):
        score(built_net(args, TEST, files), args.iterations, status, args.confusion, args.labels)


def score(
    net, iterations: int, status: StatusLine, confusion: str | None = None, labels: str | None = None
) -> dict[tuple[str, int], float]:
    """Run `iterations` batches, log the lines of `caffe test`, and return the mean of each value of each output.

    confusion: where to show the confusion matrix, as of `Confusion.show`; None (default): not computed.
    labels: file of class names for it.
    """
    matrix = Confusion(net, labels) if confusion else None
    log.info("Running for %d iterations.", iterations)
    sums: dict[tuple[str, int], float] = {}
    loss = 0.0
    with Progress("testing", iterations, "batches", status) as progress:
        for i in range(iterations):
            net.run_forward()
            loss += net.loss()
            for name in net.outputs:
                for k, value in enumerate(net.blobs[name].read_data().ravel().tolist()):
                    sums[name, k] = sums.get((name, k), 0.0) + value
                    log.info("Batch %d, %s = %.6g", i, name, value)
            if matrix:
                matrix.add_batch()
            progress(i + 1)
    log.info("Loss: %.6g", loss / iterations)
    means = {key: total / iterations for key, total in sums.items()}
    for (name, _), mean in means.items():
        weight = net.blob_loss_weights.get(name, 0.0)
        note = f" (* {weight:.6g} = {weight * mean:.6g} loss)" if weight else ""
        log.info("%s = %.6g%s", name, mean, note)
    if matrix and confusion:
        matrix.show(confusion)
    return means
