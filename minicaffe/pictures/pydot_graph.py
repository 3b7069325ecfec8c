"""The graph of pycaffe's `caffe.draw`, for pydot and graphviz: one node per layer and per blob.

The colours, the words and the five types with their own are pycaffe's; `minicaffe.draw` takes both from the layer
classes instead (`Layer.family`, `Layer.describe`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minicaffe.errors import UsageError
from minicaffe.proto import caffe_pb2

if TYPE_CHECKING:
    import pydot

LAYER_STYLE_DEFAULT = {"shape": "record", "fillcolor": "#6495ED", "style": "filled"}
NEURON_LAYER_STYLE = {"shape": "record", "fillcolor": "#90EE90", "style": "filled"}
BLOB_STYLE = {"shape": "octagon", "fillcolor": "#E0E0E0", "style": "filled"}

_TYPE_COLORS = {"Convolution": "#FF5050", "Deconvolution": "#FF5050", "Pooling": "#FF9900", "InnerProduct": "#CC33FF"}
_LEARNING_TYPES = ("Convolution", "Deconvolution", "InnerProduct")


class MissingPydot(UsageError, ImportError):
    """pydot is not installed."""


def get_pooling_types_dict() -> dict[int, str]:
    """Return the names of the pooling methods by number: {0: "MAX", 1: "AVE", 2: "STOCHASTIC"}."""
    values = caffe_pb2.PoolingParameter.PoolMethod.DESCRIPTOR.values
    return {value.number: value.name for value in values}


def get_edge_label(layer: caffe_pb2.LayerParameter) -> str:
    """Return the label of the edges to a layer's tops: num_output, the batch size of a Data layer, or '""'."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return str(layer.inner_product_param.num_output)
    return '""'


def get_layer_lr_mult(layer: caffe_pb2.LayerParameter) -> tuple[float, float]:
    """Return the learning-rate multipliers of weights and biases of a Convolution, Deconvolution or InnerProduct.

    UsageError (a ValueError in pycaffe) for other types.
    """
    if layer.type not in _LEARNING_TYPES:
        raise UsageError(f"{layer.type} layers do not have a learning rate multiplier")
    given = [param.lr_mult for param in layer.param][:2]
    weights, biases = given + [1.0] * (2 - len(given))
    return weights, biases


def get_layer_label(layer: caffe_pb2.LayerParameter, rankdir: str, display_lrm: bool = False) -> str:
    """Return the text of a layer's node, in quotes: name, type; kernel size, stride and pad if the type has them.

    rankdir: TB and BT separate the parts by spaces, LR and RL by line breaks.
    display_lrm: append the learning-rate multipliers (default False).
    """
    separator = " " if rankdir in ("TB", "BT") else r"\n"
    kind = layer.type
    if layer.type == "Pooling":
        kind += " " + get_pooling_types_dict()[layer.pooling_param.pool]
    words = [layer.name, f"({kind})"]
    if layer.type in ("Convolution", "Deconvolution", "Pooling"):
        kernel_size, stride, pad = _window(layer)
        words += [f"kernel size: {kernel_size}", f"stride: {stride}", f"pad: {pad}"]
    if display_lrm and layer.type in _LEARNING_TYPES:
        weights, biases = get_layer_lr_mult(layer)
        if weights or biases:
            words.append(f"lr mult: {weights:.1f}, {biases:.1f}")
    return f'"{separator.join(words)}"'


def _window(layer: caffe_pb2.LayerParameter) -> tuple[int, int, int]:
    if layer.type == "Pooling":
        pooling = layer.pooling_param
        return pooling.kernel_size, pooling.stride, pooling.pad
    conv = layer.convolution_param
    kernel_size, stride, pad = (
        sizes[0] if sizes else default for sizes, default in ((conv.kernel_size, 1), (conv.stride, 1), (conv.pad, 0))
    )
    return kernel_size, stride, pad


def choose_color_by_layertype(layertype: str) -> str:
    """Return the fill colour of a layer's node, as "#RRGGBB"."""
    return _TYPE_COLORS.get(layertype, LAYER_STYLE_DEFAULT["fillcolor"])


def get_pydot_graph(
    caffe_net: caffe_pb2.NetParameter,
    rankdir: str,
    label_edges: bool = True,
    phase: int | None = None,
    display_lrm: bool = False,
) -> pydot.Dot:
    """Return the `pydot.Dot` of a NetParameter.

    rankdir: LR, TB, BT or RL.  label_edges: whether to write sizes on the edges to tops (default True).
    phase: minicaffe.TRAIN or TEST; None (default): all layers.
    display_lrm: whether to write learning-rate multipliers into the nodes (default False).
    MissingPydot (an ImportError) when pydot is not installed.
    """
    try:
        import pydot
    except ImportError as error:
        raise MissingPydot("this picture needs pydot, which is not installed: pip install pydot") from error
    graph = pydot.Dot(f'"{caffe_net.name or "Net"}"', graph_type="digraph", rankdir=rankdir)
    nodes, edges = {}, []
    for layer in caffe_net.layer:
        if phase is not None and not _in_phase(layer, phase):
            continue
        own = f"{layer.name}_{layer.type}"
        in_place = len(layer.bottom) == 1 and list(layer.bottom) == list(layer.top)
        style = dict(NEURON_LAYER_STYLE if in_place else LAYER_STYLE_DEFAULT)
        if not in_place:
            style["fillcolor"] = choose_color_by_layertype(layer.type)
        nodes[own] = pydot.Node(get_layer_label(layer, rankdir, display_lrm), **style)
        for blob in layer.bottom:
            nodes[f"{blob}_blob"] = pydot.Node(f'"{blob}"', **BLOB_STYLE)
            edges.append((f"{blob}_blob", own, '""'))
        for blob in layer.top:
            nodes[f"{blob}_blob"] = pydot.Node(f'"{blob}"', **BLOB_STYLE)
            edges.append((own, f"{blob}_blob", get_edge_label(layer) if label_edges else '""'))
    for node in nodes.values():
        graph.add_node(node)
    for source, target, label in edges:
        graph.add_edge(pydot.Edge(nodes[source], nodes[target], label=label))
    return graph


def _in_phase(layer: caffe_pb2.LayerParameter, phase: int) -> bool:
    """Whether a layer's rules include it in a phase; levels and stages are ignored."""
    if layer.include and layer.exclude:
        raise UsageError(f"layer {layer.name} has both include and exclude specified")
    included = not layer.include or any(rule.phase == phase for rule in layer.include)
    return included and not any(rule.phase == phase for rule in layer.exclude)
