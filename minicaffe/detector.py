"""Detector: a net run over windows of images, as R-CNN does.

Girshick, Donahue, Darrell, Malik: Rich feature hierarchies for accurate object detection and semantic segmentation,
2014.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any

import numpy as np

from minicaffe import io
from minicaffe.classifier import TEST, make_transformer
from minicaffe.core.net import Net
from minicaffe.core.scripting import names_in
from minicaffe.data.arrays import numbers
from minicaffe.errors import DataError, UsageError


class Detector(Net):
    """A Net in phase TEST that looks at windows.

    model_file, pretrained_file: deploy prototxt and weights.
    mean, input_scale, raw_scale, channel_swap: as of `minicaffe.io.Transformer`.
    context_pad: how many pixels of the net's input, on each side, show what is around the window; what lies outside
        the image there is filled with the mean.  None or 0: the window alone.
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
        """Run every window of every image through the net, warped to its input.

        images_windows: pairs of an image file and its windows (ymin, xmin, ymax, xmax), in pixels.
        Returns a dict for each window: `window`, `prediction` (a vector), `filename`.
        """
        detections: list[dict[str, Any]] = []
        crops = []
        for filename, windows in map(_pair, images_windows):
            image = io.load_image(filename)
            for window in windows:
                crops.append(self.crop(image, window))
                detections.append({"window": window, "filename": filename})
        if not crops:
            return []
        name = self.inputs[0]
        caffe_in = np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        predictions = self.forward_all(**{name: caffe_in})[self.outputs[0]]
        for detection, prediction in zip(detections, predictions.reshape(len(crops), -1)):
            detection["prediction"] = prediction
        return detections

    def detect_selective_search(self, image_fnames: Iterable[str]) -> list[dict[str, Any]]:
        """Windows by selective search; needs the module `selective_search_ijcv_with_python`, and MATLAB with it.

        UsageError where that module is not installed.
        """
        import os

        try:
            import selective_search_ijcv_with_python as selective_search
        except ImportError as error:
            raise UsageError(
                "selective search needs the module selective_search_ijcv_with_python and MATLAB, which "
                "are not here; give a list of windows to detect_windows instead"
            ) from error
        names = [os.path.abspath(name) for name in names_in(image_fnames)]
        return self.detect_windows(zip(names, selective_search.get_windows(names)))

    def crop(self, im: np.ndarray, window: Sequence[float] | np.ndarray) -> np.ndarray:
        """The window (ymin, xmin, ymax, xmax) of an image (H, W, K), with context where `context_pad` says so.

        DataError for a window that lies outside the image or holds no pixel.
        """
        window = _window(window)
        ymin, xmin, ymax, xmax = (int(v) for v in window)
        if not self.context_pad:
            crop = im[max(ymin, 0) : ymax, max(xmin, 0) : xmax]
            if crop.size == 0:
                raise DataError(f"window {tuple(window)} holds no pixel of an image of {im.shape[0]}x{im.shape[1]}")
            return crop
        return self._crop_with_context(im, window)

    def _crop_with_context(self, im: np.ndarray, window: np.ndarray) -> np.ndarray:
        size = np.array(self.crop_dims[:2], float)  # of the net's input: height, width
        grow = size / (size - 2 * (self.context_pad or 0))
        half = (window[2:] - window[:2] + 1) / 2
        centre = window[:2] + half
        low, high = np.round(centre - grow * half), np.round(centre + grow * half)
        scale = size / (high - low + 1)
        pad = np.round(np.maximum(0, -low) * scale).astype(int)  # how much of the input lies outside the image
        limit = np.array(im.shape[:2])
        low, high = low.clip(0, limit), high.clip(0, limit)
        inside = np.minimum(np.round((high - low + 1) * scale).astype(int), size.astype(int) - pad)
        (y0, x0), (y1, x1) = low.astype(int), high.astype(int)
        if y0 >= y1 or x0 >= x1 or inside.min() < 1:
            raise DataError(f"window {tuple(window)} lies outside an image of {im.shape[0]}x{im.shape[1]}")
        crop = np.ones(self.crop_dims, np.float32) * self.crop_mean
        crop[pad[0] : pad[0] + inside[0], pad[1] : pad[1] + inside[1]] = io.resize_image(im[y0:y1, x0:x1], inside)
        return crop

    def configure_crop(self, context_pad: int | None) -> None:
        """Set the amount of context, and prepare what fills it outside the image: the mean, as an image."""
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
        raise UsageError(f"detect_windows: expected pairs of an image file and its windows, got {pair!r}")
    return pair


def _window(window: Sequence[float] | np.ndarray) -> np.ndarray:
    values = numbers(window, "a window").astype(float)
    if values.shape != (4,) or not np.isfinite(values).all():
        raise DataError(f"a window must be (ymin, xmin, ymax, xmax), in pixels, got {window}")
    return values
