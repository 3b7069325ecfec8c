"""Shape inference: the shape of every blob of a NetParameter, without allocating data or parameters.

Only `setup` and `reshape` of the layers run, so a drawing or a summary of ResNet-152 allocates none of its 60 million
weights.  If a shape is unknown (a missing database, an unknown layer type), it is omitted, with all that depend on it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence

from minicaffe.core.blob import Blob
from minicaffe.core.registry import layer_class
from minicaffe.data.datum import datum_to_array
from minicaffe.data.db import open_db
from minicaffe.data.hdf5 import read_file_list
from minicaffe.errors import UsageError
from minicaffe.proto import caffe_pb2

Shape = tuple[int, ...]

# The setup of these types opens files, imports modules or starts threads; see `_reader_shapes`.
_READERS = {"Data", "HDF5Data", "ImageData", "WindowData", "Python"}


def infer_shapes(net_param, given: Mapping[str, Shape] | None = None) -> dict[tuple[int, int], Shape]:
    """Return the known shapes of tops as {(index of the layer, index of its top): shape}.

    net_param: an upgraded NetParameter, with the layers of one phase, as `filter_net` returns it.
    given: shapes by blob name, which replace inferred ones, for blobs such as the tops of a Data layer.
    """
    given = dict(given or {})
    known: dict[str, Shape] = {}
    shapes: dict[tuple[int, int], Shape] = {}
    for i, layer_param in enumerate(net_param.layer):
        try:
            tops: Sequence[Shape | None] = _top_shapes(layer_param, [known[name] for name in layer_param.bottom])
        except Exception:  # the net reports such an error better when it is built
            tops = [None] * len(layer_param.top)
        for j, (name, shape) in enumerate(zip(layer_param.top, tops)):
            shape = given.get(name, shape)
            if shape is None:
                known.pop(name, None)
            else:
                known[name] = shapes[i, j] = tuple(shape)
    return shapes


def _top_shapes(layer_param, bottom_shapes: list[Shape]) -> Sequence[Shape | None]:
    if layer_param.type in _READERS:
        return _reader_shapes(layer_param)
    if layer_param.type == "Split":
        return [bottom_shapes[0]] * len(layer_param.top)
    own = type(layer_param)()
    own.CopyFrom(layer_param)
    layer = layer_class(own.type)(own)
    bottom = [Blob(shape) for shape in bottom_shapes]  # allocated lazily, so not at all here
    top = [Blob() for _ in layer_param.top]
    layer.setup(bottom, top)
    layer.reshape(bottom, top)
    return [blob.shape for blob in top]


def _reader_shapes(layer_param) -> Sequence[Shape | None]:
    """Return the shapes of a data layer's tops, from its prototxt and, for a database, its first record."""
    batch, colors = 0, 3
    size: Shape = (0, 0)
    if layer_param.type == "HDF5Data":
        return _hdf5_shapes(layer_param)
    if layer_param.type == "Data":
        batch = layer_param.data_param.batch_size
        colors, *rest = _first_record(layer_param.data_param)
        size = tuple(rest)
    elif layer_param.type == "ImageData":
        own = layer_param.image_data_param
        batch, size, colors = own.batch_size, (own.new_height, own.new_width), 3 if own.is_color else 1
    elif layer_param.type == "WindowData":
        own = layer_param.window_data_param
        batch, size = own.batch_size, (own.crop_size, own.crop_size)
    crop = layer_param.transform_param.crop_size
    size = (crop, crop) if crop else size
    if layer_param.transform_param.force_color:
        colors = 3
    elif layer_param.transform_param.mean_value and not colors:
        colors = len(layer_param.transform_param.mean_value)
    image = (batch, colors, *size) if batch and colors and all(size) else None
    label = (batch,) if batch else None
    return [image, label, *[None] * len(layer_param.top)][: len(layer_param.top)]


def _first_record(data_param) -> Shape:
    """Return (C, H, W) of the first image of a database; zeros if it cannot be read."""
    try:
        with contextlib.closing(open_db(data_param.source, data_param.backend)) as database:
            _, value = next(iter(database.items()))
            return datum_to_array(caffe_pb2.Datum.FromString(bytes(value))).shape
    except Exception:  # a drawing of the net is possible without the database
        return (0, 0, 0)


def _hdf5_shapes(layer_param) -> Sequence[Shape | None]:
    """Return the shapes of the datasets of the first file, with the batch size as first axis."""
    import h5py

    batch = layer_param.hdf5_data_param.batch_size
    try:
        with h5py.File(read_file_list(layer_param.hdf5_data_param.source)[0], "r") as file:
            return [(batch, *file[name].shape[1:]) for name in layer_param.top]
    except Exception:
        return [None] * len(layer_param.top)


def parse_shapes(texts: Sequence[str]) -> dict[str, Shape]:
    """Parse `["data=100,3,32,32", "label=100"]` to `{"data": (100, 3, 32, 32), "label": (100,)}`.

    ":" may replace "=", and "x" may replace ",".  UsageError for any other text.
    """
    shapes = {}
    for text in texts:
        match = re.fullmatch(r"(.+?)[=:](\d+(?:[,x]\d+)*)", text.strip())
        if not match:
            raise UsageError(f"expected a shape such as data=100,3,32,32, got {text!r}")
        shapes[match[1]] = tuple(int(dim) for dim in re.split("[,x]", match[2]))
    return shapes
