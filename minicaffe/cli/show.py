"""`minicaffe show`: draw a net's filters, weight histograms and activations, what it reads, and what it detects."""

from __future__ import annotations

import argparse
import os

import numpy as np

from minicaffe import io
from minicaffe.cli.class_maps import Picture, draw_maps, map_flags
from minicaffe.cli.classify import computing, net_options, options_of
from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.detections import detection_flags, show_detections
from minicaffe.cli.shared_flags import need_picture, need_writable, state_flags
from minicaffe.errors import UsageError
from minicaffe.pictures import plot, show
from minicaffe.pictures.attribution import differentiable
from minicaffe.pictures.summary import format_table


def _flags(flags: FlagParser) -> None:
    flags.argument("weights", metavar="WEIGHTS", nargs="?", help="trained weights, .caffemodel or .caffemodel.h5")
    flags.argument(
        "output", metavar="OUT", nargs="?", help="picture to write (default: WEIGHTS.png, or PROTOTXT_samples.png)"
    )
    flags.flag("layer", metavar="NAME", help="show the filters of this layer (default: the first on 1 or 3 channels)")
    flags.switch("rgb", "the net takes RGB, as those of CIFAR-10 do, not BGR")
    flags.section("activations")
    flags.flag("model", metavar="PROTOTXT", help="deploy prototxt of the net")
    flags.flag("image", metavar="FILE", help="run this image through --model, and draw its blobs")
    flags.flag("blob", action="append", default=[], metavar="NAME", help="only this blob; may be repeated")
    map_flags(flags)
    net_options(flags)
    flags.section("samples")
    flags.flag("samples", metavar="PROTOTXT", help="draw into OUT what the net of this prototxt, of a net or a solver, "
               "reads: pictures after crop, mirror, mean and scale, with labels, boxes or label maps; of clips four "
               "frames; without WEIGHTS")  # fmt: skip
    flags.flag("phase", choices=("TRAIN", "TEST"), default="TRAIN", help="those of this phase (default TRAIN)")
    flags.flag("count", type=int, default=40, metavar="N", help="how many of them, or of --detections (default 40)")
    state_flags(flags)
    detection_flags(flags)


@command(
    "show",
    "Inspect nets, weights and logs",
    "draw filters, weight histograms, activations of an image",
    _flags,
    "  minicaffe show cifar10_quick_iter_5000.caffemodel.h5\n"
    "  minicaffe show net.caffemodel --model deploy.prototxt --image cat.jpg --mean_file mean.binaryproto\n"
    "  minicaffe show net.caffemodel --model deploy.prototxt --image cat.jpg --cam --class tabby --labels synset.txt\n"
    "  minicaffe show --samples solver.prototxt samples.png --rgb --labels classes.txt\n"
    "  minicaffe show --detections train_lmdb boxes.png --labels labelmap.prototxt\n"
    "  minicaffe show ssd.caffemodel boxes.png --model deploy.prototxt --detections test_lmdb --labels map.prototxt",
)
def show_weights(args: argparse.Namespace) -> None:
    """Print a table of all parameters, and draw filters and histograms into OUT.

    With --model and --image, also draw the activations for that image, into OUT with "_activations" appended to its
    name; with --cam or --saliency, instead of them, which parts of the image the score of a class depends on, into OUT
    with "_cam" or "_saliency" appended.  With --samples, draw into OUT (by default the prototxt's name with
    "_samples.png" in place of its ending) what the net reads from its data layers instead, and
    print the range, the mean and the deviation of each channel.

    With --detections, draw images with boxes instead: those that are annotated, and with --model and WEIGHTS those that
    a net that ends in DetectionOutput finds, with class and score; the annotated ones are dashed then.
    """
    if args.detections:
        return _show_detections(args)
    if args.samples is not None:
        from minicaffe.cli.samples import show_samples

        if args.output is not None:
            raise UsageError("show: --samples draws pictures alone: give OUT, but no WEIGHTS")
        show_samples(args, args.weights)
        return
    _check_flags(args)
    output = need_picture(args.output or f"{args.weights}.png")
    stem, ext = os.path.splitext(output)
    of_image = [name for name in ("cam", "saliency") if getattr(args, name)] or ["activations"]
    for name in of_image if args.image is not None else ():
        need_writable(f"{stem}_{name}{ext}")
    weights = show.read_weights(args.weights)
    title, pictures = _draw_image(args) if args.image is not None else ("", [])  # whose errors come before any output
    print_line(format_table(show.table(weights), 40))
    plot.save(show.plot_weights(weights, args.layer, bgr=not args.rgb), output)
    print_line(f"Drew filters and histograms to {output}")
    if title:
        print_line(title)
    for picture in pictures:
        plot.save(picture.figure, f"{stem}{picture.suffix}{ext}")
        print_line(f"Drew {picture.what} to {stem}{picture.suffix}{ext}")


def _show_detections(args: argparse.Namespace) -> None:
    if args.samples is not None or args.image is not None:
        raise UsageError("show: give one of --detections, --samples and --image")
    if args.model is None and args.output is not None:
        raise UsageError("show: --detections without --model draws annotated boxes alone: give OUT, but no WEIGHTS")
    weights, output = (None, args.weights) if args.model is None else (args.weights, args.output)
    show_detections(args, weights, output)


def _check_flags(args: argparse.Namespace) -> None:
    """Raise UsageError for flags that do not belong together."""
    if args.weights is None:
        raise UsageError("show: expected WEIGHTS, or --samples PROTOTXT, or --detections PATH")
    if (args.cam or args.saliency) and args.image is None:
        raise UsageError("show: --cam and --saliency need --model and --image")
    if (args.image is None) != (args.model is None):
        raise UsageError("show: --model and --image go together, give both or neither")


def _draw_image(args: argparse.Namespace) -> tuple[str, list[Picture]]:
    """Return a title ("" for none) and the pictures of --image; errors of `Classifier` and `draw_maps`."""
    from minicaffe.classifier import Classifier

    options = options_of(args)
    order = options.pop("channel_swap")
    with computing(args):
        model = differentiable(args.model) if args.cam or args.saliency else args.model
        net = Classifier(model, args.weights, **options)
        name = net.inputs[0]
        net.blobs[name].reshape(1, *net.blobs[name].shape[1:])
        color = net.blobs[name].shape[1:2] != (1,)
        if color and order is not None and not args.rgb:
            net.transformer.set_channel_swap(name, order)
        image = io.load_image(args.image, color)
        net.blobs[name].data[0] = net.transformer.preprocess(name, image)
        net.forward()
        if args.cam or args.saliency:
            return draw_maps(args, net, image)
        found = {blob: _of_first_image(net.blobs[blob].data) for blob in _blobs_to_show(net, args.blob)}
    return "", [Picture("_activations", "the activations", show.plot_activations(found, image))]


def _blobs_to_show(net, requested: list[str]) -> list[str]:
    """Return `requested`, or, if empty, all blobs of 2 or 4 axes except inputs and the copies made by Split layers.

    UsageError for an unknown blob.
    """
    for blob in requested:
        if blob not in net.blobs:
            raise UsageError(f"show: the net has no blob '{blob}': it has {', '.join(net.blobs)}")
    return requested or [
        name
        for name, blob in net.blobs.items()
        if name not in net.inputs and "_split_" not in name and len(blob.shape) in (2, 4)
    ]


def _of_first_image(values: np.ndarray) -> np.ndarray:
    return values[0].copy()
