"""Two tools of SSD's fork: the sizes of the images in a list, and a label map from a list of class names."""

from __future__ import annotations

import argparse
import os

from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.shared_flags import need_writable
from minicaffe.data.annotations import lists, sources
from minicaffe.errors import UsageError
from minicaffe.files import write_atomically

GROUP = "Prepare data"


def _size_flags(flags: FlagParser) -> None:
    flags.argument("root", metavar="FOLDER", help="the folder of the images")
    flags.argument("list", metavar="LIST", help='list with lines "image annotation" or "image label"')
    flags.argument("output", metavar="OUT", help='text file to write, with a line "name height width" for each image')
    flags.flag("name_id_file", default="", metavar="FILE",
               help="write ids in place of names: a file with a line \"name id\" for each image")  # fmt: skip


@command(
    "get_image_size",
    GROUP,
    "write the sizes of the images in a list",
    _size_flags,
    "  minicaffe get_image_size VOCdevkit test.txt test_name_size.txt",
)
def get_image_size(args: argparse.Namespace) -> None:
    """Write a `name_size_file` for DetectionOutput and DetectionEvaluate; a name is that of the file without folders
    and extension. convert_annoset writes the same file with --name_size_file."""
    from minicaffe.data.image_file import size_of

    need_writable(args.output)
    ids = dict(sources.read_pairs(args.name_id_file)) if args.name_id_file else {}
    sizes = []
    for image, _ in sources.read_pairs(args.list):
        name = sources.size_name(image)
        if ids and name not in ids:
            raise UsageError(f"get_image_size: '{args.name_id_file}' has no id of image '{name}'")
        width, height = size_of(os.path.join(args.root, image))
        sizes.append((ids.get(name, name), height, width))
    write_atomically(args.output, lists.name_size_text(sizes))
    print_line(f"Wrote {args.output}: {len(sizes)} images")


def _label_flags(flags: FlagParser) -> None:
    flags.argument("names", metavar="LIST", help='text file with a line "name [label [display name]]" for each class')
    flags.argument("output", metavar="OUT", help="the label map to write, a prototxt")
    flags.switch("include_background", 'begin with "none_of_the_above", label 0')
    flags.flag("delimiter", default=" ", metavar="TEXT", help="what separates the fields of a line (default: a space)")


@command(
    "create_label_map",
    GROUP,
    "make a label map from a list of class names",
    _label_flags,
    "  minicaffe create_label_map --include_background classes.txt labelmap.prototxt",
)
def create_label_map(args: argparse.Namespace) -> None:
    """Write a LabelMap for `label_map_file`. Classes without labels are numbered in their order, from 0, or, behind
    the background, from 1."""
    labels = lists.read_classes(args.names, args.include_background, args.delimiter)
    write_atomically(args.output, lists.label_map_text(labels))
    print_line(f"Wrote {args.output}: {len(labels.item)} classes")
