"""pycaffe's interface of Net for scripts: passes with arrays as inputs and outputs, by blob name, and callbacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from minicaffe.core.guard import guarded
from minicaffe.core.running import Callback, Running
from minicaffe.data.arrays import fitted, numbers
from minicaffe.errors import UsageError


class Scripting(Running):
    """Mixin of `Net`: what scripts call, on top of its passes."""

    # -- one pass --------------------------------------------------------------------------------------------------

    @guarded
    def forward(
        self, blobs: Iterable[str] | None = None, start: str | None = None, end: str | None = None, **kwargs: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Run forward and return {blob name: array}; the arrays are views of the blobs, not copies.

        blobs: names of blobs to return in addition to the net's outputs (with `end`: to the tops of that layer).
        start, end: names of the first and the last layer to run; all layers by default.
        kwargs: {input blob name: array of its shape}; all of the net's inputs, or none.  Axes of length 1 may be
            added or omitted; an axis of length 1 is broadcast, except axis 0.
        Raises UsageError for an unknown name and for an array of another shape, before any input is changed.
        """
        first = self._layer_index(start, 0)
        last = self._layer_index(end, len(self.layers) - 1)
        found = {name: self.blobs[name] for name in self.outputs}
        if end is not None:
            found = dict(zip(self.names_of_tops[last], self.tops[last]))
        found.update((name, self.blobs[name]) for name in names_in(blobs))
        if kwargs:
            self._fill(kwargs, self.inputs, "input", "data")
        self.forward_from_to(first, last)
        return {name: blob.data for name, blob in found.items()}

    @guarded
    def backward(
        self, diffs: Iterable[str] | None = None, start: str | None = None, end: str | None = None, **kwargs: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Run backward and return {blob name: diff}; the arrays are views of the blobs, not copies.

        diffs: names of blobs to return in addition to the net's inputs (with `end`: to the bottoms of that layer).
        start, end: names of the first layer to run backward (the later one in the net) and the last; all by default.
        kwargs: {output blob name: its diff, of the blob's shape}; all of the net's outputs, or none.
        Raises UsageError for an unknown name and for an array of another shape, before any diff is changed.
        """
        first = self._layer_index(start, len(self.layers) - 1)
        last = self._layer_index(end, 0)
        names = list(self.names_of_bottoms[last]) if end is not None else list(self.inputs)
        found = {name: self.blobs[name] for name in [*names, *names_in(diffs)]}
        if kwargs:
            self._fill(kwargs, self.outputs, "output", "diff")
        self.backward_from_to(first, last)
        self.settle()
        return {name: blob.diff for name, blob in found.items()}

    def _layer_index(self, name: str | None, default: int) -> int:
        if name is None:
            return default
        try:
            return self.layer_names.index(name)
        except ValueError:
            raise UsageError(f"the net has no layer '{name}': it has {', '.join(self.layer_names)}") from None

    def _fill(self, arrays: dict[str, np.ndarray], expected: list[str], kind: str, what: str) -> None:
        """Check the arrays, then copy them into the data of inputs or the diffs of outputs."""
        _check_names(arrays, expected, kind)
        fitting = {}
        for name, array in arrays.items():
            shape = self.blobs[name].shape
            found = numbers(array, f"{kind} '{name}'")
            sizes = ", ".join(map(str, (*found.shape[:1], *shape[1:])))
            remedy = f'; net.blobs["{name}"].reshape({sizes}) changes the batch' if kind == "input" else ""
            fitting[name] = fitted(found, shape, f"{kind} '{name}'", remedy)
        for name, array in fitting.items():
            getattr(self.blobs[name], what)[...] = array

    # -- several batches -------------------------------------------------------------------------------------------

    @guarded
    def forward_all(self, blobs: Iterable[str] | None = None, **kwargs: np.ndarray) -> dict[str, np.ndarray]:
        """Run forward over any number of inputs, in batches (the last one padded with zeros).

        blobs: names of blobs to return in addition to the net's outputs.
        kwargs: {input blob name: array (N, ...)}; all of the net's inputs, of one length N.
        Returns {blob name: array (N, ...)}, copies.
        Raises UsageError for wrong names, lengths or shapes.
        """
        _check_names(kwargs, self.inputs, "input")
        names = names_in(blobs)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in [*self.outputs, *names]}
        for batch in self._batch(kwargs):
            self._fill(batch, self.inputs, "input", "data")
            for name, values in self.forward(blobs=names).items():
                parts[name].append(values.copy())
        return self._join(parts, kwargs)

    @guarded
    def forward_backward_all(
        self, blobs: Iterable[str] | None = None, diffs: Iterable[str] | None = None, **kwargs: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Run forward and backward over any number of inputs, in batches (the last one padded with zeros).

        blobs: names of blobs to return in addition to the net's outputs.
        diffs: names of blobs whose diffs to return in addition to those of the net's inputs.
        kwargs: {input blob name: array (N, ...)}; also {output blob name: its diff (N, ...)} to start backward from
            given diffs instead of the loss.
        Returns {blob name: array (N, ...)} of data and of diffs, copies.
        Raises UsageError for wrong names, lengths or shapes.
        """
        given = set(kwargs) - set(self.inputs)
        expected = [*(self.inputs if given < set(kwargs) else []), *(self.outputs if given else [])]
        _check_names(kwargs, expected, "input and output" if given else "input")
        names, diff_names = names_in(blobs), names_in(diffs)
        outs: dict[str, list[np.ndarray]] = {name: [] for name in [*self.outputs, *names]}
        grads: dict[str, list[np.ndarray]] = {name: [] for name in [*self.inputs, *diff_names]}
        for batch in self._batch(kwargs):
            bottoms = {name: batch[name] for name in self.inputs if name in batch}
            tops = {name: batch[name] for name in self.outputs if given}
            if bottoms:
                self._fill(bottoms, self.inputs, "input", "data")
            for name, values in self.forward(blobs=names).items():
                outs[name].append(values.copy())
            if tops:
                self._fill(tops, self.outputs, "output", "diff")
            for name, values in self.backward(diffs=diff_names).items():
                grads[name].append(values.copy())
        return self._join(outs, kwargs), self._join(grads, kwargs)

    def _batch(self, blobs: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Split arrays of one length into batches; the last is padded with zeros.

        The batch size is the length of axis 0 of the first blob given, or, if the net has no such blob, of its first.
        """
        called = {name: f"{'input' if name in self.inputs else 'output'} '{name}'" for name in blobs}
        arrays = {name: numbers(values, called[name]) for name, values in blobs.items()}
        lengths = {array.shape[:1] for array in arrays.values()}
        if len(lengths) != 1 or () in lengths:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "none"
            raise UsageError(f"expected arrays of one length, axis 0 counting the inputs, got {shapes}")
        for name, array in arrays.items():
            if len(array) and name in self.blobs:
                fitted(array, (len(array), *self.blobs[name].shape[1:]), called[name])
        blob = self.blobs.get(next(iter(arrays))) or next(iter(self.blobs.values()))
        size = blob.shape[0] if blob.shape else 1
        if size == 0:
            raise UsageError("the net's batch has length 0: reshape its input before running it")
        for begin in range(0, lengths.pop()[0], size):
            parts = {name: array[begin : begin + size] for name, array in arrays.items()}
            yield {name: _padded(part, size) for name, part in parts.items()}

    def _join(self, parts: dict[str, list[np.ndarray]], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Concatenate the batches of each blob, without the padding; a blob without axes gives one value per batch."""
        total = len(next(iter(arrays.values())))
        joined = {}
        for name, values in parts.items():
            blob = self.blobs[name]
            none = [np.empty((0, *blob.shape[1:]), blob.dtype)]
            joined[name] = np.concatenate([np.atleast_1d(part) for part in values] or none)[:total]
        return joined

    def __reduce__(self):
        raise UsageError(
            "a Net cannot be pickled or copied: build it where it is used, from its prototxt and its weights (in a "
            "pool, in the initializer of the workers)"
        )

    # -- callbacks and inputs --------------------------------------------------------------------------------------

    def before_forward(self, callback: Callback) -> None:
        """Call `callback(layer index)` before each layer's forward pass."""
        self.callbacks.before_forward.append(callback)

    def after_forward(self, callback: Callback) -> None:
        """Call `callback(layer index)` after each layer's forward pass."""
        self.callbacks.after_forward.append(callback)

    def before_backward(self, callback: Callback) -> None:
        """Call `callback(layer index)` before each layer's backward pass."""
        self.callbacks.before_backward.append(callback)

    def after_backward(self, callback: Any) -> None:
        """Call `callback(layer index)` after each layer's backward pass.

        callback: a function, or an object with an attribute `after_layer`, which is that function, or None if there is
            nothing to call: pycaffe's `NCCL`.
        """
        callback = getattr(callback, "after_layer", callback)
        if callback is not None:
            self.callbacks.after_backward.append(callback)

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Set the arrays of the net's MemoryData layer, which must be its first layer (UsageError otherwise).

        data: float32 (N, C, H, W).  labels: float32 (N,) or (N, 1, 1, 1).
        """
        layer = self.layers[0] if self.layers else None
        if layer is None or not hasattr(layer, "set_input_arrays"):
            found = layer.type if layer else "no layer"
            raise UsageError(f"set_input_arrays expects a net whose first layer is MemoryData, got {found}")
        layer.set_input_arrays(data, labels)

    # -- methods of pycaffe's compiled module ----------------------------------------------------------------------

    _set_input_arrays = set_input_arrays

    def _forward(self, start: int, end: int) -> float:
        """Run layers start to end (inclusive), by index; return their weighted loss."""
        return self.forward_from_to(self._checked(start), self._checked(end))

    def _backward(self, start: int, end: int) -> None:
        """Run backward through layers start down to end (inclusive), by index."""
        self.backward_from_to(self._checked(start), self._checked(end))
        self.settle()


def names_in(names: Iterable[str] | None) -> list[str]:
    """Return a list of names from one name, an iterable of names, or None; UsageError for anything else."""
    if names is None or isinstance(names, str):
        return [] if names is None else [names]
    found = list(names) if isinstance(names, Iterable) else [names]
    others = [value for value in found if not isinstance(value, str)]
    if others:
        got = type(names).__name__ + (f" of {type(others[0]).__name__}" if isinstance(names, (list, tuple)) else "")
        arrays = isinstance(names, np.ndarray) or isinstance(others[0], np.ndarray)
        hint = "; arrays are given by the names of their blobs, data=array" if arrays else ""
        raise UsageError(f"expected a name or a list of names, got {got}{hint}")
    return found


def _check_names(arrays: Mapping[str, np.ndarray], expected: list[str], kind: str) -> None:
    if not arrays or set(arrays) != set(expected):
        got = sorted(arrays) or "none"
        raise UsageError(f"expected an array for each {kind} blob {sorted(set(expected))}, got {got}")


def _padded(part: np.ndarray, size: int) -> np.ndarray:
    """Return the array padded with zeros to length `size` along axis 0."""
    missing = size - len(part)
    return np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)]) if missing else part
