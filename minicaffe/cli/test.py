"""`minicaffe test`: score a net's weights on its TEST data."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from minicaffe.cli.class_precision import ClassPrecision
from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.confusion import ENDINGS, Confusion
from minicaffe.cli.devices import computing_on, device_flags
from minicaffe.cli.progress import StatusLine, logging_to
from minicaffe.cli.settings import seed_flag, seeded
from minicaffe.cli.shared_flags import (
    built_net,
    log_flag,
    need_file,
    need_picture,
    need_writable,
    python_layer_flags,
    python_layers_of,
    state_flags,
    weight_files,
)
from minicaffe.cli.worst import Worst
from minicaffe.data.label_map import read_names_of_labels
from minicaffe.errors import UsageError, listed
from minicaffe.pictures.plot import save
from minicaffe.progress.counting import Progress
from minicaffe.proto import TEST
from minicaffe.solvers.average_precision import VERSIONS
from minicaffe.solvers.outputs import MeanAveragePrecision, Outputs, Result

log = logging.getLogger("minicaffe")

_WORST = 40  #: pictures of --worst

_EXAMPLES = """
  minicaffe test --model my_net/train_test.prototxt \\
      --weights my_net/cifar10_quick_iter_5000.caffemodel.h5 --iterations 100
  minicaffe test --model train_test.prototxt --weights net.caffemodel --confusion matrix.png --labels names.txt
  minicaffe test --model train_test.prototxt --weights net.caffemodel --per-class --worst worst.png --rgb
  minicaffe test --model ssd_test.prototxt --weights ssd.caffemodel --per-class --ap-version 11point
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
               help="the confusion matrix, written to FILE (.png, .svg, .pdf or .csv), or printed, with the scores of "
                    "--per-class")  # fmt: skip
    flags.flag("per-class", nargs="?", const="-", metavar="FILE",
               help="precision, recall, F1 and top-5 of each class, and their averages, printed or written to FILE "
                    "(.csv); of a detector, average precision")  # fmt: skip
    flags.flag("ap-version", default="Integral", choices=list(VERSIONS),
               help="how the average precision of a detector is computed (default Integral)")  # fmt: skip
    flags.flag(
        "worst",
        metavar="FILE",
        help="a sheet of the pictures with the least probability of their true class (.png, .svg or .pdf)",
    )
    flags.flag("worst-count", type=int, default=_WORST, metavar="N", help=f"how many of them (default {_WORST})")
    flags.switch("rgb", "for --worst: the net takes RGB, as those of CIFAR-10 do, not BGR")
    flags.flag(
        "labels",
        metavar="FILE",
        help="class names for --confusion, --per-class and --worst, one a line; "
        "of a detector, its label map (.prototxt)",
    )
    log_flag(flags)


@command("test", "Train and measure", "score a net's weights on its test data", _flags, _EXAMPLES)
def test(args: argparse.Namespace) -> None:
    """Log each output of each batch, then the means over all batches, in Caffe's format.

    An output of DetectionEvaluate has one value, mAP over all batches.
    """
    need_file(args.model, "-model", "a model definition to score")
    if not args.weights:
        raise UsageError("need model weights to score: give -weights FILE")
    files = weight_files(args.weights)
    if args.iterations < 1:
        raise UsageError(f"-iterations: expected a number above 0, got {args.iterations}")
    _check_flags(args)
    status = StatusLine()
    with logging_to(status, args.log), python_layers_of(args), seeded(args), computing_on(args):
        net = built_net(args, TEST, files)
        _warn_of_inputs(net)
        detections = detections_of(net, args.ap_version)
        flag = "--confusion" if args.confusion else "--per-class"
        by_class = args.per_class and not detections
        matrix = Confusion(net, args.labels, flag) if args.confusion or by_class else None
        worst = Worst(net, args.worst_count, args.labels) if args.worst else None
        names = read_names_of_labels(args.labels).display_names if args.labels and detections else {}
        score(net, args.iterations, status, [each for each in (matrix, worst) if each], detections)
        if matrix:
            _show(matrix, args)
        elif args.per_class:
            ClassPrecision(detections, names).show(args.per_class)
        if worst:
            save(worst.figure(bgr=not args.rgb), args.worst)
            print_line(f"Drew the worst pictures to {args.worst}")


