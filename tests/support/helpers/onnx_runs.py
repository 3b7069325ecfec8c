"""ONNX models beside the nets they were exported from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnxruntime

from helpers.nets import net_from_text
from helpers.trained import randomize
from minicaffe import TEST, Net
from minicaffe.export.onnx.model import Exported, to_model

Run = Callable[[Any, "dict[str, np.ndarray]"], "dict[str, np.ndarray]"]


def export(text: str) -> Exported:
    """Export the net of a prototxt in TEST, with random weights, and run onnx's checker."""
    net = net_from_text(text, TEST)
    randomize(net)
    return export_net(net)


def export_net(net: Net) -> Exported:
    """Export a net as it is, and run onnx's checker."""
    exported = to_model(net)
    onnx.checker.check_model(onnx.load_from_string(exported.model.SerializeToString()), full_check=True)
    return exported


def run_model(model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a ModelProto with onnxruntime on the CPU; return the outputs by name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = [each.name for each in session.get_outputs()]
    wanted = {each.name: feeds[each.name] for each in session.get_inputs()}
    return dict(zip(outputs, session.run(outputs, wanted)))


def run_reference(model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a ModelProto with onnx's reference implementation of the operators, in numpy; return the outputs by name."""
    evaluator = onnx.reference.ReferenceEvaluator(onnx.load_from_string(model.SerializeToString()))
    outputs = evaluator.run(None, {name: feeds[name] for name in evaluator.input_names})
    return dict(zip(evaluator.output_names, outputs))


def difference(net: Net, feeds: dict[str, np.ndarray]) -> float:
    """The largest difference between a net's outputs and those of its ONNX model, relative to 1 or to the largest value
    of the output, whichever is larger.

    feeds: values of the net's inputs.
    """
    return difference_of(to_model(net), feeds)


def difference_of(exported: Exported, feeds: dict[str, np.ndarray], run: Run = run_model) -> float:
    """`difference` of a model that is there already; the inputs get the shapes of the values.

    run: what runs the model.
    """
    net = exported.net
    for name in net.inputs:
        net.blobs[name].reshape(feeds[name].shape)
    net.reshape()
    expected = {name: values.copy() for name, values in net.forward(**feeds).items()}
    found = run(exported.model, feeds)
    worst = 0.0
    for name in net.outputs:
        assert found[name].shape == expected[name].shape, f"{name}: {found[name].shape}, not {expected[name].shape}"
        assert np.array_equal(np.isnan(found[name]), np.isnan(expected[name])), f"{name}: nan in other places"
        scale = max(1.0, float(np.nanmax(np.abs(expected[name]), initial=0)))
        worst = max(worst, float(np.nanmax(np.abs(found[name] - expected[name]), initial=0)) / scale)
    return worst


def longer(exported: Exported, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The values, twice as many along the free axes."""
    values = dict(feeds)
    for name, axis in exported.free:
        values[name] = np.concatenate([values[name], np.flip(values[name], axis)], axis)
    return values
