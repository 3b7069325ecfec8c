"""Detector: a net applied to windows of images, as in R-CNN.

Girshick, Donahue, Darrell, Malik: Rich feature hierarchies for accurate object detection and semantic segmentation,
2014.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any

import numpy as np

from minicaffe import io
from minicaffe.classifier import make_transformer
from minicaffe.core.net import Net
from minicaffe.core.scripting import names_in
from minicaffe.data.arrays import numbers
from minicaffe.errors import DataError, UsageError
from minicaffe.proto import TEST


class Detector(Net):
    """A Net in phase TEST that is applied to windows of images.

    model_file, pretrained_file: deploy prototxt and weights.
    mean, input_scale, raw_scale, channel_swap: options of `minicaffe.io.Transformer`; None (default): not applied.
    context_pad: width, in pixels of the net's input, of the context of the window on each side; the part of it
        outside the image is filled with the mean.  None (default) or 0: no context.
    UsageError when the net has no input or no output, or when `context_pad` leaves no room for the window.
    """

    def __init__(
        self,
        model_file: str | PathLike,
        pretrained_file: str | PathLike,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = make_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(self, images_windows: Iterable[tuple[str, Iterable[Sequence[float]]]]) -> list[dict[str, Any]]:
        """Run every window of every image through the net, resized to its input.

        images_windows: pairs of an image file and its windows (ymin, xmin, ymax, xmax), in pixels.
        Returns one dict per window, in order: `window`, `prediction` (a vector), `filename`.
        DataError for an image that cannot be read and for a window outside its image; UsageError for an element that
        is not a pair.
        """
        if isinstance(images_windows, (str, PathLike)) or not isinstance(images_windows, Iterable):
            raise UsageError(f"detect_windows: expected pairs of an image file and its windows, got {images_windows!r}")
        name = self.inputs[0]
        batch = max(1, self.blobs[name].shape[0])
        detections: list[dict[str, Any]] = []
        crops: list[np.ndarray] = []
        for filename, windows in map(_pair, images_windows):
            image = io.load_image(filename)
            for window in _windows(windows):
                crops.append(self.transformer.preprocess(name, self.crop(image, window)))
                detections.append({"window": window, "filename": filename})
                if len(crops) == batch:  # memory is needed for one batch of windows at a time
                    self._predict(crops, detections[-batch:])
                    crops = []
        if crops:
            self._predict(crops, detections[-len(crops) :])
        return detections

    def _predict(self, crops: list[np.ndarray], detections: list[dict[str, Any]]) -> None:
        """Run the net on preprocessed crops and add the `prediction` of each to its detection."""
        predictions = self.forward_all(**{self.inputs[0]: np.stack(crops)})[self.outputs[0]]
        for detection, prediction in zip(detections, predictions.reshape(len(crops), -1)):
            detection["prediction"] = prediction

    def detect_selective_search(self, image_fnames: Iterable[str]) -> list[dict[str, Any]]:
        """Run `detect_windows` on windows proposed by selective search.

        image_fnames: image files.  Needs the module `selective_search_ijcv_with_python`, which needs MATLAB.
        UsageError when that module is not installed.
        """
        import os

        try:
            import selective_search_ijcv_with_python as selective_search
        except ImportError as error:
            raise UsageError(
                "selective search needs the module selective_search_ijcv_with_python and MATLAB, which "
                "are not installed; give a list of windows to detect_windows instead"
            ) from error
        names = [os.path.abspath(name) for name in names_in(image_fnames)]
        return self.detect_windows(zip(names, selective_search.get_windows(names)))

    def crop(self, im: np.ndarray, window: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return the window (ymin, xmin, ymax, xmax), in pixels, of an image (H, W, K).

        Without `context_pad` the result has the size of the window; with it, the size of the net's input.
        DataError for a window that is outside the image or contains no pixel.
        """
        window = _window(window)
        ymin, xmin, ymax, xmax = (int(v) for v in window)
        if not self.context_pad:
            crop = im[max(ymin, 0) : ymax, max(xmin, 0) : xmax]
            if crop.size == 0:
                raise DataError(f"window {_shown(window)} holds no pixel of an image of {im.shape[0]}x{im.shape[1]}")
            return crop
        return self._crop_with_context(im, window)

    def _crop_with_context(self, im: np.ndarray, window: np.ndarray) -> np.ndarray:
        size = np.array(self.crop_dims[:2], float)  # the net's input: height, width
        grow = size / (size - 2 * (self.context_pad or 0))
        half = (window[2:] - window[:2] + 1) / 2
        centre = window[:2] + half
        low, high = np.round(centre - grow * half), np.round(centre + grow * half)
        scale = size / (high - low + 1)
        pad = np.round(np.maximum(0, -low) * scale).astype(int)  # pixels of the input above and left of the image
        limit = np.array(im.shape[:2])
        low, high = low.clip(0, limit), high.clip(0, limit)
        inside = np.minimum(np.round((high - low + 1) * scale).astype(int), size.astype(int) - pad)
        (y0, x0), (y1, x1) = low.astype(int), high.astype(int)
        if y0 >= y1 or x0 >= x1 or inside.min() < 1:
            raise DataError(f"window {_shown(window)} lies outside an image of {im.shape[0]}x{im.shape[1]}")
        crop = np.ones(self.crop_dims, np.float32) * self.crop_mean
        crop[pad[0] : pad[0] + inside[0], pad[1] : pad[1] + inside[1]] = io.resize_image(im[y0:y1, x0:x1], inside)
        return crop

    def configure_crop(self, context_pad: int | None) -> None:
        """Set the context and compute the mean image that fills the part of it outside an image.

        context_pad: as of the class.  UsageError when it leaves no room for the window.
        """
        name = self.inputs[0]
        transformer = self.transformer
        order = np.argsort(transformer.transpose[name])
        self.crop_dims = tuple(np.array(self.blobs[name].shape[1:])[order])
        self.context_pad = context_pad
        if not context_pad:
            return
        if 2 * context_pad >= min(self.crop_dims[:2]):
            raise UsageError(
                f"Detector: a context_pad of {context_pad} leaves nothing of an input of "
                f"{self.crop_dims[0]}x{self.crop_dims[1]}"
            )
        mean = transformer.mean.get(name)
        self.crop_mean: np.ndarray | float = 0.0
        if mean is not None:
            planes = np.asarray(mean, np.float32)
            planes = planes[np.newaxis] if planes.ndim == 2 else planes
            if name in transformer.channel_swap and len(planes) > 1:
                planes = planes[np.argsort(transformer.channel_swap[name])]
            self.crop_mean = planes.transpose(order) / transformer.raw_scale.get(name, 1)


