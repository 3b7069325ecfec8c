"""Three tools of the original: a database from images, the mean image of a database, a database of features."""

from __future__ import annotations

import argparse
import logging
import os

import numpy as np

from minicaffe.cli.command import FlagParser, command
from minicaffe.cli.progress import StatusLine, logging_to
from minicaffe.cli.settings import seed_flag, seeded
from minicaffe.cli.shared_flags import need_writable, python_layer_flags, python_layers_of, storage_flags, storage_of
from minicaffe.core.random import new_stream
from minicaffe.data import features, imageset, mean
from minicaffe.data.db import BACKENDS, backend_name, open_db
from minicaffe.errors import UsageError
from minicaffe.progress.counting import Progress
from minicaffe.proto import TEST

GROUP = "Prepare data"
log = logging.getLogger("minicaffe")


def _imageset_flags(flags: FlagParser) -> None:
    flags.argument("root", metavar="ROOT_FOLDER/", help="put before each path of the list, as it is")
    flags.argument("list", metavar="LIST", help='text file with lines "path label"')
    flags.argument("db", metavar="DB", help="the database to write")
    flags.switch("shuffle", "shuffle the list first")
    seed_flag(flags)
    flags.flag("backend", default="lmdb", values=BACKENDS, help="lmdb (default) or leveldb")
    storage_flags(flags)


@command(
    "convert_imageset",
    GROUP,
    "make a database from a list of images",
    _imageset_flags,
    "  minicaffe convert_imageset --resize_width=256 --resize_height=256 --shuffle images/ train.txt train_lmdb",
)
def convert_imageset(args: argparse.Namespace) -> None:
    """A key is the image's number, eight digits, and its path. Images that cannot be read are logged and skipped."""
    status = StatusLine()
    with logging_to(status), seeded(args), Progress("converting", 0, display=status) as progress:
        imageset.convert(
            args.root, args.list, args.db, backend_name(args.backend), storage_of(args),
            rng=new_stream() if args.shuffle else None, check_size=args.check_size, progress=progress,
        )  # fmt: skip


def _mean_flags(flags: FlagParser) -> None:
    flags.argument("db", metavar="DB", help="database of images")
    flags.argument("output", metavar="OUT", nargs="?", help="mean file to write (.binaryproto)")
    flags.flag("backend", default="lmdb", values=BACKENDS, help="lmdb (default) or leveldb")


@command(
    "compute_image_mean",
    GROUP,
    "compute the mean image of a database",
    _mean_flags,
    "  minicaffe compute_image_mean data/cifar10/cifar10_train_lmdb mean.binaryproto",
)
def compute_image_mean(args: argparse.Namespace) -> None:
    """Write the file for transform_param { mean_file }, and log the mean of each channel, for mean_value."""
    if args.output:
        need_writable(args.output)
    status = StatusLine()
    with logging_to(status), open_db(args.db, backend_name(args.backend)) as database:
        log.info("Starting iteration")
        with Progress("computing the mean", len(database), display=status) as progress:
            result = mean.compute_mean(database, _logged(10000, "Processed %d files.", progress))
        if len(database) % 10000:
            log.info("Processed %d files.", len(database))
        if args.output:
            log.info("Write to %s", args.output)
            mean.write_mean(args.output, result)
        log.info("Number of channels: %d", len(result))
        for channel, plane in enumerate(result):
            log.info(
                "mean_value channel [%d]: %s",
                channel,
                np.format_float_positional(np.float32(plane.mean()), 6, fractional=False, trim="-"),
            )


def _logged(step: int, text: str, progress: Progress):
    """Return a progress callback that shows the count, and logs it at every multiple of `step`."""

    def show(count: int) -> None:
        progress(count)
        if count % step == 0:
            log.info(text, count)

    return show


_DEVICES = ("CPU", "GPU")


def _features_flags(flags: FlagParser) -> None:
    flags.argument("weights", metavar="WEIGHTS", help="trained weights, .caffemodel or .caffemodel.h5")
    flags.argument("net", metavar="NET", help="prototxt with the data to run through the net, for phase TEST")
    flags.argument("blobs", metavar="BLOB1[,BLOB2,...]", help="blobs to extract")
    flags.argument("databases", metavar="DB1[,DB2,...]", help="a database to write for each of them")
    flags.argument("batches", metavar="BATCHES", type=int, help="how many batches to run")
    flags.argument("db_type", metavar="DB_TYPE", values=BACKENDS, help="lmdb or leveldb")
    flags.argument("device", metavar="CPU|GPU", nargs="?", default="CPU", values=_DEVICES,
                   help="where to compute (default: CPU)")  # fmt: skip
    flags.argument("device_id", metavar="DEVICE_ID", nargs="?", type=int, default=0, help="which GPU (default: 0)")
    python_layer_flags(flags)


@command(
    "extract_features",
    GROUP,
    "run data through a net and store the values of its blobs",
    _features_flags,
    "  minicaffe extract_features net.caffemodel net.prototxt fc7,prob fc7_lmdb,prob_lmdb 10 lmdb",
)
def extract_features(args: argparse.Namespace) -> None:
    """Store one Datum of floats per item; keys are numbers from 0 on, with ten digits."""
    names, paths = args.blobs.split(","), args.databases.split(",")
    if len(names) != len(paths):
        raise UsageError(
            f"extract_features: there must be one database for each blob, got {len(names)} blob(s) and "
            f"{len(paths)} database(s)"
        )
    if args.device not in _DEVICES:
        raise UsageError(f"extract_features: expected CPU or GPU, got '{args.device}'")
    if args.batches < 1:
        raise UsageError(f"extract_features: expected at least one batch, got {args.batches}")
    if args.device == "GPU":
        from minicaffe.core.settings import set_device, set_mode_gpu

        set_device(args.device_id)
        set_mode_gpu()
    status = StatusLine()
    with logging_to(status), python_layers_of(args):
        from minicaffe.core.net import Net

        net = Net(args.net, phase=TEST, weights=os.fspath(args.weights))
        targets = dict(zip(names, paths, strict=True))
        with Progress("extracting", args.batches, "batches", status) as progress:
            features.extract(net, targets, args.batches, backend_name(args.db_type), progress)
