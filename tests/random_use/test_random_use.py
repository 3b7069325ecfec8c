"""Random programs: every engine gives the same numbers as the numpy layers run one by one.

MINICAFFE_RANDOM_USE is how many programs are played on oneDNN, 300 unless set; a fifth of them on COUNTING, on the GPU,
and on the CPU and the GPU in turn.
"""

import logging
import os
from collections import Counter

import numpy as np
import pytest

from helpers.engines import needs_onednn, params
from minicaffe.layers.onednn.elementwise import OneDNNSigmoid
from minicaffe.layers.sigmoid import Sigmoid
from minicaffe.testing import NUMPY, ONEDNN
from random_use.blobs import Read
from random_use.compare import Disagreement, check, play
from random_use.passes import Forward
from random_use.player import played
from random_use.program import Program, draw
from random_use.whole_nets import ReadAll

COUNT = int(os.environ.get("MINICAFFE_RANDOM_USE", 300))
BLOCK = 20  # programs in one test

SIGMOID = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "relu" type: "ReLU" bottom: "x" top: "r" }
layer { name: "sigmoid" type: "Sigmoid" bottom: "x" top: "y" }
"""


@pytest.fixture(autouse=True)
def quiet():
    """Disable logging: programs may set `debug_info`, which logs lines for each layer."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def blocks():
    """Each engine with the seeds of its programs, some at a time."""
    for engine in params(played()):
        (choice,) = engine.values
        count = COUNT if choice == ONEDNN else COUNT // 5
        for first in range(0, count, BLOCK):
            seeds = range(first, min(first + BLOCK, count))
            yield pytest.param(choice, seeds, id=f"{engine.id}-{first}", marks=engine.marks)


@pytest.mark.parametrize(("engine", "seeds"), list(blocks()), indirect=["engine"])
def test_the_numbers_of_numpy(engine, seeds):
    verdicts = Counter(check(draw(seed), (NUMPY, engine)) for seed in seeds)
    assert verdicts["agreed"] >= 0.9 * len(seeds), verdicts


# -- tests of the comparison -------------------------------------------------------------------------------------------


def test_a_seed_is_a_program():
    assert str(draw(7)) == str(draw(7)) != str(draw(8))


@needs_onednn
def test_a_fault_is_found_and_reduced(monkeypatch):
    """The reduced program has only the layer with the fault and the operations that show it."""
    monkeypatch.setattr(OneDNNSigmoid, "forward_onednn", lambda self, bottom, top: setattr(top[0], "data", 0.25))
    program = Program(SIGMOID, [Forward(0, inputs=1), Read(0, "r", "data"), ReadAll(0, 2)])
    with pytest.raises(Disagreement) as found:
        check(program, (NUMPY, ONEDNN))
    message = str(found.value)
    assert 'type: "Sigmoid"' in message and "onednn, y data: expected" in message and "ReadAll(net=0" in message
    assert "ReLU" not in message and "Read(" not in message


@needs_onednn
def test_an_error_of_one_engine_is_a_disagreement(monkeypatch):
    def fail(self, bottom, top):
        raise ValueError("no")

    monkeypatch.setattr(OneDNNSigmoid, "forward_onednn", fail)
    with pytest.raises(Disagreement, match="ValueError"):
        play(Program(SIGMOID, [Forward(0)]), (NUMPY, ONEDNN))


def test_an_error_of_all_engines_is_none():
    program = Program(SIGMOID, [Forward(0, inputs=1)], classes={"x": 0})  # drawing labels from [0, 0) fails
    assert play(program, (NUMPY, NUMPY)) == "refused"


@needs_onednn
def test_rounding_is_no_disagreement(monkeypatch):
    """A sum that cancels: its result is rounding error, so any value is accepted."""
    text = """
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
    layer { name: "s" type: "Sigmoid" bottom: "x" top: "a" }
    layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "a" top: "y" eltwise_param { coeff: 9e5 coeff: -9e5 } }
    """

    def forward(self, bottom, top):
        Sigmoid.forward_cpu(self, bottom, top)
        top[0].data *= np.float32(1 + 3e-7)

    monkeypatch.setattr(OneDNNSigmoid, "forward_onednn", forward)
    assert play(Program(text, [Forward(0, inputs=1), ReadAll(0, 1)]), (NUMPY, ONEDNN)) == "agreed"
