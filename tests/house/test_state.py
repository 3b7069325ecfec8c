"""Nothing mutable belongs to a module, unless imports fill it, a lock guards it, or it is a cache of constants."""

import pytest

from house.state import state_in, state_of_modules

FILLED_BY_IMPORTS = {
    "minicaffe.cli.command._registry": "the actions of the command line",
    "minicaffe.checks.finding._checks": "what `minicaffe check` finds",
    "minicaffe.core.engine._engines": "engines",
    "minicaffe.core.fillers.FILLERS": "fillers",
    "minicaffe.export.onnx.conversion._converters": "the ONNX form of layer types",
    "minicaffe.core.notebook._makers": "what makes the HTML of nets and solvers",
    "minicaffe.core.fusion._classes": "what engines compute as one",
    "minicaffe.core.python_layers._replacements": "classes that run in place of those of modules that are missing",
    "minicaffe.core.places._by_name": "places where memory is, one for each engine that has its own",
    "minicaffe.core.registry._registry": "layer types",
    "minicaffe.solvers.registry._registry": "solver types",
    "minicaffe.solvers.lr_policy.POLICIES": "learning rate policies",
}
GUARDED = {
    "minicaffe.core.registry._packages": "modules to import, under `_loading`",
    "minicaffe.core.python_layers._rule": "an immutable value, replaced as a whole: what Python layers may import",
    "minicaffe.proto.skipping._skips_hints": "an immutable value: whether fields that change no result are left out",
    "minicaffe.forks._held": "locks that a fork takes first; they are made when modules are imported",
    "minicaffe.forks._renewed": "locks that a child finds free; their owners keep them",
}
#: functools' caches, which are safe in threads, of what is the same whenever it is computed
CACHES = {
    "minicaffe.core.fusion._steps()": "patterns, taken apart",
    "minicaffe.cuda.cudnn.reason_unavailable()": "whether cuDNN can be imported",
    "minicaffe.cuda.cublas.reason_unavailable()": "whether nvmath-python can be imported",
    "minicaffe.cuda.split.choose()": "a pure function of numbers",
    "minicaffe.cuda.kernels._warn_once()": "sentences that are printed once",
    "minicaffe.cuda.kernels._chosen()": "the compiler that is installed and fits the driver",
    "minicaffe.data.color._shares()": "a table of constants",
    "minicaffe.data.crc32c._byte_list()": "a table of constants",
    "minicaffe.data.crc32c._byte_table()": "a table of constants",
    "minicaffe.data.crc32c._shift_tables()": "tables of constants",
    "minicaffe.layers.shared.elementwise.define_formulas()": "kernels made from the formulas of a class",
    "minicaffe.onednn.execution.find()": "the 256 primitives found last; those in use are the Runtime's",
    "minicaffe.onednn.tensors.any_layout()": "the 1024 descriptors found last; those in use are the Runtime's",
    "minicaffe.onednn.tensors.in_vectors()": "as any_layout",
    "minicaffe.onednn.tensors.like()": "as any_layout",
    "minicaffe.onednn.tensors.plain()": "as any_layout",
    "minicaffe.onednn.tensors.strided()": "as any_layout",
    "minicaffe.onednn.tensors.submemory()": "as any_layout",
    "minicaffe.pictures.canvas._font()": "fonts by size",
}


def test_state_has_an_owner_or_a_reason():
    found, known = state_of_modules(), {*FILLED_BY_IMPORTS, *GUARDED, *CACHES}
    assert not sorted(found - known), "give this state to an object with an owner: an engine, a net, a layer"
    assert not sorted(known - found), "remove from the tables above"


# -- the scan itself ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\ndef f():\n    global a\n    a = 2", {"a"}),
        ("a = {}\ndef f():\n    a[1] = 2", {"a"}),
        ("a: dict[int, int] = {}\ndef f():\n    del a[1]", {"a"}),
        ("a = []\ndef f():\n    a.append(1)", {"a"}),
        ("a = set()\ndef f(b):\n    global c\n    a.update(b)", {"a", "c"}),
        ("a = weakref.WeakSet()\ndef f(b):\n    a.add(b)", {"a"}),
        ("a = [1]\ndef f():\n    a[0] += 1", {"a"}),
        ("if x:\n    a = {}\ndef f():\n    a.clear()", {"a"}),
        ("class A:\n    a = {}\n    def f(self):\n        self.a.setdefault(1, 2)", {"a"}),
        ("@functools.cache\ndef f():\n    return 1", {"f()"}),
        ("@lru_cache(maxsize=2)\ndef f():\n    return 1", {"f()"}),
        ("a = {1: 2}\ndef f():\n    return a[1]", set()),
        ("a = (1, 2)\ndef f():\n    a = []\n    a.append(1)", set()),
        ("class A:\n    def __init__(self):\n        self.a = {}\n    def f(self):\n        self.a[1] = 2", set()),
    ],
)
def test_which_state_is_found(text, expected):
    assert state_in(text) == expected
