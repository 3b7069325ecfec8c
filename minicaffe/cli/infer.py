"""`minicaffe infer`: run a trained net on images, and write its predictions."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.devices import computing_on, device_flags
from minicaffe.cli.progress import StatusLine
from minicaffe.cli.shared_flags import (
    built_net,
    need_file,
    need_writable,
    python_layer_flags,
    python_layers_of,
    stages,
    state_flags,
    weight_files,
)
from minicaffe.errors import DataError, UsageError
from minicaffe.inference.formats import FORMATS, format_of
from minicaffe.progress.counting import Progress
from minicaffe.proto import TEST
from minicaffe.text import printable

if TYPE_CHECKING:
    import io

    from minicaffe.inference.blocks import Block
    from minicaffe.inference.inputs import Inputs, Preparation
    from minicaffe.inference.predictor import Predictor
    from minicaffe.inference.results import Layout, Rows
    from minicaffe.inference.stream import Batch

_EXAMPLES = """
  minicaffe infer deploy.prototxt net.caffemodel photos/ --like train_val.prototxt --labels names.txt
  minicaffe infer deploy.prototxt net.caffemodel test.txt --preprocess images.prototxt --output scores.csv
  minicaffe infer deploy.prototxt net.caffemodel a.jpg b.png --blob fc7 --output features.npz
  find photos -name '*.jpg' | minicaffe infer deploy.prototxt net.caffemodel - --format jsonl
