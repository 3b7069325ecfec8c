"""`minicaffe data`, and the converters of the original's examples: the data sets that the prototxts in models/ read."""

from __future__ import annotations

import argparse
import os

from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.data.datasets import cifar10, faces, mnist, shapes, synthetic, words
from minicaffe.data.datasets.padded import pad_database
from minicaffe.data.db import BACKENDS, backend_name
from minicaffe.errors import UsageError

GROUP = "Prepare data"
_DRAWING_FLAGS = {
    "train": "training pictures (default: 6000; words: 12000; faces: 8000, 20 of each identity)",
    "test": "test pictures (default: 500; words: 1000; faces: 2000 pairs)",
    "seed": "of the random numbers, 0 or more (default: 1)",
    "size": "width and height of a picture of shapes (default: 128)",
}
#: the data sets that are drawn, and the flags that each takes
_DRAWN = {"shapes": {"train", "test", "seed", "size", "voc"}, "words": {"train", "test", "seed"},
          "faces": {"train", "test", "seed"}}  # fmt: skip


def _data_flags(flags: FlagParser) -> None:
    flags.argument(
        "name",
        metavar="NAME",
        choices=("cifar10", "mnist", "synthetic", *_DRAWN),
        help="cifar10, mnist, synthetic: generated images in place of CIFAR-10, shapes: drawn images with boxes, "
        "words: drawn words, or faces: drawn faces",
    )
    flags.flag(
        "from",
        metavar="PATH",
        default=None,
        help="cifar10: the official .tar.gz (binary or python version) or the folder unpacked from it; mnist: "
        "the folder with the idx files; default: download",
    )
    flags.flag(
        "dest", metavar="FOLDER", default=None, help="where to write (default: data/NAME; synthetic: data/cifar10)"
    )
    flags.flag("backend", choices=BACKENDS, default="lmdb", help="kind of database (default: lmdb)")
    flags.flag(
        "pad",
        type=int,
        metavar="N",
        default=None,
        help="also write cifar10_train_padN_<backend>: the training set, prepared now or before, with a border "
        "of N pixels, for random crops (as the net cifar10_resnet20 reads them)",
    )
    flags.section("shapes, words and faces")
    for name, text in _DRAWING_FLAGS.items():
        flags.flag(name, type=int, metavar="N", default=None, help=text)
    flags.switch(
        "voc",
        "of shapes, also write the pictures, boxes and label maps as a folder of PASCAL VOC's layout, FOLDER/VOC, and "
        "lists for DenseImageData, FOLDER/train_maps.txt and test_maps.txt",
    )


@command(
    "data",
    GROUP,
    "download or generate a data set, and write its databases",
    _data_flags,
    "  minicaffe data cifar10\n  minicaffe data cifar10 --from cifar-10-binary.tar.gz\n  minicaffe data synthetic\n"
    "  minicaffe data shapes --train 5000 --seed 7\n  minicaffe data words\n"
    "  minicaffe data faces",
)
def data(args: argparse.Namespace) -> None:
    """Write CIFAR-10 to cifar10_train_lmdb, cifar10_test_lmdb and mean.binaryproto in data/cifar10, MNIST to
    mnist_train_lmdb and mnist_test_lmdb in data/mnist. The synthetic data set has CIFAR-10's file names, so that the
    same prototxts train on it. An interrupted download is resumed.

    shapes are coloured shapes with boxes, for detection nets: train_lmdb and test_lmdb of AnnotatedDatums,
    labelmap.prototxt and test_name_size.txt in data/shapes.

    words are pictures of random letters, for text recognition: train.h5 and test.h5, and their lists train.txt and
    test.txt, in data/words.

    faces are pictures of drawn faces, for verification: train_lmdb with the numbers of identities as labels, and
    pairs_lmdb, pairs of pictures of other identities in six channels, with label 1 for two of one identity, else 0, in
    data/faces."""
    source = getattr(args, "from")
    drawing = {name: getattr(args, name) for name in _DRAWING_FLAGS if getattr(args, name) is not None}
    for name in [*drawing, *["voc"] * args.voc]:
        takers = [kind for kind, flags in _DRAWN.items() if name in flags]
        if args.name not in takers:
            *others, last = takers
            only = f"{', '.join(others)} and {last} do" if others else f"{last} does"
            raise UsageError(f"data {args.name} takes no --{name}: only {only}")
    if args.name in ("synthetic", *_DRAWN) and source:
        raise UsageError(f"data {args.name} takes no --from: its images are generated")
    if args.pad is not None:
        return _pad(args, source)
    if args.name == "synthetic":
        dest = args.dest or "data/cifar10"
        synthetic.prepare(dest, args.backend)
    elif args.name == "shapes":
        dest = args.dest or "data/shapes"
        shapes.prepare(dest, args.backend, **drawing, voc_folder=args.voc)
    elif args.name == "words":
        dest = args.dest or "data/words"
        words.prepare(dest, **drawing)
    elif args.name == "faces":
        dest = args.dest or "data/faces"
        faces.prepare(dest, args.backend, **drawing)
    else:
        dest = args.dest or f"data/{args.name}"
        {"cifar10": cifar10, "mnist": mnist}[args.name].prepare(dest, source, args.backend)
    print_line(f"Wrote {args.name} to {dest}")