def _check_flags(args: argparse.Namespace) -> None:
    """Raise UsageError or DataError for a flag whose value cannot be used, before the net is built."""
    if args.worst_count < 1:
        raise UsageError(f"--worst-count: expected a number above 0, got {args.worst_count}")
    if args.confusion not in (None, "-"):
        need_writable(args.confusion, "--confusion", ENDINGS)
    if args.per_class not in (None, "-"):
        need_writable(args.per_class, "--per-class", [".csv"])
    if args.worst:
        need_picture(args.worst)
    if args.labels:
        need_file(args.labels, "--labels", "class names")
        if not (args.confusion or args.per_class or args.worst):
            raise UsageError("--labels names the classes of --confusion, --per-class and --worst: give one of them")


def _warn_of_inputs(net) -> None:
    """Log a warning for inputs of the net, such as those of a deploy.prototxt: this command gives them no data."""
    if net.inputs:
        log.warning(
            "no data layer sets the input %s of the net, which is zero in every batch: give the prototxt with the TEST "
            "data, such as train_test.prototxt, or run images through this one with `minicaffe infer`",
            listed(f"'{name}'" for name in net.inputs),
        )


def _show(matrix: Confusion, args: argparse.Namespace) -> None:
    """Show the confusion matrix and the scores of each class, the latter once if both are printed."""
    if args.confusion:
        matrix.show(args.confusion)
    if args.per_class and (args.per_class, args.confusion) != ("-", "-"):
        matrix.scores.show(args.per_class)


class View(Protocol):
    """What is computed from every batch of a test beside the means of its outputs."""

    def add_batch(self) -> None:
        """Take what it needs from the net's current batch."""


def score(
    net, iterations: int, status: StatusLine, views: Sequence[View] = (), detections: Mapping[str, Result] | None = None
) -> dict[tuple[str, int], float]:
    """Run `iterations` batches, log the lines of `caffe test`, and return the mean of each value of each output.

    views: called after each batch.  detections: {output of DetectionEvaluate: its mAP}, those of `detections_of` if it
        is None (default); their values are not logged batch by batch.
    """
    log.info("Running for %d iterations.", iterations)
    results = Outputs(net, detections_of(net) if detections is None else detections)
    loss = 0.0
    with Progress("testing", iterations, "batches", status) as progress:
        for i in range(iterations):
            net.run_forward()
            loss += net.loss()
            results.add_batch()
            for name in net.outputs:
                for value in [] if name in results.special else net.blobs[name].read_data().ravel().tolist():
                    log.info("Batch %d, %s = %.6g", i, name, value)
            for view in views:
                view.add_batch()
            progress(i + 1)
    log.info("Loss: %.6g", loss / iterations)
    means = {(name, k): mean for name, values in results.scores().items() for k, mean in enumerate(values)}
    for (name, _), mean in means.items():
        weight = net.blob_loss_weights.get(name, 0.0)
        note = f" (* {weight:.6g} = {weight * mean:.6g} loss)" if weight else ""
        log.info("%s = %.6g%s", name, mean, note)
    return means


def detections_of(net, version: str = "Integral") -> dict[str, MeanAveragePrecision]:
    """Return the mAP, before any batch, of each output of the net that a DetectionEvaluate layer makes.

    version: how average precision is computed, one of `VERSIONS`.
    """
    tops = {top for layer in net.layers if layer.type == "DetectionEvaluate" for top in layer.layer_param.top}
    return {name: MeanAveragePrecision(name, version) for name in net.outputs if name in tops}