""".strip("\n")


def _flags(flags: FlagParser) -> None:
    flags.section("what to run")
    flags.argument("model", metavar="MODEL", help="the net's prototxt, mostly its deploy.prototxt")
    flags.argument("weights", metavar="WEIGHTS", help="its .caffemodel files, comma-separated")
    flags.argument("inputs", metavar="INPUTS", nargs="+",
                   help="images; folders of images; .txt lists of images, with labels or without; folders of an LMDB "
                        "or a LevelDB; .npy and .npz arrays (N, C, H, W); - for names of images, or one image, from "
                        "standard input")  # fmt: skip
    flags.flag("root", metavar="FOLDER/", default="", help="put before each path of a list, as it is")
    flags.flag("batch", metavar="N", type=int, default=32, help="images in a batch (default 32)")
    flags.switch("skip-bad", "leave out images that cannot be read; without it the first one ends the run")
    state_flags(flags)
    python_layer_flags(flags)
    preprocessing_flags(flags)
    _result_flags(flags)
    device_flags(flags)


def preprocessing_flags(flags: FlagParser) -> None:
    """Add --rgb, --mean-file and those of `block_flags`."""
    flags.section("how images become the net's input (default: what MODEL states)")
    block_flags(flags)
    flags.switch("rgb", "the net reads red first: it was trained on RGB records, such as CIFAR-10's own")
    flags.flag(
        "mean-file", metavar="FILE", help="another mean: .binaryproto, or .npy, whose mean of each channel is used"
    )


def block_flags(flags: FlagParser) -> None:
    """Add --like, --preprocess and --resize."""
    flags.flag("like", metavar="FILE", help="as the data layer of this prototxt in TEST: train_val.prototxt")
    flags.flag("preprocess", metavar="FILE", help="as the preprocess block of this prototxt")
    flags.flag("resize", metavar="H,W", help="resize images to another height and width")


def _result_flags(flags: FlagParser) -> None:
    flags.section("what to write")
    flags.flag(
        "output", metavar="FILE", default="", help=".csv, .jsonl, .npz or .h5 (default: lines on standard output)"
    )
    flags.flag("format", choices=tuple(FORMATS), default="",
               help="of the output (default: by the extension of FILE)")  # fmt: skip
    flags.flag("blob", metavar="NAME", action="append", default=[],
               help="a blob to write, in place of the net's outputs; may be repeated")  # fmt: skip
    flags.flag("top", metavar="K", type=int,
               help="write the best K classes of the first blob, not all its values (in lines of text: 5)")  # fmt: skip
    flags.flag("labels", metavar="FILE", help="class names, one a line, or a label map (.prototxt)")


@command("infer", "Use trained nets", "run a net on images, and write scores, classes or features", _flags, _EXAMPLES)
def infer(args: argparse.Namespace) -> None:
    """Each input gives one row, in order, with its name. Images are read and decoded ahead of the net.

    A line on standard error states the preprocessing, the last ones images per second and the latency of batches; with
    labels, those of a list or a database, also the accuracy.
    """
    from minicaffe.inference.inputs import find_inputs
    from minicaffe.inference.predictor import Predictor
    from minicaffe.inference.writers import writing

    kind = _checked(args, format_of(args.output, args.format))
    stream = cast("io.BufferedIOBase", sys.stdin.buffer) if "-" in args.inputs else None
    inputs = find_inputs(args.inputs, args.root, stream)
    written = 0
    with python_layers_of(args), computing_on(args):
        predictor = Predictor(built_net(args, TEST, weight_files(args.weights, "WEIGHTS")), args.blob)
        preparation = preparation_of(args, predictor)
        layout = _layout(args, predictor, inputs)
        run = _Run(inputs.count, _scores(layout, predictor), progress=bool(args.output) or not sys.stdout.isatty())
        run.print(preparation.describe(inputs.stored))
        with contextlib.closing(run), writing(args.output, kind, layout) as writer:
            for rows in run.rows(inputs, preparation, predictor, args):
                table = layout.table(rows)
                writer.add(table)
                written += len(table.names)
        run.finish()
    if args.output:
        print_line(f"Saved {written} row{'s' * (written != 1)} to {args.output}")


def _checked(args: argparse.Namespace, kind: str) -> str:
    """Return the format; UsageError for values of flags that are wrong."""
    need_file(args.model, "MODEL", "a model definition")
    check_block(args)
    for name in ("batch", "top"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise UsageError(f"--{name}: expected a number of at least 1, got {value}")
    if args.mean_file:
        need_file(args.mean_file, "--mean-file", "a mean file")
    if args.output:
        need_writable(args.output)
    return kind


def check_block(args: argparse.Namespace) -> None:
    """Raise UsageError for flags of `block_flags` that contradict each other."""
    if args.like and args.preprocess:
        raise UsageError("give --like or --preprocess, but not both")


# -- preprocessing -----------------------------------------------------------------------------------------------------


def preparation_of(args: argparse.Namespace, predictor: Predictor) -> Preparation:
    """Return the preprocessing that the flags of `preprocessing_flags`, `model`, `level` and `stage` state.

    UsageError for a size of another form.
    """
    from minicaffe.inference.plain import Plain
    from minicaffe.inference.preprocessing import Preprocessing

    if len(predictor.shape) != 4:
        return Plain(predictor.shape, predictor.input)
    size = _size(args.resize) if args.resize else None
    block = _block(args, predictor).changed(size, _mean(args.mean_file or ""), args.rgb)
    return Preprocessing(block, predictor.shape, predictor.input)


def _block(args: argparse.Namespace, predictor: Predictor) -> Block:
    """Return the preprocessing in the file of --like or --preprocess, else that in MODEL, if there is one."""
    from minicaffe.inference.blocks import Block, find_block, read_block

    path = args.like or args.preprocess
    if path:
        need_file(path, "--like" if args.like else "--preprocess", "a prototxt")
        return read_block(path, [predictor.input], args.level, stages(args))
    return find_block(args.model, [predictor.input], args.level, stages(args)) or Block(
        origin="defaults without --like or --preprocess"
    )


def _mean(path: str) -> str | list[float]:
    """Return the path of a mean file, or the mean of each channel of an .npy file."""
    if not path.endswith(".npy"):
        return path
    from minicaffe.data.mean import channel_means

    return channel_means(path).tolist()


def _size(text: str) -> tuple[int, int]:
    """Parse the value of --resize."""
    try:
        height, width = (int(word) for word in text.split(","))
    except ValueError:
        height = width = 0
    if min(height, width) < 1:
        raise UsageError(f"--resize: expected height,width, got '{text}'")
    return height, width


# -- results -----------------------------------------------------------------------------------------------------------


def _layout(args: argparse.Namespace, predictor: Predictor, inputs: Inputs) -> Layout:
    """Return what is written; DataError unless there is a name for each class."""
    from minicaffe.inference.results import DETECTION, Layout, is_maps

    blob = predictor.blobs[0]
    if args.top and is_maps(predictor.row_shape(blob)):
        raise UsageError(f"--top is for scores of classes, but blob '{blob}' has maps, {predictor.row_shape(blob)}")
    if count := predictor.detected_classes:
        if args.top:
            raise UsageError(f"--top is for scores of classes, but blob '{blob}' has detections")
        layout = Layout(dict.fromkeys(DETECTION, ()), inputs.labelled, (), 0, count)
    else:
        layout = Layout(
            {name: predictor.row_shape(name) for name in predictor.blobs}, inputs.labelled, (), args.top or 0
        )
    return layout.with_classes(args.labels) if args.labels else layout


def _scores(layout: Layout, predictor: Predictor) -> str:
    """Return the blob of class scores that are compared with the labels; "" if there is none, or no label."""
    return predictor.blobs[0] if layout.labelled and predictor.gives_classes(predictor.blobs[0]) else ""


class _Run:
    """One run over all inputs, with what is reported of it on standard error.

    count: of inputs, if it is known.  scores: the blob whose accuracy is counted; "" for none.
    progress: whether there is a status line; rows in the same terminal exclude it.
    """

    def __init__(self, count: int | None, scores: str, progress: bool) -> None:
        from minicaffe.inference.results import Accuracy
        from minicaffe.inference.timing import Timing

        self.status, self.timing, self.accuracy = StatusLine(), Timing(), Accuracy()
        self._scores, self._skipped = scores, 0
        self._progress = Progress("infer", count or 0, display=self.status) if progress else None

    def rows(
        self, inputs: Inputs, preparation: Preparation, predictor: Predictor, args: argparse.Namespace
    ) -> Iterator[Rows]:
        """Yield the predictions of each batch; DataError at the end if no input could be read."""
        from minicaffe.inference.results import Rows
        from minicaffe.inference.stream import Stream

        with contextlib.closing(Stream(inputs, preparation, args.batch, args.skip_bad)) as stream:
            for batch in stream:
                self._skip(batch)
                if not batch.names:
                    continue
                began = time.perf_counter()
                rows = Rows(batch.names, batch.labels, predictor.predict(batch.images))
                seconds = time.perf_counter() - began
                yield rows
                self._count_rows(rows, seconds, time.perf_counter() - batch.began)
        if not self.timing.images:
            if self._skipped:
                raise DataError(f"no input was run: {self._skipped} could not be read")
            raise DataError("there was no input to run: the inputs hold no image, and no array or record")

    def _skip(self, batch: Batch) -> None:
        for problem in batch.problems:
            self.print(f"skipped: {problem}")
        self._skipped += len(batch.problems)

    def _count_rows(self, rows: Rows, net: float, whole: float) -> None:
        self.timing.add(len(rows.names), net, whole)
        if self._scores:
            self.accuracy.add(rows, self._scores)
        if self._progress:
            self._progress(self.timing.images + self._skipped)

    def print(self, text: str) -> None:
        """Print lines on standard error, control characters of names escaped."""
        self.status.print(printable(text))

    def close(self) -> None:
        """Erase the status line, before a summary or an error."""
        self.status.clear()

    def finish(self) -> None:
        """Print the summary."""
        if self._skipped:
            self.print(f"{self._skipped} skipped, which could not be read")
        if accuracy := self.accuracy.text():
            self.print(accuracy)
        self.print(self.timing.text())
