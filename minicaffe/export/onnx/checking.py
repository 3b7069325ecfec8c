"""A net beside its ONNX model: both are run on the same inputs, the model by onnxruntime."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from minicaffe.data.arrays import fitted
from minicaffe.errors import DeviceError
from minicaffe.export.onnx.model import Exported
from minicaffe.export.onnx.preprocessing import GraphPreprocessing

Arrays = dict[str, np.ndarray]


class Difference(NamedTuple):
    """How far an output of the model is from the net's.

    output: its name.  shape: in this run.
    largest: the largest absolute difference.  relative: that divided by the largest absolute value, or by 1 if that is
        smaller.
    """

    output: str
    shape: tuple[int, ...]
    largest: float
    relative: float


class Check:
    """Runs an exported net and its model.

    preprocessing: as it was exported with.
    Raises ModuleNotFoundError without the package onnxruntime, DeviceError for a model that it does not accept.
    """

    def __init__(self, exported: Exported, preprocessing: Mapping[str, GraphPreprocessing] | None = None) -> None:
        import onnxruntime

        self.exported, self.preprocessing = exported, dict(preprocessing or {})
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # its errors are exceptions as well
        with _errors("does not accept the model"):
            self._session = onnxruntime.InferenceSession(
                exported.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )

    def run(self, inputs: Arrays) -> list[Difference]:
        """Return the differences for inputs by name; with preprocessing, as they are before it."""
        net = self.exported.net
        prepared: dict[str, Any] = {name: self._prepared(name, values) for name, values in inputs.items()}
        for name, values in prepared.items():
            net.blobs[name].reshape(*values.shape)
        net.reshape()
        expected = {name: values.copy() for name, values in net.forward(**prepared).items()}
        wanted = [each.name for each in self._session.get_outputs()]
        given = {each.name: np.asarray(inputs[each.name], np.float32) for each in self._session.get_inputs()}
        with _errors("cannot run the model"):
            found = self._session.run(wanted, given)
        return [_difference(name, expected[name], values) for name, values in zip(net.outputs, found)]

    def _prepared(self, name: str, values: np.ndarray) -> np.ndarray:
        shape = self.exported.net.blobs[name].shape
        if name in self.preprocessing:
            return self.preprocessing[name].apply(values, shape)
        free = {axis for key, axis in self.exported.free if key == name and axis < values.ndim}
        expected = [values.shape[axis] if axis in free else size for axis, size in enumerate(shape)]
        return fitted(values, expected, f"input '{name}'")

    def random_inputs(self, seed: int = 0) -> Iterator[Arrays]:
        """Yield random inputs: of the net's batch size, and, where it is free, of one larger by 2.

        Images, (N, C, H, W) with C at most 4, are from 0 to 255; everything else is from 0 to 1.
        """
        rng = np.random.default_rng(seed)
        named = {(key, axis): name for (key, axis), name in self.exported.free.items() if axis < 2}
        free = [axis for axis, name in named.items() if name == next(iter(named.values()))]
        for more in (0, 2) if free else (0,):
            longer = {name: {axis: more for key, axis in free if key == name} for name in self.exported.net.inputs}
            yield {name: self._random(rng, name, axes) for name, axes in longer.items()}

    def _random(self, rng: np.random.Generator, name: str, more: Mapping[int, int]) -> np.ndarray:
        """Return random values for an input; more: by how much its axes are longer than the net's."""
        shape = list(self.exported.net.blobs[name].shape)
        is_image = len(shape) == 4 and shape[1] <= 4
        if name in self.preprocessing:
            free = self.preprocessing[name].input_shape(shape)
            shape = [size if isinstance(size, int) else known + 7 for size, known in zip(free, shape)]
        shape = [size + more.get(axis, 0) for axis, size in enumerate(shape)]
        return (rng.random(shape) * (255 if is_image else 1)).astype(np.float32)


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    """Turn onnxruntime's exceptions, which have a type for each reason, none of them public, into DeviceError."""
    try:
        yield
    except Exception as error:
        raise DeviceError(f"onnxruntime {what}: {error}") from error


def _difference(name: str, expected: np.ndarray, found: np.ndarray) -> Difference:
    if expected.shape != found.shape:
        return Difference(name, found.shape, np.inf, np.inf)
    largest = float(np.abs(found - expected).max(initial=0))
    return Difference(name, found.shape, largest, largest / max(1.0, float(np.abs(expected).max(initial=0))))
