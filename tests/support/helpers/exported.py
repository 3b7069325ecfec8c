"""Exported nets of a few layers: the checker's opinion, and numpy's numbers beside onnxruntime's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from helpers.layer_cases import net_text
from helpers.nets import net_from_text
from helpers.trained import randomize
from minicaffe import TEST
from minicaffe.export.onnx.checking import Check
from minicaffe.export.onnx.model import Exported, to_model
from minicaffe.testing import NUMPY, Case

LIMIT = 2e-6  #: of the relative difference between numpy and onnxruntime


def export(text: str, keep_weights: bool = False) -> Exported:
    """Export the net of a prototxt in TEST, with random weights, and run onnx's checker."""
    with NUMPY.chosen():
        net = net_from_text(text, TEST)
        if not keep_weights:
            randomize(net)
        exported = to_model(net)
    onnx.checker.check_model(onnx.load_from_string(exported.model.SerializeToString()), full_check=True)
    return exported


def compare(exported: Exported, *inputs: np.ndarray, limit: float = LIMIT) -> None:
    """Run an exported net and its model; raise AssertionError for another shape or a larger relative difference.

    inputs: in the order of the net's inputs.
    """
    with NUMPY.chosen():
        arrays = {name: np.asarray(x, np.float32) for name, x in zip(exported.net.inputs, inputs, strict=True)}
        for found in Check(exported).run(arrays):
            assert found.relative < limit, f"{found} instead of {exported.net.blobs[found.output].shape}"


def free_inputs(exported: Exported) -> list[str]:
    """The inputs whose axis 0 is free."""
    dims = {each.name: each.type.tensor_type.shape.dim for each in exported.model.graph.input}
    return [name for name, shape in dims.items() if shape and shape[0].dim_param]


def longer(exported: Exported, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The inputs, those whose axis 0 is free with two items more, the first ones again."""
    free = free_inputs(exported)
    return [
        x.take(range(len(x) + 2), axis=0, mode="wrap") if name in free else x
        for name, x in zip(exported.net.inputs, inputs)
    ]


def inputs_of(case: Case, seed: int = 0) -> list[np.ndarray]:
    """Values for the bottoms of a case."""
    return [x.reshape(shape) for x, shape in zip(case.arrays(seed), case.shapes)]


def check_case(case: Case) -> Exported:
    """Export a case's net; compare it at the shapes of the case, and at longer ones where axis 0 is free."""
    exported = export(net_text(case))
    compare(exported, *inputs_of(case))
    if free_inputs(exported):
        compare(exported, *longer(exported, inputs_of(case, seed=1)))
    return exported
