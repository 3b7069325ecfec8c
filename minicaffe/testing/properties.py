"""Tests that hold for every layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from minicaffe import gradient_check
from minicaffe.errors import LayerError
from minicaffe.testing.cases import Case, Run, assert_close
from minicaffe.testing.engines import NUMPY, EngineChoice

#: Layers that may follow a layer in place; together they change signs and sizes.
BEHIND = (
    "name: 'behind' type: 'ReLU' relu_param { negative_slope: 0.2 }",
    "name: 'last' type: 'Scale' scale_param { num_axes: 0 filler { value: -3 } }",
)
BEHIND_TYPES = ("ReLU", "Scale")

Test = TypeVar("Test", bound=Callable)


def applies(condition: Callable[[Case, EngineChoice], bool], also: Sequence[str] = ()) -> Callable[[Test], Test]:
    """Decorator: the test is for those cases and engines for which `condition(case, engine)` holds.

    also: types of layers that the test runs beside that of the case.
    """

    def mark(test: Test) -> Test:
        test.applies, test.also = condition, tuple(also)  # type: ignore[attr-defined]  # of a function
        return test

    return mark


class LayerProperties:
    """Tests that hold for every layer; a subclass lists its `cases`.

    A test gets a case, and the engine that is chosen while it runs.
    """

    cases: Sequence[Case] = ()

    @applies(lambda case, engine: case.has_gradient and engine.float64)
    def test_gradient(self, case: Case, engine: EngineChoice) -> None:
        """Backward is the derivative of forward; a few elements where the engine is compared with numpy as well."""
        most = {} if engine == NUMPY else {"most": 8}
        gradient_check.check_gradient(
            case.text, case.arrays(), num_top=case.num_top, phase=case.phase, check_bottom=case.differentiable,
            check_params=case.params, **most | case.options,
        )  # fmt: skip

    @applies(lambda case, engine: bool(case.shapes))
    def test_forward_leaves_bottoms_alone(self, case: Case, engine: EngineChoice) -> None:
        run = Run(case)
        before = [b.read_data().copy() for b in run.bottom]
        run.forward()
        for blob, values in zip(run.bottom, before):
            np.testing.assert_array_equal(blob.read_data(), values)

    def test_stale_buffers_change_nothing(self, case: Case, engine: EngineChoice) -> None:
        """Another round over buffers full of other numbers gives the same tops and bottom diffs."""
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

    @applies(lambda case, engine: bool(case.layer.blobs))
    def test_parameter_diffs_add_up(self, case: Case, engine: EngineChoice) -> None:
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

    @applies(lambda case, engine: case.layer.in_place)
    def test_in_place_is_the_same(self, case: Case, engine: EngineChoice) -> None:
        apart, without_backward, within = Run(case), Run(case, in_place=True), Run(case, in_place=True)
        without_backward.layer.kept_blobs = None  # as in a net that computes no gradient
        expected = apart.forward()
        for run in (without_backward, within):
            for a, b in zip(expected, run.forward()):
                assert_close(b, a)
        if apart.layer.exact_gradient_in_place:
            for a, b in zip(apart.backward(), within.backward()):
                assert_close(b, a)

    @applies(lambda case, engine: case.has_gradient and set(case.layer.backward_reads) != {"bottom", "top"})
    def test_backward_reads_what_the_layer_states(self, case: Case, engine: EngineChoice) -> None:
        """Data that `backward_reads` does not name may be overwritten before backward."""
        runs = Run(case), Run(case)
        for run in runs:
            run.forward()
        for kind, blobs in (("bottom", run.bottom), ("top", run.top)):
            if kind not in run.layer.backward_reads:
                for blob in blobs:
                    blob.data[...] = np.nan
        for a, b in zip(*(run.backward() for run in runs)):
            assert_close(b, a)

    @applies(lambda case, engine: case.num_top > 0 and bool(case.differentiable or case.params), also=BEHIND_TYPES)
    def test_layers_in_place_behind_change_nothing(self, case: Case, engine: EngineChoice) -> None:
        """Layers behind it give the same numbers and gradients in place as with tops of their own, or are refused."""
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

    @applies(lambda case, engine: len({shape[:1] for shape in case.shapes}) == 1 and () not in case.shapes)
    def test_batch_may_grow_and_shrink(self, case: Case, engine: EngineChoice) -> None:
        """Reshaped to twice the batch and back, a layer gives what it gave before."""
        run = Run(case)
        first = run.forward()
        values = [b.read_data().copy() for b in run.bottom]
        params = [b.read_data().copy() for b in run.layer.blobs]
        for blob, v in zip(run.bottom, values):
            blob.reshape(2 * v.shape[0], *v.shape[1:])
            blob.data[...] = np.concatenate([v, v])
        try:
            run.forward()
        except Exception as error:  # a layer may refuse the larger batch, by name
            assert run.layer.name in str(error)
        for blob, v in zip(run.bottom, values):
            blob.reshape(v.shape)
            blob.data[...] = v
        for blob, v in zip(run.layer.blobs, params):
            blob.data[...] = v
        for a, b in zip(first, run.forward()):
            assert_close(b, a)

    @applies(lambda case, engine: engine != NUMPY)
    def test_engine_gives_the_numbers_of_the_reference(self, case: Case, engine: EngineChoice) -> None:
        """Forward and backward equal those of numpy's code."""
        run = Run(case)
        got = run.forward() + run.backward()
        with NUMPY.chosen():
            plain = Run(case)
            expected = plain.forward() + plain.backward()
        for a, b in zip(got, expected):
            assert_close(a, b)
