"""`minicaffe whiten`: whiten or standardise the images of a database, as another database or as layers of a net."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os

import numpy as np

from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.shared_flags import need_picture, need_writable, skip_flag
from minicaffe.data.db import BACKENDS, Database, DatabaseWriter, open_db
from minicaffe.data.mean import images_of_one_size
from minicaffe.data.whitening import KINDS, Method, Whitening
from minicaffe.data.whitening_database import compute, write_database
from minicaffe.data.whitening_file import read_whitening, write_whitening
from minicaffe.errors import DataError, UsageError
from minicaffe.progress.counting import Progress
from minicaffe.proto import caffe_pb2, read_net, write_text

_PICTURED = 64  # images in the picture


def _flags(flags: FlagParser) -> None:
    flags.argument("db", metavar="DB", help="database of images of one size")
    flags.argument("file", metavar="FILE", help="HDF5 file for the statistics: written, or read with --apply")
    flags.section("statistics")
    flags.flag("kind", choices=KINDS, help="mean: subtract the mean; std: also divide by the standard deviation; "
               "pca, zca: unit covariance, along the principal axes or rotated back to the image (default: "
               "zca)")  # fmt: skip
    flags.flag("patch", type=int, metavar="K", help="of patches of K x K pixels, as a convolution; 1: of pixels, so "
               "that --kind=std gives one mean and one deviation per channel (default: of whole images)")  # fmt: skip
    flags.flag("stride", type=int, metavar="S", help="step between patches, and of a PCA's convolution (default: 1)")
    flags.switch("per_channel", "whiten each channel by itself")
    flags.flag("components", type=int, metavar="N", help="keep N components (kind pca; default: all)")
    flags.flag("eps", type=float, metavar="E", help="divide by the square root of variance + E (default: 0)")
    flags.switch("apply", "use the statistics in FILE, for example those of the training set for a test set")
    flags.section("what to make")
    flags.flag("write_db", metavar="DB2", help="a database of the transformed images, as floats, with the same keys "
               "and labels")  # fmt: skip
    flags.flag("into_net", nargs=3, metavar=("NET", "NEW_NET", "NEW_WEIGHTS"),
               help="a copy of the prototxt NET with the transform as layers of lr_mult 0 behind its data layers, and "
               "their weights (.caffemodel or .caffemodel.h5) for `minicaffe train --weights`")  # fmt: skip
    flags.flag("blob", default="", metavar="NAME", help="for --into_net: the blob to transform (default: the first)")
    skip_flag(flags)
    flags.flag("picture", metavar="PNG", help="a picture of filters, eigenvalues, and images before and after")
    flags.switch("rgb", "for --picture: channels are RGB, as in CIFAR-10's databases, not BGR")
    flags.flag("backend", choices=BACKENDS, default="lmdb", help="kind of the databases (default: lmdb)")


@command(
    "whiten",
    "Prepare data",
    "whiten or standardise a database: as a database, as layers of a net, as a picture",
    _flags,
    "  minicaffe whiten cifar10_train_lmdb zca.h5 --eps 10 --picture zca.png --rgb --write_db train_zca_lmdb\n"
    "  minicaffe whiten cifar10_test_lmdb zca.h5 --apply --write_db test_zca_lmdb\n"
    "  minicaffe whiten cifar10_train_lmdb std.h5 --kind std --patch 1 \\\n"
    "      --into_net train_test.prototxt std.prototxt std.caffemodel\n"
    "  minicaffe train --solver solver_of_std.prototxt --weights std.caffemodel",
)
def whiten(args: argparse.Namespace) -> None:
    """Compute mean and covariance in float64, in one pass, and write them with the transform to FILE. With mean m,
    covariance U diag(s) U' and E of --eps, the matrix of a ZCA is U diag(1 / sqrt(s + E)) U', that of a PCA
    diag(1 / sqrt(s + E)) U'.

    With --apply, the database's images are not used for statistics, and FILE stays as it is.

    --into_net also removes mean and scale from the transform_param of the data layers, because the transform contains
    the mean of the database's own values."""
    method = _method(args)
    net = _net(args) if args.into_net else None
    if args.picture:
        need_picture(args.picture)
    for path in ([] if args.apply else [args.file]) + (args.into_net or [])[1:]:
        need_writable(path)
    with open_db(args.db, args.backend) as database, _target(args) as target:
        whitening = read_whitening(args.file) if args.apply else _computed(args, database, method)
        if target is not None:
            with _progress(args.write_db, database) as progress:
                write_database(whitening, database, target, progress)
            target.close()
            print_line(f"Wrote {target.count} images to {args.write_db}")
        if net is not None:
            _write_net(args, net, whitening)
        if args.picture:
            _draw(args, whitening, database)


