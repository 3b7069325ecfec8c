"""`minicaffe classify` and `minicaffe detect`: run images, or windows of images, through a net."""

from __future__ import annotations

import argparse
import contextlib
import csv
import glob
import io as std_io
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from minicaffe import io
from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.devices import computing_on, precision_flag
from minicaffe.cli.shared_flags import need_writable, python_layer_flags, python_layers_of
from minicaffe.data.arrays import read_array
from minicaffe.data.mean import channel_means
from minicaffe.errors import DataError, UsageError
from minicaffe.files import write_atomically
from minicaffe.inference.formats import EXTENSIONS
from minicaffe.inference.results import Layout, Rows
from minicaffe.inference.writers import TextLines, writing
from minicaffe.text import csv_text, read_names, read_text

if TYPE_CHECKING:
    from minicaffe.classifier import Classifier

COORDINATES = ("ymin", "xmin", "ymax", "xmax")
CROP_MODES = ("list", "selective_search")


def _net_flags(flags: FlagParser) -> None:
    flags.flag("model_def", metavar="PROTOTXT", required=True, help="deploy prototxt of the net")
    flags.flag("pretrained_model", metavar="WEIGHTS", required=True, help="trained weights, .caffemodel or .h5")
    net_options(flags)


def net_options(flags: FlagParser) -> None:
    """Add the flags for the preprocessing of images, the device, the engine, the precision and Python layers."""
    flags.flag(
        "mean_file", metavar="FILE", default="", help="mean image, .npy (K, H, W) or .binaryproto; none by default"
    )
    flags.flag("input_scale", metavar="X", type=float, help="multiply by this after subtracting the mean")
    flags.flag(
        "raw_scale",
        metavar="X",
        type=float,
        default=255.0,
        help="multiply images, which are in [0, 1], by this first (default 255)",
    )
    flags.flag(
        "channel_swap",
        metavar="ORDER",
        default="2,1,0",
        help="order of the channels (default 2,1,0: RGB files for a BGR net); '' for none",
    )
    flags.switch("gpu", "compute on the GPU")
    flags.flag("engine", metavar="NAME", default="", help="DEFAULT, CAFFE, ONEDNN, CUDNN or TENSOR")
    precision_flag(flags)
    python_layer_flags(flags)


@contextlib.contextmanager
def computing(args: argparse.Namespace) -> Iterator[None]:
    """Apply the flags for device, engine, precision and Python layers; restore the previous settings at the end.

    `--gpu` is a switch here, as in the original's tools.
    """
    gpu = "0" if args.gpu else ""
    where = argparse.Namespace(gpu=gpu, engine=args.engine, precision=args.precision, threads=None, math="")
    with python_layers_of(args), computing_on(where):
        yield


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the values of `net_options` as keywords of Classifier and Detector.

    DataError for a mean file that cannot be read or has another shape; UsageError for an invalid channel order.
    """
    return {
        "mean": channel_means(args.mean_file) if args.mean_file else None,
        "input_scale": args.input_scale,
        "raw_scale": args.raw_scale,
        "channel_swap": _numbers("channel_swap", args.channel_swap),
    }


def _numbers(flag: str, text: str) -> list[int] | None:
    try:
        return [int(word) for word in text.split(",")] if text else None
    except ValueError:
        raise UsageError(f"--{flag}: expected whole numbers such as 2,1,0, got '{text}'") from None


# -- classify ----------------------------------------------------------------------------------------------------------


def _classify_flags(flags: FlagParser) -> None:
    flags.argument("input_file", metavar="IN", help="image, folder of images, or .npy array (N, H, W, K)")
    flags.argument(
        "output_file",
        metavar="OUT",
        help=".npy file for the predictions (N, classes); or .csv, .jsonl, .npz or .h5, with the names of the images",
    )
    _net_flags(flags)
    flags.switch("center_only", "predict from the centre crop alone, not from ten crops averaged")
    flags.flag(
        "images_dim", metavar="H,W", default="256,256", help="scale images to this before cropping (default 256,256)"
    )
    flags.flag("ext", metavar="EXT", default="jpg", help="extension of the images in a folder (default jpg)")
    flags.flag("labels", metavar="FILE", help="class names, one a line: print the best five of each image")


@command(
    "classify",
    "Use trained nets",
    "predict the classes of images",
    _classify_flags,
    "  minicaffe classify cat.jpg out.npy --model_def deploy.prototxt --pretrained_model net.caffemodel\n"
    "  minicaffe classify photos/ out.npy --ext png --images_dim 32,32 --center_only --labels names.txt ...",
)
def classify(args: argparse.Namespace) -> None:
    """Scale images to --images_dim, crop them to the net's input and run the net; OUT has one row per image."""
    from minicaffe.classifier import Classifier, batches

    dims = _numbers("images_dim", args.images_dim)
    if not dims or len(dims) != 2:
        raise UsageError(f"--images_dim: expected height,width, got '{args.images_dim}'")
    need_writable(args.output_file)
    names, array = _inputs(os.path.expanduser(args.input_file), args.ext)
    with computing(args):
        classifier = Classifier(args.model_def, args.pretrained_model, image_dims=dims, **options_of(args))
        layout = _layout(classifier, args.labels)
        print_line(f"Classifying {len(names)} inputs.")
        start = time.perf_counter()
        if array is not None:
            predictions = classifier.predict(array, not args.center_only)
        else:
            parts = ([io.load_image(name) for name in part] for part in batches(names, classifier))
            predictions = np.concatenate([classifier.predict(part, not args.center_only) for part in parts])
        print_line(f"Done in {time.perf_counter() - start:.2f} s.")
    rows = Rows(names, [None] * len(names), {layout.scores: predictions})
    _save(args.output_file, layout, rows)
    print_line(f"Saved the predictions to {args.output_file}")
    if layout.classes:
        TextLines(layout, sys.stdout).add(rows)


