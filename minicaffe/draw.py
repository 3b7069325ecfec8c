"""Drawings of nets: pycaffe's `caffe.draw`, with a renderer that needs neither pydot nor graphviz.

`draw_net` and `draw_net_to_file` draw one box per block, a layer with the layers that work in place on its top, and
the shape of every blob on its edge.  `get_pydot_graph` builds pycaffe's graph for use with pydot (`pip install pydot`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from minicaffe.errors import UsageError
from minicaffe.files import write_atomically
from minicaffe.pictures.net_picture import RANKDIRS as RANKDIRS
from minicaffe.pictures.net_picture import NetPicture
from minicaffe.pictures.pydot_graph import (  # noqa: F401  (part of pycaffe's caffe.draw)
    BLOB_STYLE,
    LAYER_STYLE_DEFAULT,
    NEURON_LAYER_STYLE,
    choose_color_by_layertype,
    get_edge_label,
    get_layer_label,
    get_layer_lr_mult,
    get_pooling_types_dict,
    get_pydot_graph,
)
from minicaffe.proto import caffe_pb2

OWN_FORMATS = ("svg", "png", "pdf", "jpg", "jpeg", "webp", "tiff", "bmp", "gif")


def draw_net(
    caffe_net: caffe_pb2.NetParameter,
    rankdir: str = "TB",
    ext: str = "png",
    phase: int | None = None,
    display_lrm: bool = False,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> bytes:
    """Draw a NetParameter; return the bytes of an image file.

    caffe_net: the NetParameter; a net in an old format is upgraded first.
    rankdir: direction of the data flow: TB (default, top to bottom), BT, LR or RL.
    ext: the format: svg, png (default), pdf, jpg, jpeg, webp, tiff, bmp or gif; pydot and graphviz write any other.
    phase: minicaffe.TRAIN or TEST to draw the net of that phase; None (default) draws all layers.
    display_lrm: whether to write the learning-rate multipliers into the layers that have them (default False).
    shapes: shapes by blob name, for blobs whose shape the prototxt does not define, such as tops of Data layers.
    A drawing longer than about 1,600 points to the right, or 4,000 down, continues in a further row or column.
    UsageError for an unknown rankdir.
    """
    if ext.lower() not in OWN_FORMATS:
        return get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm).create(format=ext)
    return NetPicture(caffe_net, rankdir, phase, display_lrm, shapes).canvas().encode(ext.lower())


def draw_net_to_file(
    caffe_net: caffe_pb2.NetParameter,
    filename: str | os.PathLike,
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> None:
    """Draw a net into a file; its extension is the format, ".raw" is graphviz's dot text, written by pydot.

    Other arguments as for `draw_net`, but `rankdir` is LR by default, as in pycaffe.
    UsageError for a name without an extension, DataError when the file cannot be written.
    """
    ext = os.path.splitext(filename)[1].removeprefix(".")
    if not ext:
        raise UsageError(f"draw: '{filename}' has no extension to select the format, such as .svg or .png")
    write_atomically(filename, draw_net(caffe_net, rankdir, ext, phase, display_lrm, shapes))
