"""Classifier: a net that predicts class probabilities for images of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from typing import Any, TypeVar

import numpy as np

from minicaffe import io
from minicaffe.core.net import Net
from minicaffe.data.arrays import as_image, height_and_width
from minicaffe.errors import ShapeError, UsageError
from minicaffe.proto import TEST, caffe_pb2

T = TypeVar("T")


def make_transformer(
    net: Net,
    mean: np.ndarray | None,
    input_scale: float | None,
    raw_scale: float | None,
    channel_swap: Sequence[int] | None,
) -> io.Transformer:
    """Return the Transformer from images (H, W, K) to a net's first input, with the options that are not None.

    UsageError when the net has no input or no output.
    """
    if not net.inputs:
        raise UsageError("this net has no input for images: it needs a deploy prototxt, with an Input layer")
    if not net.outputs:
        raise UsageError("this net has no output to use as prediction: every top is read by another layer")
    name = net.inputs[0]
    transformer = io.Transformer({name: net.blobs[name].shape})
    transformer.set_transpose(name, (2, 0, 1))
    options: tuple[tuple[Callable[[str, Any], None], Any], ...] = (
        (transformer.set_mean, mean),
        (transformer.set_input_scale, input_scale),
        (transformer.set_raw_scale, raw_scale),
        (transformer.set_channel_swap, channel_swap),
    )
    for set_option, value in options:
        if value is not None:
            set_option(name, value)
    return transformer


def batches(items: Sequence[T], net: Net) -> Iterator[Sequence[T]]:
    """Yield the items in parts of as many as the net's batch, so that memory is needed for one part at a time."""
    step = max(1, net.blobs[net.inputs[0]].shape[0])
    return (items[start : start + step] for start in range(0, len(items), step))


class Classifier(Net):
    """A Net in phase TEST with the preprocessing of its images.

    model_file, pretrained_file: deploy prototxt, or its NetParameter, and weights.
    image_dims: (height, width), in pixels, that images are resized to before they are cropped to the net's input;
        None (default): the size of that input, so nothing is cropped.
    mean, input_scale, raw_scale, channel_swap: options of `minicaffe.io.Transformer`; None (default): not applied.
    UsageError when the net has no input or no output.
    """

    def __init__(
        self,
        model_file: str | PathLike | caffe_pb2.NetParameter,
        pretrained_file: str | PathLike,
        image_dims: Sequence[int] | None = None,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = make_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        dims = self.crop_dims if image_dims is None else image_dims
        self.image_dims = height_and_width(dims, "Classifier: image_dims")

    def predict(self, inputs: Sequence[np.ndarray] | np.ndarray, oversample: bool = True) -> np.ndarray:
        """Return the class probabilities (N, C) of N images.

        inputs: images (H, W, K) as returned by `load_image`; grey ones may be (H, W).
        oversample: True (default) averages over ten crops, the corners, the centre and their mirror images; False
            uses the centre crop alone.
        UsageError for no images, for images with different numbers of channels, and for `image_dims` smaller than
        the net's input.
        """
        images = self._same_channels(inputs)
        return np.concatenate([self._predict(part, oversample) for part in batches(images, self)])

    def _predict(self, images: Sequence[np.ndarray], oversample: bool) -> np.ndarray:
        resized = np.stack([io.resize_image(image, self.image_dims) for image in images])
        crops = io.oversample(resized, self.crop_dims) if oversample else self._centres(resized)
        name = self.inputs[0]
        caffe_in = np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        channels = self.blobs[name].shape[1]
        if caffe_in.ndim == 4 and caffe_in.shape[1] not in (1, channels):
            raise ShapeError(
                f"Classifier.predict: the net takes images of {channels} channel(s), (H, W, {channels}), "
                f"got shape {images[0].shape}"
            )
        predictions = self.forward_all(**{name: caffe_in})[self.outputs[0]]
        if oversample:
            predictions = predictions.reshape(len(images), 10, -1).mean(1)
        return predictions

    def _same_channels(self, inputs: Sequence[np.ndarray] | np.ndarray) -> list[np.ndarray]:
        """Return the images as arrays (H, W, K) of one K."""
        is_one = isinstance(inputs, np.ndarray) and inputs.ndim != 4
        if is_one or isinstance(inputs, (str, PathLike)) or not isinstance(inputs, Iterable):
            got = f"one array of shape {np.shape(inputs)}" if is_one else repr(inputs)
            raise UsageError(
                f"Classifier.predict: expected a list of images (H, W, K), got {got}; one image is [image]"
            )
        images = [as_image(image, f"Classifier.predict: image {i}") for i, image in enumerate(inputs)]
        if not images:
            raise UsageError("Classifier.predict: expected at least one image, got none")
        channels = {image.shape[2] for image in images}
        if len(channels) > 1:
            raise UsageError(f"Classifier.predict: expected images of as many channels, got {sorted(channels)}")
        return images

    def _centres(self, images: np.ndarray) -> np.ndarray:
        height, width = (int(d) for d in self.crop_dims)
        y, x = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
        if y < 0 or x < 0:
            raise UsageError(
                f"Classifier: the net takes {height}x{width}, which image_dims {self.image_dims} do not contain"
            )
        return images[:, y : y + height, x : x + width]
