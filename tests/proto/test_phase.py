"""TRAIN and TEST are constants of the schema: the package names them and never compares a phase with a number."""

import ast
from pathlib import Path

import pytest

import minicaffe
from minicaffe import proto
from minicaffe.proto import caffe_pb2

ROOT = Path(minicaffe.__file__).resolve().parent.parent
FOLDERS = ("minicaffe", "layers", "cuda", "solvers", "tools", "benchmarks", "models")


def is_phase(node):
    """`phase`, `self.phase`, `rule.phase`: an expression whose last name is phase."""
    return getattr(node, "id", getattr(node, "attr", None)) == "phase"


def is_number(node):
    return isinstance(node, ast.Constant) and type(node.value) in (int, bool)


def bare_phases(tree):
    """Lines on which a phase is compared, set or defaulted to a number, or is itself a condition."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            numbers = [part for side in sides for part in ast.walk(side) if is_number(part)]
            found = any(map(is_phase, sides)) and numbers
        elif isinstance(node, ast.keyword):
            found = node.arg == "phase" and is_number(node.value)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = any(map(is_phase, targets)) and is_number(node.value)
        elif isinstance(node, ast.arguments):
            given = node.posonlyargs + node.args
            pairs = [
                *zip(given[len(given) - len(node.defaults) :], node.defaults),
                *zip(node.kwonlyargs, node.kw_defaults),
            ]
            found = [arg for arg, default in pairs if arg.arg == "phase" and is_number(default)]
        elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
            found = is_phase(node.test)
        else:
            found = isinstance(node, ast.BoolOp) and any(map(is_phase, node.values))
        if found:
            yield ast.unparse(node)[:80]


def test_one_definition():
    assert minicaffe.TRAIN is proto.TRAIN is caffe_pb2.TRAIN
    assert minicaffe.TEST is proto.TEST is caffe_pb2.TEST
    assert [caffe_pb2.Phase.Name(phase) for phase in (proto.TRAIN, proto.TEST)] == ["TRAIN", "TEST"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_bare_phase_numbers(folder):
    found = {path: list(bare_phases(ast.parse(path.read_text()))) for path in (ROOT / folder).rglob("*.py")}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "text",
    ["self.phase == 0", "rule.phase in (0, 1)", "Net(x, phase=1)", "def f(a, phase: int = 0): pass", "phase = 1",
     "def f(*, phase=0): pass", "1 if self.phase else 2", "while phase: pass", "x = self.phase and y"],
)  # fmt: skip
def test_bare_phase_numbers_are_found(text):
    assert list(bare_phases(ast.parse(text)))
    assert not list(bare_phases(ast.parse(text.replace("phase", "level"))))