def _method(args: argparse.Namespace) -> Method:
    """Return the method of the flags; UsageError for flags that contradict each other."""
    given = {name: getattr(args, name) for name in ("kind", "patch", "stride", "components", "eps")}
    given = {name: value for name, value in given.items() if value is not None}
    if args.per_channel:
        given["per_channel"] = True
    if args.apply and given:
        raise UsageError(f"whiten: --apply takes the statistics of {args.file} as they are: leave out --{[*given][0]}")
    if args.apply and not (args.write_db or args.into_net or args.picture):
        raise UsageError("whiten: --apply makes a database, a net or a picture: give --write_db, --into_net or "
                         "--picture")  # fmt: skip
    if args.blob and not args.into_net:
        raise UsageError("whiten: --blob is the blob of --into_net: give both")
    return Method(**given)


def _net(args: argparse.Namespace) -> caffe_pb2.NetParameter:
    """Return the net of --into_net; NetError if it has no blob that can be whitened."""
    from minicaffe.whitening_layers import blob_to_whiten

    net = read_net(args.into_net[0])
    blob_to_whiten(net, args.blob)
    return net


def _target(args: argparse.Namespace) -> contextlib.AbstractContextManager[DatabaseWriter | None]:
    """Return the writer of --write_db, or None."""
    return open_db(args.write_db, args.backend, "w") if args.write_db else contextlib.nullcontext()


def _computed(args: argparse.Namespace, database: Database, method: Method) -> Whitening:
    with _progress(args.db, database) as progress:
        whitening = compute(database, method, progress)
    write_whitening(args.file, whitening)
    found = np.sort(whitening.eigenvalues, axis=None)
    name = "Variances" if method.is_diagonal else "Eigenvalues"
    print_line(f"{name} of {whitening.count} vectors of {whitening.mean.shape[1]} values: {found[-1]:.4g} (largest), "
               f"{np.median(found):.4g} (median), {found[0]:.4g} (smallest)")  # fmt: skip
    print_line(f"Wrote {args.file}")
    return whitening


def _progress(label: str, database: Database) -> Progress:
    return Progress(os.path.basename(label.rstrip("/")), len(database))


def _write_net(args: argparse.Namespace, net: caffe_pb2.NetParameter, whitening: Whitening) -> None:
    from minicaffe.whitening_layers import insert_whitening, save_weights

    _, new_net, new_weights = args.into_net
    inserted = insert_whitening(net, whitening, args.blob)
    save_weights(inserted.whitening, new_weights)
    write_text(inserted.net, new_net)
    for note in inserted.notes:
        print_line(note)
    print_line(f"Wrote {new_net} with the layers {', '.join(inserted.whitening.layer_names[1:])}, and their weights to "
               f"{new_weights}")  # fmt: skip


def _draw(args: argparse.Namespace, whitening: Whitening, database: Database) -> None:
    from minicaffe.pictures.plot import save
    from minicaffe.pictures.whitening import plot_whitening

    records = itertools.islice(images_of_one_size(database, "a picture"), _PICTURED)
    images = [image.copy() for _, image, _ in records]
    if not images:
        raise DataError(f"database {args.db} holds no records, so there is no image to draw")
    save(plot_whitening(whitening, np.stack(images), not args.rgb), args.picture)
    print_line(f"Drew filters and images to {args.picture}")
