"""What `minicaffe show` draws of one image: class activation maps and saliency (`--cam`, `--saliency`)."""

from __future__ import annotations

import argparse

import numpy as np

from minicaffe.cli.command import FlagParser, print_line
from minicaffe.core.net import Net
from minicaffe.pictures import attribution, plot, show
from minicaffe.pictures.attribution import Scores
from minicaffe.text import class_names


def map_flags(flags: FlagParser) -> None:
    """Add --cam, --saliency, --class and --labels."""
    flags.section("what the score of a class depends on, with --model and --image")
    flags.switch("cam", "draw the class activation map: CAM where the net ends in a global average and a linear layer, "
                        "otherwise Grad-CAM of the last convolution; of each --blob, Grad-CAM")  # fmt: skip
    flags.switch("saliency", "draw the size of the score's gradient at each pixel")
    flags.flag("class", metavar="N|NAME", help="the class (default: the one with the highest score)")
    flags.flag("labels", metavar="FILE", help="names of the classes, one per line; of --samples, too")


def draw_maps(args: argparse.Namespace, net: Net, image: np.ndarray, stem: str, ext: str) -> None:
    """Draw the maps that the flags request for a net that has run forward on an image.

    stem, ext: "_cam" or "_saliency" between them is the name of the picture.
    UsageError for a net without class scores, for an unknown class or blob.  DataError as for `class_names`.
    """
    scores = attribution.find_scores(net)
    labels = class_names(args.labels, scores.count) if args.labels else None
    target = attribution.class_of(scores, net, getattr(args, "class"), labels)
    title = _title(net, scores, target, labels)
    print_line(title)
    if args.cam:
        _draw(image, _cams(net, scores, target, args.blob), title, f"{stem}_cam{ext}")
    if args.saliency:
        values = attribution.saliency(net, scores, target)
        _draw(image, {"saliency": values}, title, f"{stem}_saliency{ext}", overlay=False)


def _draw(image: np.ndarray, maps: dict[str, np.ndarray], title: str, output: str, overlay: bool = True) -> None:
    plot.save(show.plot_maps(image, maps, title, overlay), output)
    print_line(f"Drew {', '.join(maps)} to {output}")


def _cams(net: Net, scores: Scores, target: int, blobs: list[str]) -> dict[str, np.ndarray]:
    """Return the maps by title, at least 0."""
    if not blobs:
        blob = attribution.cam_blob(net, scores)
        if blob is not None:
            return {f"CAM of {blob}": np.maximum(attribution.cam(net, scores, target), 0)}
        blobs = [attribution.last_convolution(net, scores)]
    return {f"Grad-CAM of {blob}": attribution.grad_cam(net, scores, target, blob) for blob in blobs}


def _title(net: Net, scores: Scores, target: int, labels: list[str] | None) -> str:
    """Return the class with its score and, behind Softmax, its probability."""
    name = f"{labels[target]} (class {target})" if labels else f"class {target}"
    score = net.blobs[scores.blob].read_data().ravel()[target]
    words = [name, f"score {score:.4g}"]
    output = net.blobs[net.outputs[0]]
    if net.outputs[0] != scores.blob and output.count == scores.count:
        words.append(f"probability {output.read_data().ravel()[target]:.3f}")
    return ", ".join(words)
