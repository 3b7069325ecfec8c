"""The converters of SSD's fork for images with boxes: convert_annoset, and create_annoset, which runs it."""

from __future__ import annotations

import argparse
import os

from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.progress import StatusLine, logging_to
from minicaffe.cli.settings import seed_flag, seeded
from minicaffe.cli.shared_flags import need_file, need_writable, storage_flags, storage_of
from minicaffe.core.random import new_stream
from minicaffe.data.annotations import annoset, coco, lists, sources
from minicaffe.data.datasets.records import replacing_database
from minicaffe.data.db import BACKENDS, backend_name, backends_in
from minicaffe.data.imageset import shuffled_entries
from minicaffe.data.label_map import LabelMap, read_label_map
from minicaffe.errors import UsageError
from minicaffe.files import write_atomically
from minicaffe.progress.counting import Progress
from minicaffe.proto import caffe_pb2

GROUP = "Prepare data"


def _shared_flags(flags: FlagParser) -> None:
    flags.flag("anno_type", choices=sources.ANNOTATION_TYPES, default="classification",
               help="a label for each image (default), or boxes: detection")  # fmt: skip
    flags.flag("label_type", choices=tuple(sources.LABEL_TYPES), default="xml",
               help="kind of the annotation files: xml as of VOC and ILSVRC (default), json as of COCO, one for each "
                    "image, txt with lines \"label xmin ymin xmax ymax\"")  # fmt: skip
    flags.flag("label_map_file", default="", metavar="FILE", help="prototxt with the labels of the classes")
    flags.switch("check_label", "accepted; that names and labels are not repeated is always checked")
    flags.switch("shuffle", "shuffle the images first")
    seed_flag(flags)
    flags.flag("backend", default="lmdb", values=BACKENDS, help="lmdb (default) or leveldb")
    storage_flags(flags)
    flags.flag("min_dim", type=int, default=0, metavar="N",
               help="enlarge images whose shorter side has fewer pixels")  # fmt: skip
    flags.flag("max_dim", type=int, default=0, metavar="N", help="shrink images whose longer side has more pixels")


def _convert_flags(flags: FlagParser) -> None:
    flags.argument("paths", metavar="PATH", nargs="+",
                   help="ROOT_FOLDER/ LIST DB: the folder of images and annotations, the list of both with lines "
                        "\"image annotation\" or \"image label\", the database to write; with --voc or --coco DB "
                        "alone")  # fmt: skip
    _shared_flags(flags)
    flags.section("data sets in their own layout")
    flags.flag("voc", action="append", default=[], metavar="FOLDER",
               help="a folder with JPEGImages, Annotations and ImageSets, such as VOCdevkit/VOC2007; may be "
                    "repeated")  # fmt: skip
    flags.flag("coco", default="", metavar="PATH",
               help="a folder with annotations/instances_SET.json and the images in SET or images/SET, or a file "
                    "instances_*.json")  # fmt: skip
    flags.flag("set", default="", metavar="NAME", help="the set of images, such as trainval or val2017")
    flags.flag("images", default="", metavar="FOLDER", help="the images of a --coco file")
    flags.flag("name_size_file", default="", metavar="FILE",
               help="text file to write, with name, height and width of each image (with --voc and --coco default: "
                    "DB's name without _lmdb, and _name_size.txt)")  # fmt: skip


@command(
    "convert_annoset",
    GROUP,
    "make a database from images with boxes",
    _convert_flags,
    "  minicaffe convert_annoset --anno_type=detection --label_map_file=labelmap.prototxt --encoded ./ train.txt db\n"
    "  minicaffe convert_annoset --voc VOCdevkit/VOC2007 --voc VOCdevkit/VOC2012 --set trainval --shuffle train_lmdb\n"
    "  minicaffe convert_annoset --coco coco --set val2017 val_lmdb",
)
def convert_annoset(args: argparse.Namespace) -> None:
    """Write one AnnotatedDatum per image. Images that cannot be read are logged and skipped; an image without an
    annotation file has no boxes; an annotation that cannot be read is an error.

    --voc and --coco read a data set as it is distributed. The image files are stored (--encoded). The labels are those
    of --label_map_file, by default labelmap.prototxt beside DB; if there is no such file, it is written: the twenty
    classes of VOC, or the sorted names of the set's classes; the categories of COCO, by id."""
    known_layout = bool(args.voc or args.coco)
    entries, labels = _data_set(args) if known_layout else _listed(args)
    db = args.paths[-1]
    if known_layout:
        args.encoded, args.name_size_file = True, args.name_size_file or _beside(db, args.backend)
    if args.name_size_file:
        need_writable(args.name_size_file)
    result = _convert(args, entries, labels, db)
    if args.name_size_file:
        write_atomically(args.name_size_file, lists.name_size_text(result.sizes))
        print_line(f"Wrote {args.name_size_file}")
    _print_written(db, result)