def _save(path: str, layout: Layout, rows: Rows) -> None:
    """Write the predictions: as an array without names unless the path has the extension of another format."""
    kind = EXTENSIONS.get(os.path.splitext(path)[1].lower())
    if kind is not None:
        with writing(path, kind, layout) as writer:
            writer.add(rows)
        return
    content = std_io.BytesIO()  # numpy's own writing to a file misses some errors of a full disk
    np.save(content, rows.blobs[layout.scores])
    write_atomically(path, content.getbuffer())


def _inputs(path: str, ext: str) -> tuple[list[str], np.ndarray | None]:
    """Return the names of the inputs, and the images themselves if they are in a .npy file."""
    if path.endswith(".npy"):
        array = read_array(path)
        if array.ndim != 4:
            raise DataError(f"'{path}': expected images (N, H, W, K), got shape {array.shape}")
        return [f"{path}[{i}]" for i in range(len(array))], array
    if not os.path.isdir(path):
        return [path], None
    names = sorted(glob.glob(os.path.join(glob.escape(path), f"*.{ext}")))
    if not names:
        raise DataError(f"folder '{path}' holds no image named *.{ext}")
    return names, None


def _layout(classifier: Classifier, labels: str | None) -> Layout:
    """Return the layout of the predictions; DataError unless the labels file has a line for each of them."""
    name = classifier.outputs[0]
    layout = Layout({name: classifier.blobs[name].shape[1:]})
    return layout.with_classes(labels) if labels else layout


# -- detect ------------------------------------------------------------------------------------------------------------


def _detect_flags(flags: FlagParser) -> None:
    flags.argument(
        "input_file",
        metavar="IN",
        help=".csv with the columns filename, ymin, xmin, ymax, xmax; or .txt with image names, for selective search",
    )
    flags.argument("output_file", metavar="OUT", help=".csv or .h5 file for windows and predictions")
    _net_flags(flags)
    flags.flag(
        "crop_mode",
        choices=CROP_MODES,
        default="list",
        help="where windows come from: the list in IN (default), or selective_search, which needs MATLAB",
    )
    flags.flag(
        "context_pad",
        metavar="N",
        type=int,
        default=16,
        help="width of the context around a window on each side, in pixels of the net's input (default 16)",
    )


@command(
    "detect",
    "Use trained nets",
    "run windows of images through a net, as R-CNN does",
    _detect_flags,
    "  minicaffe detect windows.csv out.csv --model_def deploy.prototxt --pretrained_model net.caffemodel",
)
def detect(args: argparse.Namespace) -> None:
    """Write one row per window: to a .csv with one column per class, or a .h5 with datasets filename, window and
    prediction."""
    from minicaffe.detector import Detector

    ext = os.path.splitext(args.output_file)[1]
    if ext not in (".csv", ".h5", ".hdf5"):
        raise UsageError(f"detect: OUT must end in .csv or .h5, got '{args.output_file}'")
    need_writable(args.output_file)
    with computing(args):
        detector = Detector(args.model_def, args.pretrained_model, context_pad=args.context_pad, **options_of(args))
        start = time.perf_counter()
        if args.crop_mode == "list":
            found = detector.detect_windows(_read_windows(args.input_file))
        else:
            found = detector.detect_selective_search(read_names(args.input_file, "image list"))
        print_line(f"Processed {len(found)} windows in {time.perf_counter() - start:.3f} s.")
    (_write_csv if ext == ".csv" else _write_hdf5)(args.output_file, found)
    print_line(f"Saved to {args.output_file}")


def _read_windows(path: str) -> list[tuple[str, np.ndarray]]:
    """Return image names with their windows (ymin, xmin, ymax, xmax), in order of first appearance."""
    windows: dict[str, list[list[float]]] = {}
    rows = csv.DictReader(std_io.StringIO(read_text(path, "windows file"), newline=""), skipinitialspace=True)
    missing = {"filename", *COORDINATES} - set(rows.fieldnames or ())
    if missing:
        raise DataError(f"windows '{path}': missing column(s) {', '.join(sorted(missing))}")
    try:
        for row in rows:
            if not row["filename"]:
                raise ValueError("there is no file name")
            windows.setdefault(row["filename"], []).append([float(row[name]) for name in COORDINATES])
    except (TypeError, ValueError, csv.Error) as error:
        raise DataError(f"windows '{path}', line {rows.line_num}: expected four numbers ({error})") from error
    return [(name, np.array(w)) for name, w in windows.items()]


def _write_csv(path: str, found: list[dict[str, Any]]) -> None:
    classes = len(found[0]["prediction"]) if found else 0
    head = ["filename", *COORDINATES, *(f"class{i}" for i in range(classes))]
    rows = ([d["filename"], *(f"{v:g}" for v in d["window"]), *d["prediction"]] for d in found)
    write_atomically(path, csv_text([head, *rows]))


def _write_hdf5(path: str, found: list[dict[str, Any]]) -> None:
    columns = {name: np.array([d[name] for d in found], np.float32) for name in ("window", "prediction")}
    layout = Layout({name: values.shape[1:] for name, values in columns.items()})
    with writing(path, "h5", layout) as writer:
        writer.add(Rows([d["filename"] for d in found], [None] * len(found), columns))
