"""LSTM and RNN as ONNX, beside numpy: beyond the cases of test_layers.py."""

import numpy as np
import pytest

from helpers.layer_cases import feeds, net_text
from minicaffe.testing import NUMPY, Case, continuation, normal

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime")
pytest.importorskip("onnxruntime", reason="needs the packages onnx and onnxruntime")
from helpers.onnx_runs import difference_of, export, longer, run_reference  # noqa: E402

TOLERANCE = 2e-6  #: relative to the largest value: sums have another order

KINDS = pytest.mark.parametrize("kind", ["LSTM", "RNN"])
STATES = {"LSTM": 2, "RNN": 1}


@pytest.fixture(autouse=True)
def on_numpy():
    with NUMPY.chosen():
        yield


def layer(kind, more=""):
    return f"type: '{kind}' recurrent_param {{ num_output: 4 {more} }}"


def check(case):
    exported, inputs = export(net_text(case)), feeds(*case.arrays())
    assert difference_of(exported, inputs) < TOLERANCE
    assert difference_of(exported, longer(exported, inputs)) < TOLERANCE
    assert difference_of(exported, inputs, run_reference) < TOLERANCE


def beginnings(how):
    """Values of cont (T, N): at the first step as well as later."""
    return {
        "never": lambda rng, shape: np.ones(shape),
        "always": lambda rng, shape: np.zeros(shape),
        "at times": lambda rng, shape: (rng.random(shape) < 0.6).astype(float),
        "by and by": lambda rng, shape: rng.random(shape),
    }[how]


@KINDS
@pytest.mark.parametrize("how", ["never", "always", "at times", "by and by"])
@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize("static", [False, True])
def test_every_cont(kind, how, exposed, static):
    states = STATES[kind] * exposed
    shapes = [(5, 3, 6), (5, 3), *[(3, 2)] * static, *[(1, 3, 4)] * states]
    text = layer(kind, "expose_hidden: true" * exposed)
    check(Case(text, shapes, [normal, beginnings(how), *[normal] * (static + states)], num_top=1 + states))


@KINDS
@pytest.mark.parametrize("shape", [(5, 3), (1, 3, 6), (5, 1, 2, 3)])
def test_shapes(kind, shape):
    check(Case(layer(kind), [shape, shape[:2]], [normal, continuation]))


@KINDS
def test_the_number_of_steps_and_that_of_sequences_are_free(kind):
    exported = export(net_text(Case(layer(kind), [(5, 3, 6), (5, 3), (3, 2)], normal)))
    steps, sequences = {("x0", 0), ("x1", 0)}, {("x0", 1), ("x1", 1), ("x2", 0)}
    assert exported.free == {**dict.fromkeys(steps, "T"), **dict.fromkeys(sequences, "N")}


@KINDS
def test_a_pass_does_not_depend_on_the_one_before(kind):
    """As long as cont is 0 at the first step."""
    case = Case(layer(kind), [(5, 3, 6), (5, 3)], [normal, continuation])
    exported, inputs = export(net_text(case)), feeds(*case.arrays())
    exported.net.forward(x0=inputs["x0"] + 1, x1=inputs["x1"])
    assert difference_of(exported, inputs) < TOLERANCE


def test_two_layers():
    text = (
        net_text(Case(layer("LSTM"), [(5, 3, 6), (5, 3)], [normal, continuation]))
        + """
        layer { name: "second" type: "RNN" bottom: "y0" bottom: "x1" top: "z" recurrent_param { num_output: 3 } }
        layer { name: "scores" type: "InnerProduct" bottom: "z" top: "s" inner_product_param { num_output: 2 axis: 2 } }
    """
    )
    rng = np.random.default_rng(0)
    inputs = feeds(rng.standard_normal((5, 3, 6)), continuation(rng, (5, 3)))
    assert difference_of(export(text), inputs) < TOLERANCE
