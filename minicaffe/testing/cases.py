"""Cases of layers: a small layer, values for its bottoms, and one forward and backward pass over them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicaffe import gradient_check
from minicaffe.core.blob import Blob
from minicaffe.core.in_place import Overwrites
from minicaffe.core.layer import Layer
from minicaffe.proto import TRAIN, caffe_pb2
from minicaffe.testing.engines import NUMPY

Values = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


# -- bottoms -----------------------------------------------------------------------------------------------------------


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers."""
    return rng.standard_normal(shape)


def distinct(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers at least 0.05 apart, shuffled, and away from 0: no maximum changes under a small step."""
    count = int(np.prod(shape))
    return (0.05 * (rng.permutation(count) - count // 2) + 0.02).reshape(shape)


def positive(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers between 0.2 and 1.2."""
    return rng.random(shape) + 0.2


def labels(classes: int) -> Values:
    """Whole numbers below `classes`."""
    return lambda rng, shape: rng.integers(0, classes, shape).astype(float)


def continuation(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Bottom 1 of recurrent layers, (T, N): 0 where a sequence begins, at step 0 and at some others, else 1."""
    cont = (rng.random(shape) < 0.7).astype(float)
    cont[0] = 0
    return cont


@dataclass
class Case:
    """A small layer and what to feed it.

    text: the inside of a `layer { }` message; shapes: of the bottoms; values: one function for all bottoms or one each.
    gradient: which bottoms to check the gradient of (None: all; (): none); `params`: check those of parameters.
    num_top: how many tops.  options: further ones for `check_gradient`.
    """

    text: str
    shapes: Sequence[tuple[int, ...]]
    values: Values | Sequence[Values] = normal
    gradient: Sequence[int] | None = None
    params: bool = True
    num_top: int = 1
    phase: int = TRAIN
    options: dict[str, Any] = field(default_factory=dict)

    def arrays(self, seed: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        values = self.values if isinstance(self.values, Sequence) else [self.values] * len(self.shapes)
        return [make(rng, tuple(shape)) for make, shape in zip(values, self.shapes)]

    @property
    def differentiable(self) -> list[int]:
        return list(range(len(self.shapes)) if self.gradient is None else self.gradient)

    @functools.cached_property
    def layer(self) -> Layer:
        """The layer, set up by numpy's code: for its type, its parameters and what it states about itself."""
        with NUMPY.chosen():
            return build_layer(self.text, *self.arrays(), num_top=self.num_top, phase=self.phase, dtype=np.float32)[0]

    @property
    def has_gradient(self) -> bool:
        """Whether there is a gradient to check."""
        return bool(self.differentiable or (self.params and self.layer.blobs))

    def __str__(self) -> str:
        return " ".join(self.text.split())


class Run:
    """One layer of a case with its blobs: forward and backward on the chosen engine.

    in_place: whether top 0 is bottom 0.  behind: texts of layers of one bottom and one top that follow it, one after
    the other; behind_in_place: whether they work in place.
    """

    def __init__(
        self,
        case: Case,
        dtype: np.typing.DTypeLike = np.float32,
        in_place: bool = False,
        behind: Sequence[str] = (),
        behind_in_place: bool = False,
    ) -> None:
        self.case = case
        self.layer: Layer = gradient_check.layer_from_text(case.text, case.phase, dtype)
        self.layer.rng.set_state(_RNG_STATE)
        self.bottom = gradient_check.blobs_of(case.arrays(), dtype)
        self.top = [Blob(dtype=dtype) for _ in range(case.num_top)]
        if in_place:
            self.top[0] = self.bottom[0]
        self.layer.initialize(self.bottom, self.top)
        self._behind: list[tuple[Layer, list[Blob], list[Blob]]] = []
        self.outputs = list(self.top)  # the tops, the first of them that of the last layer behind
        for text in behind:
            self._follow(gradient_check.layer_from_text(text, case.phase, dtype), behind_in_place)
        rng = np.random.default_rng(1)
        for blob in self.layer.blobs:
            blob.data[...] = blob.data + 0.3 * rng.standard_normal(blob.shape)
        self.state = self.layer.state()

    def _follow(self, layer: Layer, in_place: bool) -> None:
        """Put a layer behind the last top."""
        bottom = self.outputs[:1]
        top = bottom if in_place else [Blob(dtype=layer.dtype)]
        layer.initialize(bottom, top)
        self.outputs[:1] = top
        self._behind.append((layer, bottom, top))
        overwrites = Overwrites(*zip((self.layer, self.bottom, self.top), *self._behind))
        overwrites.check_outputs({str(i): blob for i, blob in enumerate(self.top) if i})
        for i, each in enumerate([self.layer, *(layer for layer, _, _ in self._behind)]):
            each.kept_blobs = overwrites.kept_by(i)

    def forward(self) -> list[np.ndarray]:
        self.layer.load_state(self.state)
        self.layer.forward(self.bottom, self.top)
        for layer, bottom, top in self._behind:
            layer.forward(bottom, top)
        return [blob.read_data().copy() for blob in self.outputs]

    def backward(self, seed: int = 2) -> list[np.ndarray]:
        """Bottom diffs (of the differentiable bottoms), then parameter diffs, from random top diffs."""
        rng = np.random.default_rng(seed)
        for i, blob in enumerate(self.outputs):
            blob.diff[...] = 1.3 if self.layer.default_loss_weight(i) else rng.standard_normal(blob.shape)
        for layer, bottom, top in reversed(self._behind):
            layer.backward(top, [True], bottom)
        down = [i in self.case.differentiable for i in range(len(self.bottom))]
        self.layer.backward(self.top, down, self.bottom)
        diffs = [self.bottom[i].read_diff().copy() for i in self.case.differentiable]
        return diffs + [blob.read_diff().copy() for blob in self.layer.blobs]

    def spoil(self) -> None:
        """Overwrite tops, their diffs and the bottoms' diffs, as an earlier batch would."""
        for blob in self.top:
            if all(blob.data_memory is not b.data_memory for b in self.bottom):
                blob.data[...] = 7.5
        for blob in (*self.top, *self.bottom):
            blob.diff[...] = -3.25


_RNG_STATE = Layer(caffe_pb2.LayerParameter(name="state")).rng.get_state() | {"key": [11, 12], "counter": [0] * 4}


def build_layer(
    text: str,
    *bottoms: Any,
    num_top: int = 1,
    phase: int = TRAIN,
    dtype: np.typing.DTypeLike = np.float64,
    in_place: bool = False,
) -> tuple[Layer, list[Blob], list[Blob]]:
    """Set up a layer from the inside of a `layer { }` message on bottoms of these values.

    num_top: how many tops.  phase: TRAIN (0) or TEST (1).  dtype: of the layer and its blobs.
    in_place: whether the bottoms are the tops.
    Returns the layer, its bottoms and its tops.
    """
    layer = gradient_check.layer_from_text(text, phase, dtype)
    bottom = gradient_check.blobs_of(bottoms, dtype)
    top = bottom if in_place else [Blob(dtype=dtype) for _ in range(num_top)]
    layer.initialize(bottom, top)
    return layer, bottom, top


def run_layer(text: str, *bottoms: Any, **options: Any) -> tuple[Layer, list[Blob], list[Blob]]:
    """As `build_layer`, then run the layer forward."""
    layer, bottom, top = build_layer(text, *bottoms, **options)
    layer.forward(bottom, top)
    return layer, bottom, top


def top_of(text: str, *bottoms: Any, **options: Any) -> np.ndarray:
    """The values of the first top of a layer, after `run_layer`."""
    return run_layer(text, *bottoms, **options)[2][0].data


def assert_close(got, expected, what: str = "", rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Equal within rtol, or within `atol` times the largest expected value (float32 sums differ by order)."""
    expected = np.asarray(expected)
    largest = float(np.max(np.abs(expected[np.isfinite(expected)]), initial=0.0))
    np.testing.assert_allclose(got, expected, rtol, atol * max(largest, 1e-6), err_msg=what)
