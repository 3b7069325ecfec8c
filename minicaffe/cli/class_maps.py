"""What `minicaffe show` draws of one image: class activation maps and saliency (`--cam`, `--saliency`)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from minicaffe.cli.command import FlagParser
from minicaffe.core.net import Net
from minicaffe.pictures import attribution, show
from minicaffe.pictures.attribution import Scores
from minicaffe.text import class_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def map_flags(flags: FlagParser) -> None:
    """Add --cam, --saliency, --class and --labels."""
    flags.section("what the score of a class depends on, with --model and --image")
    flags.switch("cam", "draw the class activation map: CAM where the net ends in a global average and a linear layer, "
                        "otherwise Grad-CAM of the last convolution; of each --blob, Grad-CAM")  # fmt: skip
    flags.switch("saliency", "draw the size of the score's gradient at each pixel")
    flags.flag("class", metavar="N|NAME", help="the class (default: the one with the highest score)")
    flags.flag("labels", metavar="FILE", help="names of the classes, one per line; of --samples, too")


class Picture(NamedTuple):
    """A figure to write.  suffix: what is appended to the name of the output, such as "_cam".  what: what it shows."""

    suffix: str
    what: str
    figure: Figure


def draw_maps(args: argparse.Namespace, net: Net, image: np.ndarray) -> tuple[str, list[Picture]]:
    """Return a title and the maps that the flags request for a net that has run forward on an image.

    UsageError for a net without class scores, for an unknown class or blob.  DataError as for `class_names`.
    """
    scores = attribution.find_scores(net)
    labels = class_names(args.labels, scores.count) if args.labels else None
    target = attribution.class_of(scores, net, getattr(args, "class"), labels)
    title, pictures = _title(net, scores, target, labels), []
    if args.cam:
        pictures.append(_picture("_cam", image, _cams(net, scores, target, args.blob), title))
    if args.saliency:
        maps = {"saliency": attribution.saliency(net, scores, target)}
        pictures.append(_picture("_saliency", image, maps, title, overlay=False))
    return title, pictures


def _picture(suffix: str, image: np.ndarray, maps: dict[str, np.ndarray], title: str, overlay: bool = True) -> Picture:
    return Picture(suffix, ", ".join(maps), show.plot_maps(image, maps, title, overlay))


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
