"""The cases of all layer tests, for tests that hold for every layer."""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Iterator

import numpy as np

from minicaffe.testing import Case, LayerProperties

LAYER_TESTS = pathlib.Path(__file__).parents[2] / "layers"


def all_cases() -> Iterator[tuple[str, Case]]:
    """Yield (name, case) for each case of a LayerProperties class in tests/layers, such as ("test_slice-0", ...)."""
    for path in sorted(LAYER_TESTS.rglob("test_*.py")):
        cases = [case for group in _groups(path) for case in group.cases]
        yield from ((f"{path.stem}-{i}", case) for i, case in enumerate(cases))


def _groups(path: pathlib.Path) -> list[type[LayerProperties]]:
    spec = importlib.util.spec_from_file_location(f"cases_of_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    own = (each for each in vars(module).values() if isinstance(each, type))
    return [each for each in own if issubclass(each, LayerProperties) and each.__module__ == module.__name__]


def net_text(case: Case) -> str:
    """The prototxt of a net of a case's layer, whose bottoms are inputs x0, x1, ... and whose tops are y0, y1, ..."""
    inputs = "".join(_input(f"x{i}", shape) for i, shape in enumerate(case.shapes))
    bottoms = "".join(f'bottom: "x{i}" ' for i in range(len(case.shapes)))
    tops = "".join(f'top: "y{i}" ' for i in range(case.num_top))
    return f'{inputs}layer {{ name: "layer" {bottoms}{tops}{case.text} }}'


def feeds(*arrays) -> dict[str, np.ndarray]:
    """Values for the inputs x0, x1, ... of a net."""
    return {f"x{i}": np.asarray(array, np.float32) for i, array in enumerate(arrays)}


def _input(name: str, shape) -> str:
    dims = " ".join(f"dim: {length}" for length in shape)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
