"""A whitening as layers of a net with fixed weights, behind its data layers.

mean            Bias
std             Scale with a bias
whole images    InnerProduct, and Reshape to (C, H, W); per channel: Convolution with a group for each channel
patches         Convolution; for a ZCA of more than one pixel behind a Bias, so that zero padding is the mean

The mean is in the bias: W (x - m) = W x - W m.  All have lr_mult 0 and decay_mult 0.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from minicaffe.core.net import Net
from minicaffe.data.transformer import crop_of
from minicaffe.data.whitening import Whitening
from minicaffe.errors import NetError, nearest
from minicaffe.proto import TEST, caffe_pb2

NAME = "whiten"  #: of the last layer; others are named after it


class Inserted(NamedTuple):
    """A net with a whitening."""

    net: caffe_pb2.NetParameter
    whitening: Net  #: the inserted layers behind an input, with their weights
    notes: list[str]  #: sentences about what else was changed in the net


class _Layer(NamedTuple):
    message: caffe_pb2.LayerParameter  #: without bottoms, tops and multipliers
    blobs: list[np.ndarray]


def insert_whitening(net: caffe_pb2.NetParameter, whitening: Whitening, blob: str = "") -> Inserted:
    """Return a net whose layers read a blob whitened.

    The whitening is inserted behind the last layer that produces the blob, and layers after it read its top,
    "<blob>_whiten".  Mean and scale are removed from the transform_param of the layers that produce the blob, because
    the statistics are those of the database's own values.

    net: an upgraded NetParameter, as `read_net` gives it; it is not changed.
    blob: its name; "" (default): the first top of the first layer without bottoms.
    NetError when there is no such blob, when a layer before the last data layer reads it, when the net has a layer
    "whiten", and for a crop that changes the size of images which are whitened as a whole; DataError for a crop smaller
    than a patch.
    """
    blob = blob_to_whiten(net, blob)
    count = _end_of_data(net, blob)
    result, shape, notes = caffe_pb2.NetParameter(), whitening.image_shape, []
    result.CopyFrom(net)
    for layer in (layer for layer in result.layer[:count] if blob in layer.top):
        shape = _cropped(layer, whitening)
        notes += _remove_mean(layer)
    before, after = result.layer[:count], result.layer[count:]
    layers = _connected(_layers(whitening, shape), blob)
    for layer in after:
        for names in (layer.bottom, layer.top):
            names[:] = [f"{blob}_{NAME}" if name == blob else name for name in names]
    del result.layer[:]
    result.layer.extend([*before, *(layer.message for layer in layers), *after])
    return Inserted(result, _net_of(layers, blob, shape), list(dict.fromkeys(notes)))


def save_weights(net: Net, path: str | os.PathLike) -> None:
    """Write weights as HDF5 if the path ends in .h5, otherwise as a .caffemodel; SnapshotError if that fails."""
    path = os.fspath(path)
    net.save_hdf5(path) if path.endswith(".h5") else net.save(path)


# -- the net -----------------------------------------------------------------------------------------------------------


def blob_to_whiten(net: caffe_pb2.NetParameter, blob: str = "") -> str:
    """Return the name of the blob behind which layers would be inserted; the errors are those of `insert_whitening`."""
    if any(layer.name == NAME for layer in net.layer):
        raise NetError(f"net '{net.name}' has a layer '{NAME}' already")
    tops = dict.fromkeys(top for layer in net.layer if not layer.bottom for top in layer.top)
    if not tops:
        raise NetError(f"net '{net.name}' has no data layer, and no input, whose images could be whitened")
    if blob and blob not in tops:
        raise NetError(f"net '{net.name}' has no data layer with a top '{blob}'{nearest(blob, tops)}")
    return blob or next(iter(tops))


def _end_of_data(net: caffe_pb2.NetParameter, blob: str) -> int:
    """Return the number of layers up to the last data layer with this top; NetError if one before it reads the top."""
    count = max(i + 1 for i, layer in enumerate(net.layer) if blob in layer.top and not layer.bottom)
    for layer in net.layer[:count]:
        if blob in layer.bottom:
            raise NetError(
                f"layer '{layer.name}' reads '{blob}' before layer '{net.layer[count - 1].name}' produces it: put the "
                "data layers first"
            )
    return count


def _cropped(layer: caffe_pb2.LayerParameter, whitening: Whitening) -> tuple[int, int, int]:
    """Return (C, H, W) of the images that a layer produces from those of the data set."""
    channels, height, width = whitening.image_shape
    param = layer.transform_param
    crop_h, crop_w = crop_of(param)
    shape = channels, crop_h or height, crop_w or width
    if shape != whitening.image_shape and whitening.method.patch is None:
        raise NetError(
            f"layer '{layer.name}' crops images to {shape[1]}x{shape[2]}, but the whitening is one of whole images of "
            f"{height}x{width}: whiten patches, or remove the crop"
        )
    whitening.output_shape(shape)
    return shape


def _remove_mean(layer: caffe_pb2.LayerParameter) -> list[str]:
    """Clear mean and scale of a data layer's transform_param; return a note about it if there were any."""
    param = layer.transform_param
    found = [name for name in ("mean_file", "mean_value", "scale") if name in {f.name for f, _ in param.ListFields()}]
    for name in found:
        param.ClearField(name)
    if not param.ByteSize():
        layer.ClearField("transform_param")
    return [f"Removed {' and '.join(found)} from layer '{layer.name}'"] if found else []


