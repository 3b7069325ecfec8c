"""`minicaffe cpp_classification`: the best five classes of an image, as the original's examples/cpp_classification."""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np

from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.devices import computing_on, device_flags
from minicaffe.cli.shared_flags import python_layer_flags, python_layers_of
from minicaffe.data.image import read_image, resize
from minicaffe.data.mean import channel_means
from minicaffe.errors import DataError, UsageError
from minicaffe.inference.results import Best
from minicaffe.text import class_names

_BEST = 5
_GRAY, _BITS = np.array([1868, 9617, 4899]), 14  # OpenCV's weights of blue, green and red, and their sum as 2^14


def _flags(flags: FlagParser) -> None:
    flags.argument("model", metavar="DEPLOY", help="deploy prototxt with one input, of 1 or 3 channels, and one output")
    flags.argument("weights", metavar="WEIGHTS", help="trained weights, .caffemodel or .h5")
    flags.argument("mean", metavar="MEAN", help="mean image, .binaryproto; its average per channel is subtracted")
    flags.argument("labels", metavar="LABELS", help="class names, one a line")
    flags.argument("image", metavar="IMAGE", help="the image to classify")
    python_layer_flags(flags)
    device_flags(flags)


@command(
    "cpp_classification",
    "Use trained nets",
    "print the best five classes of an image",
    _flags,
    "  minicaffe cpp_classification deploy.prototxt net.caffemodel mean.binaryproto labels.txt cat.jpg",
)
def cpp_classification(args: argparse.Namespace) -> None:
    """Equivalent to the original's examples/cpp_classification: the same arguments and the same lines.

    The image is resized to the net's input, without a crop."""
    with python_layers_of(args), computing_on(args):
        from minicaffe.core.net import Net
        from minicaffe.proto import TEST

        net = Net(args.model, TEST, weights=args.weights)
        channels, height, width = _input_shape(net)
        mean = _mean(args.mean, channels)
        labels = class_names(args.labels, math.prod(net.blobs[net.outputs[0]].shape[1:]))
        print_line(f"---------- Prediction for {args.image} ----------")
        pixels = resize(_channels(read_image(args.image, color=None), channels), height, width)
        net.blobs[net.inputs[0]].reshape(1, channels, height, width)
        net.reshape()
        net.blobs[net.inputs[0]].data[...] = pixels.astype(np.float32) - mean
        net.forward()
        best = Best.of(net.blobs[net.outputs[0]].data, _BEST)
    for index, score in zip(best.classes[0], best.scores[0]):
        print_line(f'{score:.4f} - "{labels[index]}"')


def _input_shape(net: Any) -> tuple[int, int, int]:
    """Return channels, height and width of the only input; UsageError for nets of another form."""
    if len(net.inputs) != 1 or len(net.outputs) != 1:
        raise UsageError(
            f"cpp_classification: expected a net with one input and one output, got {len(net.inputs)} and "
            f"{len(net.outputs)}"
        )
    shape = tuple(net.blobs[net.inputs[0]].shape)
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise UsageError(f"cpp_classification: expected an input (N, 1 or 3, H, W), got {shape}")
    return shape[1:]


def _mean(path: str, channels: int) -> np.ndarray:
    """Return the mean (channels, 1, 1) of each channel of a mean image; DataError for another number of channels."""
    mean = channel_means(path, np.float64)
    if len(mean) != channels:
        raise DataError(f"mean file '{path}': expected {channels} channels, as the net's input, got {len(mean)}")
    return mean.astype(np.float32)[:, None, None]


def _channels(pixels: np.ndarray, count: int) -> np.ndarray:
    """Return an image (C, H, W) uint8, BGR or gray, with `count` channels, converted as OpenCV's cvtColor does."""
    if len(pixels) == count:
        return pixels
    if count == 3:
        return np.repeat(pixels, 3, axis=0)
    gray = np.tensordot(_GRAY, pixels.astype(np.int64), 1) + (1 << _BITS - 1) >> _BITS
    return gray.astype(np.uint8)[None]
