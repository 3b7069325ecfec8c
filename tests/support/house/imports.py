"""Every import of one module of the checkout by another, wherever it stands in a file, and cycles among them."""

from __future__ import annotations

import ast
import configparser
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import resolve_name
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ("tools", "benchmarks")  # folders of scripts, which import each other by their stems


@dataclass(frozen=True)
class Import:
    """One import: both modules by name, and the line in `path` where it stands.

    typing: whether it stands under TYPE_CHECKING, so that it is for annotations alone.
    """

    importer: str
    imported: str
    path: str
    line: int
    typing: bool = False

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.importer} imports {self.imported}"


@lru_cache(maxsize=1)
def modules() -> dict[str, Path]:
    """Module name -> file, for the package in all its folders and for the scripts beside it (`tools.train`)."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    folders = dict(line.split(" = ") for line in setup["options"]["package_dir"].split("\n") if line)
    folders.update((folder, folder) for folder in SCRIPTS)
    found = {}
    for package, folder in folders.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


@lru_cache(maxsize=1)
def all_imports() -> tuple[Import, ...]:
    """Every import of a module of the checkout by another, each line once."""
    found = []
    for name, path in modules().items():
        found += imports_in(path.read_text(encoding="utf-8"), name, path)
    return tuple(dict.fromkeys(found))


def imports_in(text: str, name: str, path: Path) -> list[Import]:
    """The imports in `text`, which is the module `name` in the file `path`."""
    finder = _Finder(name if path.stem == "__init__" else name.rpartition(".")[0])
    finder.visit(ast.parse(text, str(path)))
    shown = str(path.relative_to(ROOT))
    return [Import(name, other, shown, line, typing) for other, line, typing in finder.found if other != name]


class _Finder(ast.NodeVisitor):
    """Collects (module, line, typing) of imports from the checkout, also in functions, and by constant names."""

    def __init__(self, package: str) -> None:
        self.found: list[tuple[str, int, bool]] = []
        self._package = package
        self._typing = False

    def visit_If(self, node: ast.If) -> None:
        was, self._typing = self._typing, ast.unparse(node.test).endswith("TYPE_CHECKING")
        self.generic_visit(node)
        self._typing = was

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = resolve_name("." * node.level + (node.module or ""), self._package)
        for alias in node.names:
            self._add(f"{base}.{alias.name}", node)

    def visit_Call(self, node: ast.Call) -> None:
        """import_module("..."), __import__("..."), sys.modules.get("...")."""
        called = ast.unparse(node.func)
        if node.args and called.endswith(("import_module", "__import__", "sys.modules.get")):
            self._add_constant(node.args[0], node)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """sys.modules["..."]."""
        if ast.unparse(node.value).endswith("sys.modules"):
            self._add_constant(node.slice, node)
        self.generic_visit(node)

    def _add_constant(self, name: ast.expr, node: ast.expr) -> None:
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            self._add(resolve_name(name.value, self._package), node)

    def _add(self, name: str, node: ast.stmt | ast.expr) -> None:
        """Note the module of that name; for a name in a module, that module."""
        known = modules()
        folder = self._package.partition(".")[0]
        for candidate in (name, name.rpartition(".")[0]):
            if folder in SCRIPTS and f"{folder}.{candidate}" in known:
                candidate = f"{folder}.{candidate}"
            if candidate in known:
                self.found.append((candidate, node.lineno, self._typing))
                return


def cycles(imports: Iterable[Import]) -> list[frozenset[str]]:
    """The sets of modules that import each other when they run, directly or through others; the largest first."""
    graph: dict[str, set[str]] = {}
    for one in imports:
        if one.typing:
            continue
        graph.setdefault(one.importer, set()).add(one.imported)
    reached = {module: _reachable(graph, module) for module in graph}
    found = {frozenset(other for other in reached[module] if module in reached.get(other, ())) for module in graph}
    return sorted(found - {frozenset()}, key=lambda modules: (-len(modules), sorted(modules)))


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """All modules that `start` imports, directly or through others."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found
