"""Shared tests of layers, also for layers of your own.

`LayerProperties` holds the properties that every layer must have: subclass it, list `cases`, and pytest runs each
property on each case (tests/layers/conftest.py parametrizes the tests).  `run_golden_layer` compares with values
computed by the original Caffe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicaffe import gradient_check
from minicaffe.core.blob import Blob
from minicaffe.core.in_place import Overwrites
from minicaffe.core.layer import Layer
from minicaffe.core.net import Net
from minicaffe.errors import LayerError
from minicaffe.proto import TRAIN, caffe_pb2, parse_text

Values = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


# -- bottoms -----------------------------------------------------------------------------------------------------------


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return standard normal values."""
    return rng.standard_normal(shape)


def distinct(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return shuffled values at least 0.05 apart and not near 0, so that a small step changes no maximum."""
    count = int(np.prod(shape))
    return (0.05 * (rng.permutation(count) - count // 2) + 0.02).reshape(shape)


def positive(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return uniform values between 0.2 and 1.2."""
    return rng.random(shape) + 0.2


def labels(classes: int) -> Values:
    """Return a function that makes class labels: integers from 0 to `classes` - 1, as floats."""
    return lambda rng, shape: rng.integers(0, classes, shape).astype(float)


def continuation(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Bottom 1 of recurrent layers, (T, N): 0 where a sequence begins, at step 0 and at some others, else 1."""
    cont = (rng.random(shape) < 0.7).astype(float)
    cont[0] = 0
    return cont


@dataclass
class Case:
    """A small layer and its inputs.

    text: the content of a `layer { }` message.  shapes: the shapes of the bottoms.
    values: a function (rng, shape) -> array for all bottoms, or one per bottom; default `normal`.
    gradient: indices of the bottoms whose gradient is checked; None (default): all, (): none.
    params: whether the gradients of the parameters are checked (default True).
    num_top: number of tops (default 1).  phase: TRAIN (default) or TEST.
    options: further keywords of `check_gradient`.
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
        """Return the values of the bottoms, float64, reproducible by `seed`."""
        rng = np.random.default_rng(seed)
        values = self.values if isinstance(self.values, Sequence) else [self.values] * len(self.shapes)
        return [make(rng, tuple(shape)) for make, shape in zip(values, self.shapes)]

    @property
    def differentiable(self) -> list[int]:
        """Indices of the bottoms whose gradient is checked."""
        return list(range(len(self.shapes)) if self.gradient is None else self.gradient)

    def __str__(self) -> str:
        return " ".join(self.text.split())


class Run:
    """The layer of a case with its blobs, on the current device and engine.

    in_place: whether top 0 is bottom 0.
    behind: texts of layers with one bottom and one top that follow in a chain, starting from top 0.
    behind_in_place: whether those layers work in place.
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
        self.last = self.top[0] if self.top else None
        for text in behind:
            self._follow(gradient_check.layer_from_text(text, case.phase, dtype), behind_in_place)
        rng = np.random.default_rng(1)
        for blob in self.layer.blobs:
            blob.data[...] = blob.data + 0.3 * rng.standard_normal(blob.shape)
        self.state = self.layer.state()

    def _follow(self, layer: Layer, in_place: bool) -> None:
        """Append a layer that reads the last top."""
        bottom = [self.last]
        top = bottom if in_place else [Blob(dtype=layer.dtype)]
        layer.initialize(bottom, top)
        (self.last,) = top
        self._behind.append((layer, bottom, top))
        overwrites = Overwrites(*zip((self.layer, self.bottom, self.top), *self._behind))
        overwrites.check_outputs({str(i): blob for i, blob in enumerate(self.top) if i})
        for i, (each, *_) in enumerate([(self.layer,), *self._behind]):
            each.kept_blobs = overwrites.kept_by(i)

    def forward(self) -> list[np.ndarray]:
        """Run forward with the same random numbers each time; return copies of the tops."""
        self.layer.load_state(self.state)
        self.layer.forward(self.bottom, self.top)
        for layer, bottom, top in self._behind:
            layer.forward(bottom, top)
        tops = [self.last, *self.top[1:]] if self._behind else self.top
        return [top.read_data().copy() for top in tops]

    def backward(self, seed: int = 2) -> list[np.ndarray]:
        """Run backward from random top diffs; return diffs of the differentiable bottoms, then of the parameters."""
        rng = np.random.default_rng(seed)
        for i, top in enumerate(self.top):
            loss = self.layer.default_loss_weight(i)
            last = self.last if self._behind and i == 0 else top
            last.diff[...] = 1.3 if loss else rng.standard_normal(top.shape)
        for layer, bottom, top in reversed(self._behind):
            layer.backward(top, [True], bottom)
        down = [i in self.case.differentiable for i in range(len(self.bottom))]
        self.layer.backward(self.top, down, self.bottom)
        diffs = [self.bottom[i].read_diff().copy() for i in self.case.differentiable]
        return diffs + [blob.read_diff().copy() for blob in self.layer.blobs]

    def spoil(self) -> None:
        """Fill tops, their diffs and the bottoms' diffs with arbitrary values, like those of a previous batch."""
        for blob in self.top:
            if all(blob.data_memory is not b.data_memory for b in self.bottom):
                blob.data[...] = 7.5
        for blob in (*self.top, *self.bottom):
            blob.diff[...] = -3.25


_RNG_STATE = Layer(caffe_pb2.LayerParameter(name="state")).rng.get_state() | {"key": [11, 12], "counter": [0] * 4}


def run_layer(
    text: str, *bottoms: Any, num_top: int = 1, phase: int = TRAIN, dtype: np.typing.DTypeLike = np.float64
) -> tuple[Layer, list[Blob], list[Blob]]:
    """Set up a layer on bottoms with the given values and run it forward.

    text: the content of a `layer { }` message.  bottoms: one array per bottom.  num_top: number of tops (default 1).
    phase: TRAIN (default) or TEST.  dtype: of the blobs, float64 by default.
    Returns the layer, its bottoms and its tops.
    """
    layer = gradient_check.layer_from_text(text, phase, dtype)
    bottom, top = gradient_check.blobs_of(bottoms, dtype), [Blob(dtype=dtype) for _ in range(num_top)]
    layer.initialize(bottom, top)
    layer.forward(bottom, top)
    return layer, bottom, top


def assert_close(got, expected, what: str = "", rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Assert that values are equal within `rtol`, or within `atol` times the largest expected magnitude.

    The second tolerance is for float32 sums, whose rounding depends on the order.  what: names the values on failure.
    """
    expected = np.asarray(expected)
    largest = float(np.max(np.abs(expected[np.isfinite(expected)]), initial=0.0))
    np.testing.assert_allclose(got, expected, rtol, atol * max(largest, 1e-6), err_msg=what)


#: Layers that follow a layer in place in the tests; together they change signs and magnitudes.
BEHIND = (
    "name: 'behind' type: 'ReLU' relu_param { negative_slope: 0.2 }",
    "name: 'last' type: 'Scale' scale_param { num_axes: 0 filler { value: -3 } }",
)


class LayerProperties:
    """Properties of every layer, as tests; a subclass lists its `cases`."""

    cases: Sequence[Case] = ()

    def test_gradient(self, case: Case) -> None:
        """Backward is the derivative of forward."""
        bottoms = case.differentiable
        if not bottoms and not case.params:
            return
        gradient_check.check_gradient(
            case.text, case.arrays(), num_top=case.num_top, phase=case.phase, check_bottom=bottoms,
            check_params=case.params, **case.options,
        )  # fmt: skip

    def test_forward_leaves_bottoms_alone(self, case: Case, device: str) -> None:
        """Forward does not modify the data of the bottoms."""
        run = Run(case)
        before = [b.read_data().copy() for b in run.bottom]
        run.forward()
        for blob, values in zip(run.bottom, before):
            np.testing.assert_array_equal(blob.read_data(), values)

    def test_stale_buffers_change_nothing(self, case: Case, device: str) -> None:
        """A second pass over buffers filled with arbitrary values gives the same tops and diffs."""
        run = Run(case)
        params = [b.read_data().copy() for b in run.layer.blobs]
        first, first_diffs = run.forward(), run.backward()
        run.spoil()
        for blob, values in zip(run.layer.blobs, params):
            blob.data[...] = values
            blob.diff[...] = 0
        again, again_diffs = run.forward(), run.backward()
        for a, b in zip(first + first_diffs, again + again_diffs):
            assert_close(b, a)

    def test_parameter_diffs_add_up(self, case: Case, device: str) -> None:
        """A second backward pass adds to the diffs of parameters."""
        run = Run(case)
        run.forward()
        state = [b.read_data().copy() for b in run.layer.blobs]
        once = run.backward()[len(case.differentiable) :]
        for blob, values in zip(run.layer.blobs, state):
            blob.data[...] = values
        run.forward()
        twice = run.backward()[len(case.differentiable) :]
        for a, b in zip(once, twice):
            assert_close(b, 2 * a, rtol=1e-3, atol=1e-4)

    def test_in_place_is_the_same(self, case: Case, device: str) -> None:
        """A layer that can work in place gives the same values and gradients in place."""
        apart = Run(case)
        if not apart.layer.in_place:
            return
        without_backward, within = Run(case, in_place=True), Run(case, in_place=True)
        without_backward.layer.kept_blobs = None  # as in a net that computes no gradient
        expected = apart.forward()
        for run in (without_backward, within):
            for a, b in zip(expected, run.forward()):
                assert_close(b, a)
        if apart.layer.exact_gradient_in_place:
            for a, b in zip(apart.backward(), within.backward()):
                assert_close(b, a)

    def test_backward_reads_what_the_layer_states(self, case: Case, device: str) -> None:
        """Data not listed in `backward_reads` may be overwritten before backward."""
        runs = Run(case), Run(case)
        for run in runs:
            run.forward()
        for kind, blobs in (("bottom", run.bottom), ("top", run.top)):
            if kind not in run.layer.backward_reads:
                for blob in blobs:
                    blob.data[...] = np.nan
        for a, b in zip(*(run.backward() for run in runs)):
            assert_close(b, a)

    def test_layers_in_place_behind_change_nothing(self, case: Case, device: str) -> None:
        """Following layers give the same values and gradients in place as with tops of their own, or are refused."""
        if not case.num_top or not (case.differentiable or case.params):
            return
        apart = Run(case, behind=BEHIND)
        expected = apart.forward() + apart.backward()
        own = apart.layer.in_place and apart.layer.exact_gradient_in_place
        for in_place in (False, True) if own else (False,):
            try:
                within = Run(case, in_place=in_place, behind=BEHIND, behind_in_place=True)
            except LayerError as error:
                assert "layer 'behind': cannot work in place on blob '0', the memory of which" in str(error)
                return
            for a, b in zip(expected, within.forward() + within.backward()):
                assert_close(b, a)

    def test_batch_may_grow_and_shrink(self, case: Case, device: str) -> None:
        """A layer reshaped to twice the batch and back gives the same tops as before."""
        run = Run(case)
        first = run.forward()
        values = [b.read_data().copy() for b in run.bottom]
        params = [b.read_data().copy() for b in run.layer.blobs]
        if all(len(v.shape) and v.shape[0] == values[0].shape[0] for v in values):
            for blob, v in zip(run.bottom, values):
                blob.reshape(2 * v.shape[0], *v.shape[1:])
                blob.data[...] = np.concatenate([v, v])
            try:
                run.forward()
            except Exception as error:  # a layer may refuse the larger batch, with its name in the message
                assert run.layer.name in str(error)
            for blob, v in zip(run.bottom, values):
                blob.reshape(v.shape)
                blob.data[...] = v
            for blob, v in zip(run.layer.blobs, params):
                blob.data[...] = v
            for a, b in zip(first, run.forward()):
                assert_close(b, a)

    def test_device_gives_the_numbers_of_the_reference(self, case: Case, device: str) -> None:
        """Forward and backward give the values of the numpy code."""
        if device == "caffe":
            return
        run = Run(case)
        got = run.forward() + run.backward()
        with reference():
            plain = Run(case)
            expected = plain.forward() + plain.backward()
        for a, b in zip(got, expected):
            assert_close(a, b)


class reference:
    """Context manager: inside the block, layers are built and run by the numpy code."""

    def __enter__(self) -> None:
        from minicaffe.core.engine import NUMPY
        from minicaffe.core.settings import settings

        self._was = settings.engine, settings.variants
        settings.engine, settings.variants = NUMPY, "CAFFE"

    def __exit__(self, *error: object) -> None:
        from minicaffe.core.settings import settings

        settings.engine, settings.variants = self._was


# -- cases that the original computed ----------------------------------------------------------------------------------


def run_golden_layer(path: str) -> None:
    """Run one layer case and compare with the original's values: outputs, parameters afterwards, diffs of backward.

    path: an .npz with the prototxt, the phase, the inputs and parameters, and the expected values.
    """
    with np.load(path) as stored:
        case = {key: stored[key] for key in stored.files}
    param = parse_text(str(case["prototxt"]), caffe_pb2.NetParameter())
    net = Net(param, phase=caffe_pb2.Phase.Value(str(case["phase"])))
    _put(net, case, "param", "data")
    for key, values in _part(case, "in"):
        net.blobs[key].data[...] = values
    net.forward()
    for key, values in _part(case, "out"):
        assert_close(net.blobs[key].data, values, f"top {key}")
    for key, values in _part(case, "param_after"):
        layer, index = key.rsplit(":", 1)
        assert_close(net.params[layer][int(index)].data, values, f"parameter {key} after forward")
    if not any(key.startswith(("indiff:", "paramdiff:")) for key in case):
        return
    for key, values in _part(case, "topdiff"):
        net.blobs[key].diff[...] = values
    net.clear_param_diffs()
    net.backward()
    for key, values in _part(case, "indiff"):
        assert_close(net.blobs[key].diff, values, f"diff of {key}")
    for key, values in _part(case, "paramdiff"):
        layer, index = key.rsplit(":", 1)
        assert_close(net.params[layer][int(index)].diff, values, f"diff of parameter {key}")


def _part(case: dict[str, np.ndarray], prefix: str) -> list[tuple[str, np.ndarray]]:
    return [(key.split(":", 1)[1], values) for key, values in case.items() if key.startswith(prefix + ":")]


def _put(net: Net, case: dict[str, np.ndarray], prefix: str, what: str) -> None:
    for key, values in _part(case, prefix):
        layer, index = key.rsplit(":", 1)
        getattr(net.params[layer][int(index)], what)[...] = values
