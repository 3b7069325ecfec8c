"""What pycaffe's Net offers to scripts, on top of the running net: arrays in, arrays out, by name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from minicaffe.blob import Blob
from minicaffe.errors import UsageError
from minicaffe.layer import Layer

Callback = Callable[[int], None]  # called with a layer's index


class Scripting:
    """Mixed into `Net`, which has the attributes below and runs `forward_from_to` and `backward_from_to`."""

    layers: list[Layer]
    blobs: dict[str, Blob]
    inputs: list[str]
    outputs: list[str]
    _layer_names: list[str]
    _bottom_names: list[list[str]]
    _top_names: list[list[str]]
    _before_forward: list[Callback]
    _after_forward: list[Callback]
    _before_backward: list[Callback]
    _after_backward: list[Callback]

    def forward_from_to(self, start: int, end: int) -> float:
        """Run layers start to end (inclusive), by index; return their weighted loss."""
        raise NotImplementedError

    def backward_from_to(self, start: int, end: int) -> None:
        """Run layers start down to end (inclusive), by index, those that need it."""
        raise NotImplementedError

    @property
    def params(self) -> OrderedDict[str, list[Blob]]:
        """The parameter blobs of each layer that has any, by layer name, in order."""
        return OrderedDict((name, layer.blobs) for name, layer in zip(self._layer_names, self.layers) if layer.blobs)

    @property
    def layer_dict(self) -> OrderedDict[str, Layer]:
        """The layers by name, in order."""
        return OrderedDict(zip(self._layer_names, self.layers))

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        """The names of each layer's tops, by layer name."""
        return OrderedDict((name, list(tops)) for name, tops in zip(self._layer_names, self._top_names))

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        """The names of each layer's bottoms, by layer name."""
        return OrderedDict((name, list(bottoms)) for name, bottoms in zip(self._layer_names, self._bottom_names))

    @property
    def _blob_names(self) -> list[str]:
        return list(self.blobs)

    # -- one pass --------------------------------------------------------------------------------------------------

    def forward(
        self, blobs: Iterable[str] | None = None, start: str | None = None, end: str | None = None, **kwargs: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Run forward and return {blob name: array}; the arrays are live views of the blobs, not copies.

        blobs: names to return beside the net's outputs (with `end`, beside that layer's tops).
        start, end: names of the first and the last layer to run; all by default.
        kwargs: {input blob name: array of its shape}; exactly the net's inputs, or none.
        """
        first = self._layer_index(start, 0)
        last = self._layer_index(end, len(self.layers) - 1)
        names = list(self._top_names[last]) if end is not None else list(self.outputs)
        if kwargs:
            self._fill(kwargs, self.inputs, "input", "data")
        self.forward_from_to(first, last)
        return {name: self.blobs[name].data for name in dict.fromkeys([*names, *(blobs or [])])}

    def backward(
        self, diffs: Iterable[str] | None = None, start: str | None = None, end: str | None = None, **kwargs: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Run backward and return {blob name: diff}; the arrays are live views.

        diffs: names of further blobs whose diffs to return beside the inputs' (with `end`, that layer's bottoms').
        start, end: names of the layer to begin with (the highest) and to end with; all by default.
        kwargs: {output blob name: diff of its shape} to begin from; exactly the net's outputs, or none.
        """
        first = self._layer_index(start, len(self.layers) - 1)
        last = self._layer_index(end, 0)
        names = list(self._bottom_names[last]) if end is not None else list(self.inputs)
        if kwargs:
            self._fill(kwargs, self.outputs, "output", "diff")
        self.backward_from_to(first, last)
        return {name: self.blobs[name].diff for name in dict.fromkeys([*names, *(diffs or [])])}

    def _layer_index(self, name: str | None, default: int) -> int:
        if name is None:
            return default
        try:
            return self._layer_names.index(name)
        except ValueError:
            raise UsageError(f"the net has no layer '{name}': it has {', '.join(self._layer_names)}") from None

    def _fill(self, arrays: dict[str, np.ndarray], expected: list[str], kind: str, what: str) -> None:
        """Copy arrays into the data of inputs or the diffs of outputs, after checking names and batch size."""
        if set(arrays) != set(expected):
            raise UsageError(f"expected an array for each {kind} blob {sorted(expected)}, got {sorted(arrays)}")
        for name, array in arrays.items():
            blob = self.blobs[name]
            array = np.asarray(array)
            batch = blob.shape[0] if blob.shape else 1
            if (array.shape[0] if array.ndim else 1) != batch:
                raise UsageError(f"{kind} '{name}': expected a batch of {batch} (axis 0), got shape {array.shape}")
            target = getattr(blob, what)
            try:
                target[...] = array.reshape(blob.shape)
            except ValueError:
                raise UsageError(f"{kind} '{name}': expected shape {blob.shape}, got {array.shape}") from None

    # -- any number of inputs --------------------------------------------------------------------------------------

    def forward_all(self, blobs: Iterable[str] | None = None, **kwargs: np.ndarray) -> dict[str, np.ndarray]:
        """Run forward over any number of inputs, batch by batch (the last one padded); return copies, joined.

        kwargs: {input blob name: array whose axis 0 counts the inputs}.
        """
        parts: dict[str, list[np.ndarray]] = {}
        for batch in self._batches(kwargs):
            for name, values in self.forward(blobs=blobs, **batch).items():
                parts.setdefault(name, []).append(values.copy())
        return _join(parts, len(next(iter(kwargs.values()))))

    def forward_backward_all(
        self, blobs: Iterable[str] | None = None, diffs: Iterable[str] | None = None, **kwargs: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Run forward and backward over any number of inputs, batch by batch; return outputs and diffs, joined.

        kwargs: the inputs, and where the net's outputs should start from given diffs, those by output name.
        """
        inputs = {name: values for name, values in kwargs.items() if name in self.inputs}
        tops = {name: values for name, values in kwargs.items() if name not in self.inputs}
        outs: dict[str, list[np.ndarray]] = {}
        grads: dict[str, list[np.ndarray]] = {}
        top_batches = self._batches(tops) if tops else iter(lambda: {}, None)
        for batch, top_batch in zip(self._batches(inputs), top_batches):
            for name, values in self.forward(blobs=blobs, **batch).items():
                outs.setdefault(name, []).append(values.copy())
            for name, values in self.backward(diffs=diffs, **top_batch).items():
                grads.setdefault(name, []).append(values.copy())
        total = len(next(iter(inputs.values())))
        return _join(outs, total), _join(grads, total)

    def _batches(self, arrays: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Cut arrays of one length into batches of the net's size; the last is padded with zeros."""
        if not arrays:
            raise UsageError(f"expected an array for each input blob {sorted(self.inputs)}, got none")
        arrays = {name: np.asarray(values) for name, values in arrays.items()}
        total = len(next(iter(arrays.values())))
        size = self.blobs[next(iter(arrays))].shape[0]
        for begin in range(0, total, size):
            batch = {}
            for name, values in arrays.items():
                part = values[begin : begin + size]
                missing = size - len(part)
                if missing:
                    part = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)])
                batch[name] = part
            yield batch

    def __reduce__(self):
        raise UsageError(
            "a Net cannot be pickled or copied: build it where it is used, from its prototxt and its weights (in a "
            "pool, in the initializer of the workers)"
        )

    # -- callbacks and inputs --------------------------------------------------------------------------------------

    def before_forward(self, callback: Callback) -> None:
        """Call `callback(layer index)` before each layer's forward pass."""
        self._before_forward.append(callback)

    def after_forward(self, callback: Callback) -> None:
        """Call `callback(layer index)` after each layer's forward pass."""
        self._after_forward.append(callback)

    def before_backward(self, callback: Callback) -> None:
        """Call `callback(layer index)` before each layer's backward pass."""
        self._before_backward.append(callback)

    def after_backward(self, callback: Callback) -> None:
        """Call `callback(layer index)` after each layer's backward pass."""
        self._after_backward.append(callback)

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Give the net's MemoryData layer its arrays: data (N, C, H, W), labels (N,) or (N, 1, 1, 1), float32."""
        layer = self.layers[0]
        if layer.type != "MemoryData":
            raise UsageError(f"set_input_arrays expects a net whose first layer is MemoryData, got {layer.type}")
        layer.set_input_arrays(data, labels)


def _join(parts: dict[str, list[np.ndarray]], total: int) -> dict[str, np.ndarray]:
    """One array per blob, without the padding; tops without a batch axis keep one value per batch."""
    return {name: np.concatenate([np.atleast_1d(p) for p in values])[:total] for name, values in parts.items()}
