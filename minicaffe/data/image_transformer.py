"""Transformer: conversion of images (H, W, K) to the input of a net (K, H, W), and back."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

import numpy as np

from minicaffe.data.arrays import as_image, numbers, same_axes
from minicaffe.data.resize import resize_image
from minicaffe.errors import BlobError, ShapeError, UsageError, nearest


class Transformer:
    """Preprocessing of images for the input blobs of a net.

    inputs: shape (N, K, H, W) by blob name: `{"data": net.blobs["data"].data.shape}`.

    `preprocess` applies, in this order, those steps that are set: float32; resize to (H, W); transpose; channel swap;
    multiply by the raw scale; subtract the mean; multiply by the input scale.  `deprocess` applies the inverse steps in
    reverse order, without the resizing.  All methods raise UsageError for an unknown input.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = {name: _shape(name, shape) for name, shape in inputs.items()}
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def __check_input(self, in_: str) -> None:
        if not isinstance(in_, str) or in_ not in self.inputs:
            hint = nearest(str(in_), self.inputs)
            raise UsageError(f"{in_!r} is not one of the net inputs: {list(self.inputs)}{hint}")

    def preprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """Return the image `data` (H', W', K), grey also (H', W'), as input of the net, (K, H, W) float32.

        `data` is not modified.
        ShapeError (a ValueError) when the image, its channels or the mean do not fit; UsageError for a file name and
        for values that are not numbers.
        """
        self.__check_input(in_)
        caffe_in = as_image(data, f"input {in_!r}").astype(np.float32, copy=True)
        in_dims = self.inputs[in_][2:]
        if caffe_in.shape[:2] != in_dims:
            caffe_in = resize_image(caffe_in, in_dims)
        if in_ in self.transpose:
            caffe_in = caffe_in.transpose(self.transpose[in_])
        elif np.ndim(data) == 2:
            caffe_in = caffe_in[:, :, 0]
        if in_ in self.channel_swap:
            caffe_in = self._swapped(in_, caffe_in, self.channel_swap[in_])
        if in_ in self.raw_scale:
            caffe_in *= self.raw_scale[in_]
        if in_ in self.mean:
            caffe_in -= self._fitting_mean(in_, caffe_in)
        if in_ in self.input_scale:
            caffe_in *= self.input_scale[in_]
        return caffe_in

    def deprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """Return the net input `data`, (K, H, W) or (1, K, H, W), as an image (H, W, K), a new array.

        If no transpose is set, the result has the axes of the input, without those of length 1.
        ShapeError (a ValueError) when the data, their channels or the mean do not fit.
        """
        self.__check_input(in_)
        decaf_in = self._without_batch(in_, numbers(data, f"input {in_!r}"))
        if in_ in self.input_scale:
            decaf_in /= self.input_scale[in_]
        if in_ in self.mean:
            decaf_in += self._fitting_mean(in_, decaf_in)
        if in_ in self.raw_scale:
            decaf_in /= self.raw_scale[in_]
        if in_ in self.channel_swap:
            decaf_in = self._swapped(in_, decaf_in, np.argsort(self.channel_swap[in_]))
        if in_ not in self.transpose:
            return decaf_in.squeeze()
        if decaf_in.ndim != 3:
            raise ShapeError(f"input {in_!r}: expected (K, H, W) or (1, K, H, W), got {np.shape(data)}")
        return decaf_in.transpose(np.argsort(self.transpose[in_]))

    def _without_batch(self, in_: str, data: np.ndarray) -> np.ndarray:
        """Return a copy of the data as (K, H, W), if they have the input's shape or a batch axis of length 1."""
        data = data.astype(np.result_type(data, np.float32), copy=True)
        shape = self.inputs[in_][1:]
        if same_axes(data.shape, shape):
            return data.reshape(shape)
        if data.ndim == len(shape) + 1 and len(data) == 1:
            return data[0]
        return data[np.newaxis] if data.ndim == 2 and shape[0] == 1 else data

    def _swapped(self, in_: str, planes: np.ndarray, order: Sequence[int] | np.ndarray) -> np.ndarray:
        if planes.ndim != 3 or max(order) >= len(planes):
            raise ShapeError(
                f"input {in_!r}: the channel swap needs (K, H, W) of {max(order) + 1} channels, got {planes.shape}"
            )
        return planes[list(order), :, :]

    def _fitting_mean(self, in_: str, planes: np.ndarray) -> np.ndarray:
        mean = self.mean[in_]
        if mean.ndim > planes.ndim or any(m not in (1, n) for m, n in zip(mean.shape[::-1], planes.shape[::-1])):
            raise ShapeError(f"input {in_!r}: a mean of shape {mean.shape} does not fit an image of {planes.shape}")
        return mean

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of the image's axes in the net's input, without N: (2, 0, 1) turns (H, W, K) into (K, H, W).

        UsageError when `order` is not a permutation of the input's axes.
        """
        self.__check_input(in_)
        if len(order) != len(self.inputs[in_]) - 1:
            raise UsageError(
                f"set_transpose: input {in_!r} has {len(self.inputs[in_]) - 1} axes without the batch, "
                f"got an order of {len(order)}"
            )
        if sorted(order) != list(range(len(order))):
            raise UsageError(f"set_transpose: expected each of the axes 0 to {len(order) - 1} once, got {tuple(order)}")
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of the channels, the first axis after the transpose: (2, 1, 0) turns RGB into BGR.

        UsageError when the length of `order` is not the number of channels, or a channel does not exist.
        """
        self.__check_input(in_)
        if len(order) != self.inputs[in_][1]:
            raise UsageError(
                f"set_channel_swap: input {in_!r} has {self.inputs[in_][1]} channels, got an order of {len(order)}"
            )
        if not set(order) <= set(range(len(order))):
            raise UsageError(f"set_channel_swap: expected channels 0 to {len(order) - 1}, got {tuple(order)}")
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Set the factor applied before the mean is subtracted: 255 for nets trained on values in [0, 255].

        UsageError for a value that is not a number.
        """
        self.__check_input(in_)
        numbers(scale, f"the raw scale of input {in_!r}")
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """Set the mean to subtract: one value per channel (K), an image (K, H, W) or (1, H, W), or a plane (H, W).

        An image of another height or width is resized to the input's.
        BlobError (a ValueError) when the number of axes or channels does not fit the input, or a plane has another
        size; UsageError for values that are not numbers.
        """
        self.__check_input(in_)
        shape = self.inputs[in_][1:]
        mean = numbers(mean, f"the mean of input {in_!r}")
        if mean.ndim not in (1, 2, 3):
            raise BlobError(f"Mean shape invalid: expected (K), (H, W) or (K, H, W), got {mean.shape}")
        if mean.ndim == 1:
            if len(mean) != shape[0]:
                raise BlobError(
                    f"Mean channels incompatible with input: {in_!r} has {shape[0]} channels, the mean {len(mean)}"
                )
            mean = mean[:, np.newaxis, np.newaxis]
        elif mean.ndim == 2 and mean.shape != shape[1:] or mean.ndim == 3 and len(mean) not in (1, shape[0]):
            raise BlobError(f"Mean shape incompatible with input shape: {in_!r} is {shape}, the mean {mean.shape}")
        elif mean.ndim == 3 and mean.shape[1:] != shape[1:]:
            mean = resize_image(mean.transpose(1, 2, 0), shape[1:]).transpose(2, 0, 1)
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Set the factor applied after the mean is subtracted, like `scale` in a transform_param.

        UsageError for a value that is not a number.
        """
        self.__check_input(in_)
        numbers(scale, f"the input scale of input {in_!r}")
        self.input_scale[in_] = scale


def _shape(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    try:
        return tuple(operator.index(length) for length in shape)
    except TypeError:
        raise UsageError(
            f"Transformer: expected the shape of input {name!r}, as net.blobs[{name!r}].data.shape gives it, "
            f"got {type(shape).__name__}"
        ) from None