def _listed(args: argparse.Namespace) -> tuple[list[sources.Entry], LabelMap | None]:
    """Return the entries of the list that the arguments name, and the label map, if one is given."""
    if len(args.paths) != 3:
        raise UsageError(f"convert_annoset: expected ROOT_FOLDER/ LIST DB, got {len(args.paths)} path(s)")
    if args.set or args.images:
        raise UsageError("convert_annoset: --set and --images are for --voc and --coco")
    root, source, _ = args.paths
    root = os.path.join(root, "") if os.path.isdir(root) else root
    if args.anno_type == "classification":
        return sources.classification_entries(root, source), None
    if args.label_type == "txt" and not args.label_map_file:
        return sources.detection_entries(root, source, "txt"), None
    labels = read_label_map(need_file(args.label_map_file, "--label_map_file", "the labels of the classes"))
    return sources.detection_entries(root, source, args.label_type), labels


def _data_set(args: argparse.Namespace) -> tuple[list[sources.Entry], LabelMap]:
    """Return the entries of the data set that the flags name, and its label map, which is written if there is none."""
    if len(args.paths) != 1:
        raise UsageError(f"convert_annoset: expected DB alone with --voc and --coco, got {len(args.paths)} paths")
    if args.voc and args.coco:
        raise UsageError("convert_annoset: give --voc or --coco, but not both")
    file = args.label_map_file or os.path.join(os.path.dirname(args.paths[0]), "labelmap.prototxt")
    if args.voc:
        entries = sources.voc_entries(args.voc, _set_of(args))
        if not os.path.exists(file):
            _write_label_map(file, lists.label_map(sources.voc_classes(entries)))
        return entries, read_label_map(file)
    annotations, images = args.coco, args.images
    if not os.path.isfile(args.coco):
        annotations, images = coco.find_set(args.coco, _set_of(args))
    elif not images:
        raise UsageError("convert_annoset: --coco with a file needs --images FOLDER")
    instances = coco.read_instances(annotations)
    if not os.path.exists(file):
        _write_label_map(file, instances.label_map())
    return sources.coco_entries(instances, args.images or images), read_label_map(file)


def _set_of(args: argparse.Namespace) -> str:
    if not args.set:
        raise UsageError("convert_annoset: need the set of images: give --set NAME")
    return args.set


def _write_label_map(path: str, labels: caffe_pb2.LabelMap) -> None:
    write_atomically(path, lists.label_map_text(labels))
    print_line(f"Wrote {path}: {len(labels.item) - 1} classes")


def _beside(db: str, backend: str) -> str:
    return f"{db.rstrip('/').removesuffix(f'_{backend_name(backend)}')}_name_size.txt"


def _convert(
    args: argparse.Namespace, entries: list[sources.Entry], labels: LabelMap | None, db: str
) -> annoset.Converted:
    """Write the database as the flags of `_shared_flags` state."""
    status = StatusLine()
    with logging_to(status), seeded(args), Progress("converting", 0, display=status) as progress:
        if args.shuffle:
            entries = shuffled_entries(entries, new_stream())
        return annoset.convert(
            entries, db, backend_name(args.backend), labels, storage_of(args), check_size=args.check_size,
            progress=progress,
        )  # fmt: skip


def _print_written(db: str, result: annoset.Converted) -> None:
    print_line(f"Wrote {db}: {len(result.sizes)} images, {result.boxes} boxes")


# -- create_annoset ----------------------------------------------------------------------------------------------------


def _create_flags(flags: FlagParser) -> None:
    flags.argument("root", metavar="FOLDER", help="the folder of images and annotations")
    flags.argument("list", metavar="LIST", help='list with lines "image annotation" or "image label"')
    flags.argument("db", metavar="DB", help="the database to write; its folder is created")
    flags.argument("example_dir", metavar="OUTPUT_FOLDER", help="where to write a link to the database")
    flags.switch("redo", "replace an older database")
    _shared_flags(flags)


@command(
    "create_annoset",
    GROUP,
    "convert_annoset with a link to the database",
    _create_flags,
    "  minicaffe create_annoset --anno-type detection --label-map-file map.prototxt --redo VOCdevkit trainval.txt "
    "db examples/VOC0712",
)
def create_annoset(args: argparse.Namespace) -> None:
    """Equivalent to scripts/create_annoset.py of SSD's fork: convert_annoset, and a link to the database in another
    folder."""
    args.paths, args.set, args.images = [args.root, args.list, args.db], "", ""
    db, link = args.db.rstrip("/"), _link_to(args.db, args.example_dir)
    if os.path.lexists(db):
        if not backends_in(db):
            raise UsageError(f"create_annoset: '{db}' exists already, and is no database: remove it first")
        if not args.redo:
            raise UsageError(f"create_annoset: '{db}' exists already: --redo replaces it")
    entries, labels = _listed(args)
    for folder in (os.path.dirname(os.path.abspath(db)), args.example_dir):
        os.makedirs(folder, exist_ok=True)
    with replacing_database(db) as fresh:
        result = _convert(args, entries, labels, fresh)
    if os.path.islink(link):
        os.unlink(link)
    os.symlink(os.path.abspath(db), link)
    _print_written(db, result)


def _link_to(db: str, folder: str) -> str:
    """Return the path of the link to a database; UsageError if something other than a link is, or will be, there."""
    link = os.path.join(folder, os.path.basename(db.rstrip("/")))
    if os.path.abspath(link) == os.path.abspath(db) or os.path.lexists(link) and not os.path.islink(link):
        raise UsageError(f"create_annoset: the link '{link}' would replace what is no link: give another folder for it")
    return link
