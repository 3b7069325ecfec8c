"""core contains no name of a layer type and no name of an engine but numpy's."""

import ast

from house.imports import modules
from minicaffe.core.engine import engines
from minicaffe.core.registry import layer_type_list

#: (module, name) -> the reason
ALLOWED = {
    ("minicaffe.core.passes", "Split"): "the layer that a net inserts by itself",
    ("minicaffe.core.transfers", "BatchNorm"): "NVIDIA's weights files hold Scale's parameters in BatchNorm",
    ("minicaffe.core.stored_weights", "BatchNorm"): "the same",
    ("minicaffe.core.stored_weights", "Scale"): "the same",
    ("minicaffe.core.calls", "Parameter"): "the end of a message's name",
    ("minicaffe.core.engine", "NUMPY"): "the layers' own code on the host, which needs no engine",
}


def constants(path):
    """The string constants in a module's code, without its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in texts)
    return {node.value for node in found if isinstance(node.value, str)}


def test_core_names_no_type_and_no_engine():
    names = {*layer_type_list(), *(engine.name for engine in engines())}
    core = {module: path for module, path in modules().items() if module.startswith("minicaffe.core")}
    found = {(module, name) for module, path in core.items() for name in constants(path) & names}
    assert found - ALLOWED.keys() == set()
