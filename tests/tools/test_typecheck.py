"""mypy finds no error in the package beyond the exceptions in tools/typecheck.py, and they only get fewer."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = ("minicaffe", "layers", "cuda", "solvers", "models")


@pytest.fixture(scope="module")
def typecheck():
    spec = importlib.util.spec_from_file_location("typecheck", ROOT / "tools" / "typecheck.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_package_has_no_errors_beyond_the_exceptions():
    run = subprocess.run([sys.executable, ROOT / "tools" / "typecheck.py"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_module_of_the_package_is_linked(typecheck, tmp_path):
    typecheck.link(tmp_path)
    linked = {path.resolve() for folder in _folders(tmp_path / "minicaffe") for path in folder.glob("*.py")}
    assert linked == set(_modules())


def _modules():
    return [path for name in FOLDERS for path in (ROOT / name).rglob("*.py")]


def _folders(folder):
    """The folder and all below it, through links."""
    yield folder
    for path in folder.iterdir():
        if path.is_dir():
            yield from _folders(path)


def test_a_link_to_a_file_that_was_removed_goes(typecheck, tmp_path):
    typecheck.link(tmp_path)
    stale = tmp_path / "minicaffe" / "removed.py"
    stale.symlink_to(ROOT / "minicaffe" / "removed.py")
    typecheck.link(tmp_path)
    assert not stale.is_symlink()


@pytest.mark.parametrize(
    "module, file",
    [
        ("minicaffe.blob", "minicaffe/blob.py"),
        ("minicaffe.data.layers", "minicaffe/data/layers.py"),
        ("minicaffe.layers.shared.loss", "layers/shared/loss.py"),
        ("minicaffe.solvers", "solvers/__init__.py"),
        ("minicaffe", "minicaffe/__init__.py"),
    ],
)
def test_an_error_names_its_module_and_its_file_in_the_checkout(typecheck, module, file):
    linked = file if file.startswith("minicaffe/") else f"minicaffe/{file}"
    assert typecheck.parse(f".types/{linked}:1: error: x  [misc]") == (module, f"{file}:1: error: x  [misc]")


def test_notes_and_the_summary_are_no_errors(typecheck):
    assert typecheck.parse(".types/minicaffe/io.py:1: note: See the manual") is None
    assert typecheck.parse("Found 2 errors in 1 file (checked 3 source files)") is None


@pytest.mark.parametrize(
    "allowed, complaints",
    [
        ({}, ["a.b: 2 errors, allowed 0", "c: 1 errors, allowed 0"]),
        ({"a.b": 2, "c": 1}, []),
        ({"a": 2, "c": 3}, []),
        ({"a.b": 1, "c": 1}, ["a.b: 2 errors, allowed 1"]),
        ({"a": 1, "c": 1}, ["a: 2 errors, allowed 1"]),
        ({"a.b": 2, "c": 1, "d": 1}, ["d has no errors: remove it from ALLOWED"]),
        ({"a.b": 2, "c": 1, "c.d": 1}, ["c.d has no errors: remove it from ALLOWED"]),
    ],
)
def test_judge(typecheck, allowed, complaints):
    errors = [typecheck.Error(module, "line") for module in ("a.b", "a.b", "c")]
    refused, made = typecheck.judge(errors, allowed)
    assert made == complaints
    assert len(refused) == sum(int(line.split()[1]) for line in complaints if "allowed" in line)


def test_every_ignored_error_has_a_code_and_a_reason():
    for path in _modules():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if "type: ignore" in line:
                assert re.search(r"# type: ignore\[[a-z-]+\]  # \w", line), f"{path}:{number}: {line.strip()}"
