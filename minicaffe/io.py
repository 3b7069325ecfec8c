"""Arrays and protos, images and arrays: pycaffe's `caffe.io`.

Images are float32 arrays (H, W, K) with values in [0, 1], K = 3 in RGB order or 1 for grey; a net's input is
(K, H, W), mostly BGR with values in [0, 255].  `Transformer` goes from the one to the other and back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike, fspath
from typing import BinaryIO

import numpy as np

from minicaffe.errors import BlobError, DataError, UsageError, nearest
from minicaffe.proto import caffe_pb2
from minicaffe.resize import resample


def blobproto_to_array(blob: caffe_pb2.BlobProto, return_diff: bool = False) -> np.ndarray:
    """The values of a BlobProto (its diff with `return_diff`), shaped as it says.

    Both forms of shape count: `shape { dim ... }`, and the old num, channels, height, width, which give four axes.
    Without any shape the blob must hold one value, and the result has no axes.  BlobError (a ValueError) when the
    number of values does not fit the shape.
    """
    values = np.array(_values(blob, return_diff))
    if any(blob.HasField(name) for name in ("num", "channels", "height", "width")):
        shape = (blob.num, blob.channels, blob.height, blob.width)
    else:
        shape = tuple(blob.shape.dim)
    if values.size != int(np.prod(shape, dtype=np.int64)):
        raise BlobError(f"BlobProto holds {values.size} values, which do not fit its shape {shape}")
    return values.reshape(shape)


def _values(blob: caffe_pb2.BlobProto, return_diff: bool) -> Sequence[float]:
    single, double = (blob.diff, blob.double_diff) if return_diff else (blob.data, blob.double_data)
    return double if len(double) else single


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> caffe_pb2.BlobProto:
    """A BlobProto with the shape and values of `arr`, and `diff` beside them if given; `diff` must be as large."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(np.asarray(arr, np.float32).ravel())
    if diff is not None:
        if np.shape(diff) != arr.shape:
            raise BlobError(
                f"array_to_blobproto: diff must have the shape of the data, {arr.shape}, got {np.shape(diff)}"
            )
        blob.diff.extend(np.asarray(diff, np.float32).ravel())
    return blob


def arraylist_to_blobprotovector_str(arraylist: Iterable[np.ndarray]) -> bytes:
    """A list of arrays as one serialised BlobProtoVector."""
    vector = caffe_pb2.BlobProtoVector()
    vector.blobs.extend(array_to_blobproto(arr) for arr in arraylist)
    return vector.SerializeToString()


def blobprotovector_str_to_arraylist(str: bytes) -> list[np.ndarray]:
    """The arrays of a serialised BlobProtoVector."""
    vector = caffe_pb2.BlobProtoVector()
    vector.ParseFromString(str)
    return [blobproto_to_array(blob) for blob in vector.blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> caffe_pb2.Datum:
    """A Datum of an array (K, H, W): uint8 goes into `data` as bytes, any other type into `float_data`.

    label: an int, left unset by default.  BlobError (a ValueError) when `arr` has not three axes.
    """
    if arr.ndim != 3:
        raise BlobError(f"array_to_datum: expected an array (channels, height, width), got shape {arr.shape}")
    datum = caffe_pb2.Datum(channels=arr.shape[0], height=arr.shape[1], width=arr.shape[2])
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).ravel())
    if label is not None:
        datum.label = int(label)
    return datum


def datum_to_array(datum: caffe_pb2.Datum) -> np.ndarray:
    """The image (K, H, W) of a Datum: uint8 from `data`, float64 from `float_data`; its label is `datum.label`.

    DataError for a Datum whose image is encoded (JPEG, PNG), or whose size does not fit what it holds.
    """
    if datum.encoded:
        raise DataError("datum_to_array: this Datum holds an encoded image; decode datum.data first")
    shape = (datum.channels, datum.height, datum.width)
    values = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, float)
    if values.size != np.prod(shape, dtype=np.int64):
        raise DataError(
            f"datum_to_array: this Datum says (channels, height, width) = {shape}, but holds {values.size} values"
        )
    return values.reshape(shape).copy()