def _net_of(layers: list[_Layer], blob: str, shape: tuple[int, int, int]) -> Net:
    """Return a net of these layers behind an input, with their weights."""
    param = caffe_pb2.NetParameter(name=NAME)
    data = param.layer.add(name=blob, type="Input", top=[blob])
    data.input_param.shape.add(dim=[1, *shape])
    param.layer.extend(layer.message for layer in layers)
    net = Net(param, phase=TEST)
    for layer in layers:
        for stored, values in zip(net.params.get(layer.message.name, ()), layer.blobs):
            stored.data[...] = values.reshape(stored.shape)
    return net


# -- the layers --------------------------------------------------------------------------------------------------------


def _connected(layers: list[_Layer], blob: str) -> list[_Layer]:
    """Give layers their bottoms, tops and multipliers; the last layer is called NAME, and its top "<blob>_<NAME>"."""
    bottom = blob
    for message, blobs in layers:
        message.bottom.append(bottom)
        bottom = f"{blob}_{message.name}"
        message.top.append(bottom)
        for _ in blobs:
            message.param.add(lr_mult=0, decay_mult=0)
    return layers


def _layers(whitening: Whitening, shape: tuple[int, int, int]) -> list[_Layer]:
    """Return the layers; shape: (C, H, W) of their input."""
    method = whitening.method
    if method.is_diagonal:
        return [_scale(whitening)]
    filters = whitening.filters()
    blobs = [filters.kernels, filters.bias]
    if method.patch is None and filters.groups == 1:
        message = _message("InnerProduct", "_product")
        message.inner_product_param.num_output = len(filters.bias)
        return [_Layer(message, blobs), _reshape(whitening.output_shape(shape))]
    message = _message("Convolution", "" if method.patch else "_product")
    param = message.convolution_param
    param.num_output, param.group = len(filters.bias), filters.groups
    if method.patch is None:
        param.kernel_h, param.kernel_w = filters.kernels.shape[2:]
        return [_Layer(message, blobs), _reshape(whitening.output_shape(shape))]
    param.kernel_size.append(method.patch)
    param.pad.append(filters.pad)
    param.stride.append(filters.stride)
    if filters.centre is None:
        return [_Layer(message, blobs)]
    return [_Layer(_message("Bias", "_mean"), [-filters.centre]), _Layer(message, blobs)]


def _scale(whitening: Whitening) -> _Layer:
    """Return the layer of kind mean or std."""
    form = whitening.image_shape if whitening.method.patch is None else whitening.image_shape[:1]
    mean, factors = whitening.mean.reshape(form), whitening.matrix.reshape(form)
    if whitening.method.kind == "mean":
        message = _message("Bias")
        message.bias_param.num_axes = len(form)
        return _Layer(message, [-mean])
    message = _message("Scale")
    message.scale_param.num_axes = len(form)
    message.scale_param.bias_term = True
    return _Layer(message, [factors, -mean * factors])


def _reshape(shape: tuple[int, int, int]) -> _Layer:
    message = _message("Reshape")
    message.reshape_param.shape.dim.extend([0, *shape])
    return _Layer(message, [])


def _message(type_: str, suffix: str = "") -> caffe_pb2.LayerParameter:
    return caffe_pb2.LayerParameter(name=NAME + suffix, type=type_)