def _pair(pair: tuple[str, Iterable[Sequence[float]]]) -> tuple[str, Iterable[Sequence[float]]]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise UsageError(
            f"detect_windows: expected pairs of an image file and its windows, got {pair!r}; one image is "
            "[(file, windows)]"
        )
    if not isinstance(pair[0], (str, PathLike)) and not hasattr(pair[0], "read"):
        raise UsageError(
            f"detect_windows: expected the path of an image first in each pair, got {type(pair[0]).__name__}"
        )
    return pair


def _windows(windows: Iterable[Sequence[float]]) -> Iterable[Sequence[float]]:
    """Return the windows of an image; UsageError for one window instead of a list."""
    if isinstance(windows, (str, PathLike)) or not isinstance(windows, Iterable):
        raise UsageError(f"detect_windows: expected a list of windows, got {windows!r}")
    windows = list(windows)
    if len(windows) == 4 and all(np.ndim(value) == 0 for value in windows):
        raise UsageError(f"detect_windows: expected a list of windows, got {windows}; one window is [window]")
    return windows


def _shown(window: Sequence[float] | np.ndarray) -> str:
    return f"({', '.join(f'{value:g}' for value in window)})"


def _window(window: Sequence[float] | np.ndarray) -> np.ndarray:
    values = numbers(window, "a window").astype(float)
    if values.shape != (4,) or not np.isfinite(values).all():
        raise DataError(f"a window must be (ymin, xmin, ymax, xmax), in pixels, got {window}")
    return values
