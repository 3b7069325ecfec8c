"""`minicaffe show --detections`: pictures with the boxes that a net finds, and those that are annotated."""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from minicaffe.cli.classify import computing
from minicaffe.cli.command import FlagParser, print_line
from minicaffe.cli.infer import block_flags, check_block, preparation_of
from minicaffe.cli.shared_flags import built_net, need_file, need_picture, weight_files
from minicaffe.data.annotations import voc
from minicaffe.data.annotations.pictures import AnnotatedImage, database_images, file_images, voc_images
from minicaffe.data.box_rows import inside
from minicaffe.data.db import backends_in
from minicaffe.data.label_map import LabelMap, read_names_of_labels
from minicaffe.errors import DataError, UsageError
from minicaffe.pictures.plot import save
from minicaffe.pictures.sheet import BYTES, Frame, Tile, draw_sheet
from minicaffe.proto import TEST

if TYPE_CHECKING:
    from minicaffe.inference.inputs import Preparation
    from minicaffe.inference.predictor import Predictor

_BATCH = 16  # images that the net runs at a time
_WIDTH = 1.8  # of a picture in the sheet, in inches


def detection_flags(flags: FlagParser) -> None:
    """Add the flags of the section "detections"."""
    flags.section("detections")
    flags.flag("detections", action="append", default=[], metavar="PATH",
               help="draw the boxes of images into OUT, those that are annotated and, with --model and WEIGHTS, those "
                    "that the net finds: of a database of AnnotatedDatums, a folder of VOC, a folder of images or an "
                    "image; may be repeated")  # fmt: skip
    flags.flag("threshold", type=float, metavar="X", default=0.5, help="least score of a detection (default 0.5)")
    block_flags(flags)


class _Detection(NamedTuple):
    """A box that a net finds, its edges as fractions of the image's width and height."""

    label: int
    score: float
    xmin: float
    ymin: float
    xmax: float
    ymax: float


def show_detections(args: argparse.Namespace, weights: str | None, output: str | None) -> None:
    """Draw images with their boxes, and print how many there are.

    args: `detections`, the paths; `model`; `threshold`; `count`; `labels`, a label map or names of classes, one a line;
    the flags for the preprocessing.  weights: files of the net's weights; None: there is no net.
    output: the picture to write; None: the first path with "_detections.png" behind it.
    UsageError for a net without DetectionOutput, DataError for what cannot be read.
    """
    if args.count < 1:
        raise UsageError(f"--count: expected a number above 0, got {args.count}")
    check_block(args)
    output = need_picture(output or f"{args.detections[0].rstrip('/')}_detections.png")
    images = list(itertools.islice(_images(args.detections), args.count))
    if not images:
        raise DataError(f"there is no image in {args.detections[0]}")
    names = _names(args.labels, images, bool(args.model))
    found, notes = _detect(args, weights or "", images) if args.model else ([[] for _ in images], [])
    title = f"{len(images)} images"
    if args.model:
        title += f", {sum(map(len, found))} detections of score {args.threshold:g} or more"
    if annotated := sum(len(each.objects) for each in images):
        notes.append(f"{annotated} annotated boxes{', dashed' if args.model else ''}; dotted: difficult")
    print_line("\n".join([title, *notes]))
    tiles = [
        Tile(
            image.pixels(), [os.path.basename(image.name)],
            [*_annotated(image, names, bool(args.model)), *_found(boxes, names)],
        )
        for image, boxes in zip(images, found, strict=True)
    ]  # fmt: skip
    save(draw_sheet(tiles, title, notes, BYTES, not args.rgb, _WIDTH), output)
    print_line(f"Drew the boxes to {output}")


def _images(paths: Sequence[str]) -> Iterator[AnnotatedImage]:
    from minicaffe.inference.inputs import images_in

    for path in paths:
        if backends := backends_in(path):
            yield from database_images(path, backends[0])
        elif os.path.isdir(os.path.join(path, voc.ANNOTATIONS)):
            yield from voc_images(path)
        elif os.path.isdir(path):
            yield from file_images(images_in(path))
        else:
            yield from file_images([need_file(path, "--detections", "an image, a folder or a database")])


# -- boxes -------------------------------------------------------------------------------------------------------------


def _names(path: str | None, images: Sequence[AnnotatedImage], with_net: bool) -> LabelMap:
    """Return the classes in a file, as of `read_names_of_labels`, or, without one, the sorted ones of the images.

    UsageError where names of annotations are to be compared with the labels of a net and there is no file.
    """
    if path:
        return read_names_of_labels(path)
    found = {each.name for image in images for each in image.objects if isinstance(each.name, str)}
    if found and with_net:
        raise UsageError("--detections: the annotations have class names: give the net's, --labels labelmap.prototxt")
    names = dict(enumerate(sorted(found), 1))
    return LabelMap("", names, names)


def _annotated(image: AnnotatedImage, names: LabelMap, with_net: bool) -> Iterator[Frame]:
    for each in image.objects:
        label = names.label_of(each.name) if isinstance(each.name, str) else each.name
        text = "" if with_net else _name(label, names)
        line = ":" if each.difficult else "--" if with_net else "-"
        yield Frame(each.xmin, each.ymin, each.xmax, each.ymax, label, text, line)


def _found(boxes: Sequence[_Detection], names: LabelMap) -> Iterator[Frame]:
    for label, score, xmin, ymin, xmax, ymax in boxes:
        yield Frame(xmin, ymin, xmax, ymax, label, f"{_name(label, names)} {score:.2f}")


def _name(label: int, names: LabelMap) -> str:
    return names.display_names.get(label, str(label))


# -- the net -----------------------------------------------------------------------------------------------------------


def _detect(
    args: argparse.Namespace, weights: str, images: Sequence[AnnotatedImage]
) -> tuple[list[list[_Detection]], list[str]]:
    """Return the detections of each image, those of the highest scores last, and the preprocessing in words."""
    from minicaffe.inference.predictor import Predictor

    need_file(args.model, "--model", "a model definition")
    with computing(args):
        predictor = Predictor(built_net(args, TEST, weight_files(weights, "WEIGHTS")), args.blob)
        if not predictor.detected_classes:
            raise UsageError(f"--detections: the net of '{args.model}' has no DetectionOutput layer as its output")
        preparation = preparation_of(args, predictor)
        found: list[list[_Detection]] = []
        for start in range(0, len(images), _BATCH):
            found += _of_batch(predictor, preparation, images[start : start + _BATCH], args.threshold)
    return found, preparation.describe().split("; ")


def _of_batch(
    predictor: Predictor, preparation: Preparation, images: Sequence[AnnotatedImage], threshold: float
) -> list[list[_Detection]]:
    """Return the detections of each image, those of the highest scores last."""
    batch = np.empty((len(images), *predictor.shape[1:]), np.float32)
    places = []
    for (name, content, _), out in zip(images, batch, strict=True):
        image = preparation.decode(content, name) if isinstance(content, bytes) else preparation.resized(content, name)
        preparation.write(image, out, name)
        places.append(preparation.place(*image.shape[1:]))
    (rows,) = predictor.predict(batch).values()
    found: list[list[_Detection]] = [[] for _ in images]
    for row in sorted(rows.reshape(-1, 7), key=lambda row: row[2]):
        (number, label), score = map(int, row[:2]), float(row[2])
        if label >= 0 and score >= threshold:
            found[number].append(_Detection(label, score, *inside(row[3:], places[number]).tolist()))
    return found