def _pad(args: argparse.Namespace, source: str | None) -> None:
    """Write the padded copy; prepare the data set first if its database does not exist yet."""
    if args.name in ("mnist", *_DRAWN):
        raise UsageError(f"data {args.name} takes no --pad: only the images of cifar10 and synthetic are padded")
    dest = args.dest or "data/cifar10"
    train, padded = (f"{dest}/cifar10_train{kind}_{args.backend}" for kind in ("", f"_pad{args.pad}"))
    if source or not os.path.exists(train):
        if args.name == "synthetic":
            synthetic.prepare(dest, args.backend)
        else:
            cifar10.prepare(dest, source, args.backend)
    color = pad_database(train, padded, args.pad, args.backend)
    print_line(f"Wrote {padded}, its border in the mean colour {color}")


def _cifar_flags(flags: FlagParser) -> None:
    flags.argument("input_folder", metavar="INPUT_FOLDER", help="where data_batch_1.bin .. test_batch.bin are")
    flags.argument("output_folder", metavar="OUTPUT_FOLDER", help="where to write cifar10_train_*, cifar10_test_*")
    flags.argument("db_type", metavar="DB_TYPE", values=BACKENDS, help="lmdb or leveldb")


@command(
    "convert_cifar_data",
    GROUP,
    "convert CIFAR-10's batch files to databases",
    _cifar_flags,
    "  minicaffe convert_cifar_data cifar-10-batches-bin data/cifar10 lmdb",
)
def convert_cifar_data(args: argparse.Namespace) -> None:
    """Equivalent to the original's program of this name: keys of five digits; red, green and blue planes."""
    cifar10.convert(args.input_folder, args.output_folder, backend_name(args.db_type))


def _mnist_flags(flags: FlagParser) -> None:
    flags.argument("images", metavar="IMAGES", help="idx file of the images, such as train-images-idx3-ubyte")
    flags.argument("labels", metavar="LABELS", help="idx file of the labels")
    flags.argument("db", metavar="DB", help="the database to write")
    flags.flag("backend", default="lmdb", values=BACKENDS, help="lmdb (default) or leveldb")


@command(
    "convert_mnist_data",
    GROUP,
    "convert a pair of MNIST's files to a database",
    _mnist_flags,
    "  minicaffe convert_mnist_data train-images-idx3-ubyte train-labels-idx1-ubyte mnist_train_lmdb",
)
def convert_mnist_data(args: argparse.Namespace) -> None:
    """Equivalent to the original's program of this name: keys of eight digits, in the order of the files."""
    mnist.convert(args.images, args.labels, args.db, backend_name(args.backend))


def _siamese_flags(flags: FlagParser) -> None:
    flags.argument("images", metavar="IMAGES", help="idx file of the images, such as train-images-idx3-ubyte")
    flags.argument("labels", metavar="LABELS", help="idx file of the labels")
    flags.argument("db", metavar="DB", help="the database to write")
    flags.flag("backend", default="leveldb", values=BACKENDS, help="leveldb (default) or lmdb")
    flags.flag("seed", type=int, metavar="N", default=1, help="of the random pairs, 0 or more (default 1)")


@command(
    "convert_mnist_siamese_data",
    GROUP,
    "convert a pair of MNIST's files to pairs of images",
    _siamese_flags,
    "  minicaffe convert_mnist_siamese_data train-images-idx3-ubyte train-labels-idx1-ubyte siamese_train_leveldb",
)
def convert_mnist_siamese_data(args: argparse.Namespace) -> None:
    """Equivalent to the original's program of this name: as many random pairs as there are images, two channels each,
    with label 1 for two images of the same class, else 0; keys of eight digits."""
    if args.seed < 0:
        raise UsageError(f"--seed: expected a number of at least 0, got {args.seed}")
    mnist.convert_pairs(args.images, args.labels, args.db, backend_name(args.backend), args.seed)
