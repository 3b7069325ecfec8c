"""`minicaffe resize_and_crop_images`: convert images to one size, for a data set."""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ThreadPoolExecutor

from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.outputs import WRITE_ERRORS
from minicaffe.errors import DataError, UsageError
from minicaffe.text import read_names


def _flags(flags: FlagParser) -> None:
    flags.flag("input", metavar="LIST", required=True, help="text file with an image name in each line")
    flags.flag("input_folder", metavar="DIR", default="", help="folder before the names in LIST")
    flags.flag("output_folder", metavar="DIR", required=True, help="folder for the new images, under the same names")
    flags.flag("output_side_length", type=int, metavar="N", default=256, help="side of the new images (default 256)")
    flags.flag("num_clients", type=int, metavar="N", default=2, help="how many images at a time (default 2)")
    flags.flag("image_lib", metavar="NAME", default="opencv", help="accepted and ignored: resized as by OpenCV")


@command(
    "resize_and_crop_images",
    "Prepare data",
    "scale images to one side length and crop their centres",
    _flags,
    "  minicaffe resize_and_crop_images --input train.txt --input_folder raw --output_folder small",
)
def resize_and_crop_images(args: argparse.Namespace) -> None:
    """Scale the shorter side to --output_side_length and crop the centre to a square.

    Images that cannot be read are skipped, each with a line of output; a full disk is an error.
    """
    if args.output_side_length < 1 or args.num_clients < 1:
        raise UsageError("resize_and_crop_images: --output_side_length and --num_clients must be at least 1")
    names = read_names(args.input, "image list")

    def convert(name: str) -> str | None:
        target = os.path.join(args.output_folder, name)
        try:
            resize_and_crop(os.path.join(args.input_folder, name), target, args.output_side_length)
        except (DataError, OSError, ValueError) as error:
            if getattr(error.__cause__, "errno", None) in WRITE_ERRORS:  # the disk is full: so for all others
                raise
            return f"left out '{name}': {error}"
        return None

    with ThreadPoolExecutor(args.num_clients) as pool:
        complaints = [text for text in pool.map(convert, names) if text]
    for text in complaints:
        print_line(text)
    print_line(f"Wrote {len(names) - len(complaints)} of {len(names)} images to {args.output_folder}")


def resize_and_crop(source: str, target: str, side: int) -> None:
    """Scale the shorter side of an image to `side` pixels, crop the centre square and write it to `target`.

    Linear, by OpenCV's `resize`; a longer side of `side * longer / shorter` pixels is cut to a whole number.
    DataError when `source` cannot be read or would become too large; DataError or OSError when `target` cannot be
    written.
    """
    from minicaffe.data.image import encode_image, read_pixels, resize
    from minicaffe.data.image_file import check_pixels
    from minicaffe.files import write_atomically

    image = read_pixels(source)
    _, *size = image.shape
    height, width = (side * length // min(size) for length in size)
    check_pixels(width, height, f"{source}, scaled to a shorter side of {side},")
    y, x = (height - side) // 2, (width - side) // 2
    square = resize(image, height, width)[:, y : y + side, x : x + side]
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    write_atomically(target, encode_image(square, os.path.splitext(target)[1]))
