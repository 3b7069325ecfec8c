"""`minicaffe show`: draw a net's filters, weight histograms and activations."""

from __future__ import annotations

import argparse
import os

import numpy as np

from minicaffe import io
from minicaffe.cli.classify import computing, net_options, options_of
from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.shared_flags import need_picture, need_writable, state_flags
from minicaffe.errors import UsageError
from minicaffe.pictures import plot, show
from minicaffe.pictures.summary import format_table


def _flags(flags: FlagParser) -> None:
    flags.argument("weights", metavar="WEIGHTS", nargs="?", help="trained weights, .caffemodel or .caffemodel.h5")
    flags.argument("output", metavar="OUT", nargs="?", help="picture to write (default: WEIGHTS.png)")
    flags.flag("layer", metavar="NAME", help="show the filters of this layer (default: the first on 1 or 3 channels)")
    flags.switch("rgb", "the net takes RGB, as those of CIFAR-10 do, not BGR")
    flags.section("activations")
    flags.flag("model", metavar="PROTOTXT", help="deploy prototxt of the net")
    flags.flag("image", metavar="FILE", help="run this image through --model, and draw its blobs")
    flags.flag("blob", action="append", default=[], metavar="NAME", help="only this blob; may be repeated")
    net_options(flags)
    flags.section("samples")
    flags.flag("samples", metavar="PROTOTXT", help="draw into OUT what the net of this prototxt, of a net or a solver, "
               "reads: pictures after crop, mirror, mean and scale, with labels; without WEIGHTS")  # fmt: skip
    flags.flag("phase", choices=("TRAIN", "TEST"), default="TRAIN", help="those of this phase (default TRAIN)")
    flags.flag("count", type=int, default=40, metavar="N", help="how many of them (default 40)")
    flags.flag("labels", metavar="FILE", help="class names, one a line")
    state_flags(flags)


@command(
    "show",
    "Inspect nets, weights and logs",
    "draw filters, weight histograms, activations of an image",
    _flags,
    "  minicaffe show cifar10_quick_iter_5000.caffemodel.h5\n"
    "  minicaffe show net.caffemodel --model deploy.prototxt --image cat.jpg --mean_file mean.binaryproto\n"
    "  minicaffe show --samples solver.prototxt samples.png --rgb --labels classes.txt",
)
def show_weights(args: argparse.Namespace) -> None:
    """Print a table of all parameters, and draw filters and histograms into OUT.

    With --model and --image, also draw the activations for that image, into OUT with "_activations" appended to its
    name.  With --samples, draw what the net reads from its data layers instead, and print the range, the mean and the
    deviation of each channel.
    """
    if args.samples is not None:
        from minicaffe.cli.samples import show_samples

        if args.output is not None:
            raise UsageError("show: --samples draws pictures alone: give OUT, but no WEIGHTS")
        show_samples(args, args.weights)
        return
    if args.weights is None:
        raise UsageError("show: expected WEIGHTS, or --samples PROTOTXT")
    if (args.image is None) != (args.model is None):
        raise UsageError("show: --model and --image go together, give both or neither")
    output = need_picture(args.output or f"{args.weights}.png")
    stem, ext = os.path.splitext(output)
    activations = f"{stem}_activations{ext}"
    if args.image is not None:
        need_writable(activations)
    weights = show.read_weights(args.weights)
    print_line(format_table(show.table(weights), 40))
    plot.save(show.plot_weights(weights, args.layer, bgr=not args.rgb), output)
    print_line(f"Drew filters and histograms to {output}")
    if args.image is not None:
        _draw_activations(args, activations)


def _draw_activations(args: argparse.Namespace, output: str) -> None:
    from minicaffe.classifier import Classifier

    image = io.load_image(args.image)
    options = options_of(args)
    if args.rgb:
        options["channel_swap"] = None
    with computing(args):
        net = Classifier(args.model, args.weights, **options)
        name = net.inputs[0]
        net.blobs[name].reshape(1, *net.blobs[name].shape[1:])
        net.blobs[name].data[0] = net.transformer.preprocess(name, image)
        net.forward()
        found = {blob: _of_first_image(net.blobs[blob].data) for blob in _blobs_to_show(net, args.blob)}
    plot.save(show.plot_activations(found, image), output)
    print_line(f"Drew the activations to {output}")


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
