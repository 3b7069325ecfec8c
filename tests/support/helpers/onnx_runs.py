"""ONNX models beside the nets they were exported from."""

from __future__ import annotations

import numpy as np
import onnxruntime

from minicaffe import Net
from minicaffe.export.onnx.model import Exported, to_model


def run_model(model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a ModelProto with onnxruntime on the CPU; return the outputs by name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = [each.name for each in session.get_outputs()]
    wanted = {each.name: feeds[each.name] for each in session.get_inputs()}
    return dict(zip(outputs, session.run(outputs, wanted)))


def difference(net: Net, feeds: dict[str, np.ndarray]) -> float:
    """The largest difference between a net's outputs and those of its ONNX model, relative to 1 or to the largest value
    of the output, whichever is larger.

    feeds: values of the net's inputs.
    """
    return difference_of(to_model(net), feeds)


def difference_of(exported: Exported, feeds: dict[str, np.ndarray]) -> float:
    """`difference` of a model that is there already; the inputs get the shapes of the values."""
    net = exported.net
    for name in net.inputs:
        net.blobs[name].reshape(feeds[name].shape)
    net.reshape()
    expected = {name: values.copy() for name, values in net.forward(**feeds).items()}
    found = run_model(exported.model, feeds)
    worst = 0.0
    for name in net.outputs:
        assert found[name].shape == expected[name].shape, f"{name}: {found[name].shape}, not {expected[name].shape}"
        scale = max(1.0, float(np.abs(expected[name]).max(initial=0)))
        worst = max(worst, float(np.abs(found[name] - expected[name]).max(initial=0)) / scale)
    return worst


def longer(exported: Exported, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The values, twice as many along axis 0 of the inputs whose axis 0 is free."""
    free = {each.name for each in exported.model.graph.input if _is_free(each)}
    return {name: np.concatenate([x, x[::-1]]) if name in free else x for name, x in feeds.items()}


def _is_free(value) -> bool:
    return any(dim.dim_param for dim in value.type.tensor_type.shape.dim[:1])