class Transformer:
    """What has to happen to an image before a net takes it, per input blob.

    inputs: blob name -> its shape (N, K, H, W); `{"data": net.blobs["data"].data.shape}`.

    `preprocess` runs, each step only where it was set: float32; resize to (H, W); transpose; channel swap; times raw
    scale; minus mean; times input scale.  `deprocess` runs the inverses backwards, except for the resizing.
    UsageError for an input that was not named, and where a setter says so.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]):
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def __check_input(self, in_: str) -> None:
        if in_ not in self.inputs:
            raise UsageError(f"{in_!r} is not one of the net inputs: {list(self.inputs)}{nearest(in_, self.inputs)}")

    def preprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """The image `data` (H', W', K) as the net takes it, (K, H, W) float32; `data` itself is left as it is."""
        self.__check_input(in_)
        caffe_in = data.astype(np.float32, copy=True)
        in_dims = self.inputs[in_][2:]
        if caffe_in.shape[:2] != in_dims:
            caffe_in = resize_image(caffe_in, in_dims)
        if in_ in self.transpose:
            caffe_in = caffe_in.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            caffe_in = caffe_in[list(self.channel_swap[in_]), :, :]
        if in_ in self.raw_scale:
            caffe_in *= self.raw_scale[in_]
        if in_ in self.mean:
            caffe_in -= self.mean[in_]
        if in_ in self.input_scale:
            caffe_in *= self.input_scale[in_]
        return caffe_in

    def deprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """The net input `data` ((K, H, W) or (1, K, H, W)) as an image (H, W, K); a new array."""
        self.__check_input(in_)
        decaf_in = data.copy().squeeze()
        if in_ in self.input_scale:
            decaf_in /= self.input_scale[in_]
        if in_ in self.mean:
            decaf_in += self.mean[in_]
        if in_ in self.raw_scale:
            decaf_in /= self.raw_scale[in_]
        if in_ in self.channel_swap:
            decaf_in = decaf_in[np.argsort(self.channel_swap[in_]), :, :]
        if in_ in self.transpose:
            decaf_in = decaf_in.transpose(np.argsort(self.transpose[in_]))
        return decaf_in

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Axes of the image in the order of the net, without N: (2, 0, 1) makes (K, H, W) of (H, W, K)."""
        self.__check_input(in_)
        if len(order) != len(self.inputs[in_]) - 1:
            raise UsageError(
                f"set_transpose: input {in_!r} has {len(self.inputs[in_]) - 1} axes without the batch, "
                f"got an order of {len(order)}"
            )
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Channels in the order of the net: (2, 1, 0) makes BGR of RGB. Channels are the first axis by then."""
        self.__check_input(in_)
        if len(order) != self.inputs[in_][1]:
            raise UsageError(
                f"set_channel_swap: input {in_!r} has {self.inputs[in_][1]} channels, got an order of {len(order)}"
            )
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Factor on the image before the mean is subtracted: 255 for nets trained on values in [0, 255]."""
        self.__check_input(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """What to subtract: one value per channel (K), or a mean image (K, H, W) or (H, W), resized if need be.

        BlobError (a ValueError) when the number of channels or of axes does not fit the input.
        """
        self.__check_input(in_)
        shape = self.inputs[in_][1:]
        mean = np.asarray(mean)
        if mean.ndim == 1:
            if mean.shape[0] != shape[0]:
                raise BlobError(
                    f"Mean channels incompatible with input: {in_!r} has {shape[0]} channels, the mean {mean.shape[0]}"
                )
            mean = mean[:, np.newaxis, np.newaxis]
        else:
            if mean.ndim not in (2, 3):
                raise BlobError(f"Mean shape invalid: expected (K), (H, W) or (K, H, W), got {mean.shape}")
            planes = mean[np.newaxis] if mean.ndim == 2 else mean
            if len(planes) not in (1, shape[0]):
                raise BlobError(f"Mean shape incompatible with input shape: {in_!r} is {shape}, the mean {mean.shape}")
            if planes.shape[1:] != shape[1:]:
                mean = resize_image(planes.transpose(1, 2, 0), shape[1:]).transpose(2, 0, 1)
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Factor on the input after the mean was subtracted, as `scale` in a transform_param."""
        self.__check_input(in_)
        self.input_scale[in_] = scale


def load_image(filename: str | PathLike | BinaryIO, color: bool = True) -> np.ndarray:
    """An image file, or an open one, as float32 (H, W, 3), RGB in [0, 1]; with `color=False` as grey (H, W, 1).

    Grey files are repeated over three channels, an alpha channel is dropped.  Values are divided by the largest of
    their type (255, 65535, ...), floats are taken as they are.  DataError for a file that is missing or that Pillow
    cannot read.
    """
    from minicaffe.data.image import decode_floats, read_bytes

    if hasattr(filename, "read"):
        return decode_floats(filename.read(), color, str(getattr(filename, "name", "the open file")))
    return decode_floats(read_bytes(filename), color, fspath(filename))


def resize_image(im: np.ndarray, new_dims: Sequence[int], interp_order: int = 1) -> np.ndarray:
    """The image (H, W, K) at `new_dims` = (height, width), float32.

    interp_order: 0 nearest, 1 linear (default), 3 cubic.  Where the samples lie depends on K, as in the original:

    - 1 or 3 channels: at pixel centres, in = (out + 0.5) * old / new - 0.5, and beyond the border lies the image's
      minimum.  This is `skimage.transform.resize(..., mode="constant")` without its later `anti_aliasing`; cubic is
      its former Catmull-Rom kernel, where newer versions fit a spline.
    - otherwise: corners on corners, in = out * (old - 1) / (new - 1), as `scipy.ndimage.zoom` does; cubic is
      Catmull-Rom again, where scipy fits a spline.

    UsageError for another order.
    """
    new_dims = (int(new_dims[0]), int(new_dims[1]))
    if im.shape[-1] not in (1, 3):
        return resample(im, new_dims, interp_order, corners=True).astype(np.float32)
    low, high = im.min(), im.max()
    if high <= low:
        return np.full((*new_dims, im.shape[-1]), low, np.float32)
    return resample(im, new_dims, interp_order, border=low).clip(low, high).astype(np.float32)


def oversample(images: Sequence[np.ndarray] | np.ndarray, crop_dims: Sequence[int] | np.ndarray) -> np.ndarray:
    """Ten crops of each image: the four corners and the centre, then the mirror images of these five.

    images: N arrays (H, W, K) of one size; crop_dims: (height, width).  Returns float32 (10 * N, height, width, K).
    UsageError when a crop is larger than the images.
    """
    height, width, channels = images[0].shape
    crop_h, crop_w = int(crop_dims[0]), int(crop_dims[1])
    if crop_h > height or crop_w > width:
        raise UsageError(f"oversample: crops of {crop_h}x{crop_w} do not fit images of {height}x{width}")
    bottom, right = height - crop_h, width - crop_w
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = np.empty((10 * len(images), crop_h, crop_w, channels), np.float32)
    for n, image in enumerate(images):
        for i, (y, x) in enumerate(corners):
            crop = image[y : y + crop_h, x : x + crop_w]
            crops[10 * n + i] = crop
            crops[10 * n + 5 + i] = crop[:, ::-1]
    return crops
