"""The engines that tests run on.

A further engine is one more entry in `ENGINES`, as COUNTING is, the example in tests/engines.

`name` appears in the ids of tests, `engine` is what `set_engine` takes, `gpu=True` chooses the GPU mode,
`float64=False` leaves out tests in float64, and `missing` is a function that returns why the engine cannot be used on
this machine.  Which types an engine has variants of is read from the registry (`EngineChoice.computes`): the module
that registers them is imported here.  Random programs (random_use) are played on all entries as well.

A test that takes the fixture `engine` runs once on each engine that computes something of its own in it.  Which layer
types a test computes is read from

- its `case`, if it has one (`minicaffe.testing.Case`),
- its marks `layers("ReLU", ...)`, of the test, of one of its parameters or of the module,
- without both, its file: tests/layers/test_relu.py computes the types of layers/relu.py.

Other tests, those of whole nets, run on all engines.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Sequence

import pytest

import counting
from minicaffe import onednn
from minicaffe.core.registry import layer_class, layer_type_list
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.testing import CUDA, NUMPY, ONEDNN, Case, EngineChoice

#: the layers inside a layer that chooses their engines
PARTS = {"SPP": ("Split", "Pooling", "Concat")}

COUNTING = EngineChoice("counting", engine=counting.COUNTING.name)
ENGINES: tuple[EngineChoice, ...] = (NUMPY, ONEDNN, COUNTING, CUDA)

_LAYER_TESTS = pathlib.Path(__file__).parents[2] / "layers"

#: mark of tests that need oneDNN, whatever engine is chosen
needs_onednn = pytest.mark.skipif(bool(ONEDNN.missing()), reason=ONEDNN.missing())

#: mark of tests that compute in bf16
needs_bf16 = pytest.mark.skipif(
    bool(ONEDNN.missing()) or not onednn.has_bf16(), reason="oneDNN or a processor with AVX512_BF16 or AMX is missing"
)


def on(*engines: EngineChoice) -> pytest.MarkDecorator:
    """Decorator: run the test on these engines; it takes the fixture `engine`."""
    return pytest.mark.parametrize("engine", params(engines), indirect=True)


def params(engines: Sequence[EngineChoice]) -> list:
    """The engines as parameters of tests or fixtures."""
    return [pytest.param(each, id=each.name, marks=[pytest.mark.gpu] if each.gpu else []) for each in engines]


def of_layer(text: str, *more):
    """Parameters of a test (text, *more), of which `text` is the inside of the `layer { }` message that it computes."""
    return pytest.param(text, *more, marks=pytest.mark.layers(parse_text(text, caffe_pb2.LayerParameter()).type))


def can_fail(item) -> bool:
    """Whether a collected test applies to its case, and its engine computes something of its own in it."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    case, engine = params.get("case"), params.get("engine")
    if isinstance(case, Case) and hasattr(item.function, "applies") and not item.function.applies(case, engine):
        return False
    types = _types(item, case)
    return not isinstance(engine, EngineChoice) or not types or any(engine.computes(kind) for kind in types)


def _types(item, case: Case | None) -> set[str]:
    """The types of the layers that a test computes; none for whole nets."""
    types = {kind for mark in item.iter_markers("layers") for kind in mark.args}
    if isinstance(case, Case):
        types |= {case.layer.type, *getattr(item.function, "also", ())}
    elif not types and _LAYER_TESTS in item.path.parents:
        types = _types_by_module().get(item.path.stem.removeprefix("test_"), types)
    return types | {part for kind in types for part in PARTS.get(kind, ())}


@functools.cache
def _types_by_module() -> dict[str, set[str]]:
    """The types that each file of layers/ registers, by its stem."""
    found: dict[str, set[str]] = {}
    for kind in layer_type_list():
        found.setdefault(layer_class(kind).__module__.rpartition(".")[2], set()).add(kind)
    return found
