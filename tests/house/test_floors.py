"""Imports go down only: every import in the checkout against the table of floors in docs/design.md."""

import pytest

from house.floors import floors, goes_down, module_name, place
from house.imports import ROOT, Import, all_imports, cycles, imports_in, modules


def goes(importer, imported):
    return goes_down(Import(f"minicaffe.{importer}".rstrip("."), f"minicaffe.{imported}".rstrip("."), "", 0))


def test_every_module_has_a_floor():
    homeless = [module for module in modules() if place(module) is None]
    assert not homeless, "add these to the table of floors in docs/design.md"


def test_the_table_names_what_is_there():
    packages = {module.rpartition(".")[0] for module in modules()}
    missing = [
        member
        for floor in floors()
        for member in floor.members
        if module_name(member) not in modules() and module_name(member) not in packages
    ]
    assert not missing, "docs/design.md lists modules that do not exist"


def test_imports_go_down():
    upward = [str(one) for one in all_imports() if not goes_down(one)]
    assert not upward, "a module imports from its own floor and from lower ones only, see docs/design.md"


def test_no_cycles():
    assert not [sorted(modules) for modules in cycles(all_imports())], "modules import each other"


# -- the scan itself ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("importer", "imported", "expected"),
    [
        ("cli.train", "solvers.base", True),
        ("cli.train", "", True),
        ("core.net", "", False),
        ("core.net", "solvers.base", False),
        ("core.net", "core.blob", True),
        ("layers.relu", "layers.shared.rows", True),
        ("layers.shared.rows", "layers.relu", False),
        ("layers.extensions.bn", "layers.batch_norm", True),
        ("layers.onednn.relu", "layers.relu", True),
        ("layers.relu", "layers.onednn.relu", False),
        ("cuda.ops", "onednn.library", False),
        ("onednn.library", "cuda.ops", False),
        ("cuda.ops", "cuda.memory", True),
        ("proto.reading", "data.db", False),
        ("module_without_a_floor", "errors", False),
    ],
)
def test_which_imports_go_down(importer, imported, expected):
    assert goes(importer, imported) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import minicaffe", "minicaffe"),
        ("import minicaffe.core.net as n", "minicaffe.core.net"),
        ("from minicaffe import io", "minicaffe.io"),
        ("from minicaffe import __version__", "minicaffe"),
        ("from minicaffe.core.net import Net", "minicaffe.core.net"),
        ("from .net import Net", "minicaffe.core.net"),
        ("from ..cuda import ops", "minicaffe.cuda.ops"),
        ("def f():\n    from minicaffe.cuda import ops", "minicaffe.cuda.ops"),
        ("if TYPE_CHECKING:\n    from minicaffe.cuda import ops", "minicaffe.cuda.ops"),
        ("try:\n    import minicaffe.cuda\nexcept ImportError:\n    pass", "minicaffe.cuda"),
        ("importlib.import_module('minicaffe.cuda')", "minicaffe.cuda"),
        ("import_module('..cuda.ops', __package__)", "minicaffe.cuda.ops"),
        ("sys.modules['minicaffe.cuda']", "minicaffe.cuda"),
        ("sys.modules.get('minicaffe.cuda')", "minicaffe.cuda"),
        ("import numpy", None),
        ("from nets import build", None),
    ],
)
def test_which_imports_are_found(text, expected):
    found = imports_in(text, "minicaffe.core.blob", ROOT / "minicaffe" / "core" / "blob.py")
    assert [one.imported for one in found] == ([expected] if expected else [])


def test_scripts_import_each_other_by_their_stems():
    found = imports_in("import nets", "benchmarks.cpu", ROOT / "benchmarks" / "cpu.py")
    assert [one.imported for one in found] == ["benchmarks.nets"]


def test_cycles_are_found():
    pairs = ["ab", "bc", "ca", "cd", "de", "ed", "ef"]
    assert cycles(Import(*pair, "", 0) for pair in pairs) == [frozenset("abc"), frozenset("de")]
