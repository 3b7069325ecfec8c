"""LSTM, RNN and LSTMUnit: Scan over the steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minicaffe.export.onnx.common import append_axes, reshape
from minicaffe.export.onnx.conversion import Conversion, Nodes, exports
from minicaffe.export.onnx.graph import Graph

#: Adds the nodes of a step to the body of a Scan and returns the new states, h first.  Arguments: the nodes of the
#: body, the gates z (N, G), cont (N, 1) and the states, each (N, H).
Step = Callable[[Nodes, str, str, Sequence[str]], "list[str]"]


@exports("LSTM")
def lstm(layer: Conversion) -> list[str]:
    """MatMul of the inputs of all steps; Scan over the steps: the states times cont, MatMul, and the gates.

    Without expose_hidden the states before the first step are zero, as in a net's first pass; Caffe's layer begins with
    those at which the pass before ended, which has an effect where cont is not 0 at the first step.
    """

    return _scan(layer, *_steps(layer), _lstm_step)


@exports("Lstm")
def junhyuk_lstm(layer: Conversion) -> str:
    """As LSTM, with cont 1 where no bottom has it; Reshape around it where steps and sequences are one axis."""
    own, x, shape = layer.layer, layer.x, layer.bottom_shapes[0]
    if own.joined or len(shape) != 3:
        x = reshape(layer, x, [-1, own.batch, own.inputs] if own.joined else [0, 0, -1])
    each = layer.op("Concat", layer.op("Shape", x, end=2), layer.ints([1]), axis=0)
    if own.carries:
        cont = layer.op("Reshape", layer.bottoms[1], each)
    else:  # the states before the first step are zero
        cont = layer.op("Expand", layer.floats(1, "cont"), each)
    (h,) = _scan(layer, x, cont, _lstm_step)
    return reshape(layer, h, [-1, own.size]) if own.joined else h


def _lstm_step(body: Nodes, z: str, cont: str, states: Sequence[str]) -> list[str]:
    c, h = lstm_step(body, z, cont, states[1])
    return [h, c]


@exports("RNN")
def rnn(layer: Conversion) -> list[str]:
    """MatMul of the inputs of all steps; Scan over the steps: the state times cont, MatMul, Tanh; MatMul, Add, Tanh.

    The state before the first step is as in LSTM's form.
    """
    h, *states = _scan(layer, *_steps(layer), lambda body, z, cont, states: [body.op("Tanh", z)])
    last = len(layer.layer.blobs) - 1
    product = layer.op("MatMul", h, layer.op("Transpose", layer.param(last - 1)))
    return [layer.op("Tanh", layer.op("Add", product, layer.param(last))), *states]


@exports("LSTMUnit")
def lstm_unit(layer: Conversion) -> list[str]:
    """Split, Sigmoid, Tanh, Mul, Add: one step of an LSTM."""
    c, x, cont = layer.bottoms
    return list(lstm_step(layer, x, append_axes(layer, cont, 2, 1), c))


def lstm_step(nodes: Nodes, z: str, cont: str, c: str) -> tuple[str, str]:
    """Add the nodes that compute c and h from the gates z (..., 4 D), cont (..., 1) and the previous c (..., D)."""
    i, f, o, g = nodes.ops("Split", 4, z, axis=-1)
    i, f, o = (nodes.op("Sigmoid", gate) for gate in (i, f, o))
    kept = nodes.op("Mul", nodes.op("Mul", cont, f), c)
    c = nodes.op("Add", kept, nodes.op("Mul", i, nodes.op("Tanh", g)))
    return c, nodes.op("Mul", o, nodes.op("Tanh", c))


def _steps(layer: Conversion) -> tuple[str, str]:
    """Return the inputs (T, N, I) and cont (T, N, 1)."""
    x = layer.x if len(layer.bottom_shapes[0]) == 3 else reshape(layer, layer.x, [0, 0, -1])
    return x, append_axes(layer, layer.bottoms[1], 2, 1)


def _scan(layer: Conversion, x: str, cont: str, step: Step) -> list[str]:
    """Add the Scan over the steps; return h of all steps (T, N, H) and, if exposed, the last states, each (1, N, H)."""
    states, z = _first_states(layer, x), _inputs(layer, x)
    body = _body(layer, layer.op("Transpose", layer.param(layer.layer.w_h)), step)
    *states, h = layer.ops("Scan", len(states) + 1, *states, z, cont, body=body, num_scan_inputs=2)
    if not layer.layer.expose:
        return [h]
    return [h, *(layer.op("Unsqueeze", state, layer.ints([0], "axes")) for state in states)]


def _first_states(layer: Conversion, x: str) -> list[str]:
    """Add the states before the first step, each (N, H)."""
    recurrent = layer.layer
    if recurrent.expose:
        axes = layer.ints([0], "axes")
        return [layer.op("Squeeze", state, axes) for state in layer.bottoms[2 + recurrent.static :]]
    shape = layer.op("Concat", layer.op("Shape", x, start=1, end=2), layer.ints([recurrent.size]), axis=0)
    return [layer.op("ConstantOfShape", shape)] * recurrent.states


def _inputs(layer: Conversion, x: str) -> str:
    """Add W_x x + b + W_s s of all steps, (T, N, G)."""
    z = layer.op("MatMul", x, layer.op("Transpose", layer.param(0)))
    z = layer.op("Add", z, layer.param(layer.layer.bias))
    if layer.layer.static:
        fixed = layer.op("Gemm", layer.op("Flatten", layer.bottoms[2]), layer.param(2), transB=1)
        z = layer.op("Add", z, fixed)
    return z


def _body(layer: Conversion, weights: str, step: Step) -> Graph:
    """Return the graph of a step: inputs are the states, z and cont; outputs the new states, and h once more.

    weights: name of the transposed W_h, in the graph around it.
    """
    recurrent, graph = layer.layer, Graph(f"{layer.name}/step", layer.graph)
    body = Nodes(graph, layer.name)
    widths = {f"state{i}": recurrent.size for i in range(recurrent.states)}
    widths |= {"z": recurrent.gates * recurrent.size, "cont": 1}
    *states, z, cont = (
        graph.input(graph.unique(f"{layer.name}/{each}"), ("N", width)) for each, width in widths.items()
    )
    product = body.op("MatMul", body.op("Mul", cont, states[0]), weights)
    states = step(body, body.op("Add", z, product), cont, states)
    for value in (*states, body.op("Identity", states[0])):
        graph.output(value, ("N", recurrent.size))
    return graph
