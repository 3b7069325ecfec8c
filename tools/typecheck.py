#!/usr/bin/env python
"""Check the types of the whole package with mypy, by the settings in setup.cfg.

python tools/typecheck.py            # fails, and prints the errors, if a module has more than ALLOWED
python tools/typecheck.py --all      # prints the allowed errors, too

layers/, cuda/, solvers/ and models/ belong to the package but are not in its folder, so tools that map folders to
modules do not find `minicaffe.layers` in a checkout. This script links them together in .types/minicaffe: mypy checks
the package there (setup.cfg), and pyright and editors find its modules there (pyproject.toml).
"""

from __future__ import annotations

import argparse
import configparser
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / ".types"

# Errors that a module, or all modules of a package together, may have. The list only gets shorter: an entry without
# errors must be removed.
ALLOWED: Mapping[str, int] = {}


class Error(NamedTuple):
    """A type error: the module's name, and mypy's line with the path of the file in the checkout."""

    module: str
    line: str


def main() -> None:
    parser = argparse.ArgumentParser(description="Check the types of the whole package.")
    parser.add_argument("--all", action="store_true", help="print the allowed errors, too")
    args = parser.parse_args()
    link()
    errors = mypy()
    refused, complaints = judge(errors, ALLOWED)
    for error in errors if args.all else refused:
        print(error.line)
    print("\n".join(complaints) or f"Types: {len(errors)} errors, all of them allowed.")
    raise SystemExit(1 if complaints else 0)


def parts() -> dict[str, str]:
    """The folders that setup.cfg maps into the package, by the name that they have there."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    mapped = dict(line.split(" = ") for line in setup["options"]["package_dir"].strip().splitlines())
    return {module.removeprefix("minicaffe."): folder for module, folder in mapped.items() if module != "minicaffe"}


def link(tree: Path = TREE) -> None:
    """Make the package in `tree`: links to what is in minicaffe/, and to `parts`."""
    targets = {path.name: path for path in (ROOT / "minicaffe").iterdir() if path.name != "__pycache__"}
    targets |= {name: ROOT / folder for name, folder in parts().items()}
    package = tree / "minicaffe"
    package.mkdir(parents=True, exist_ok=True)
    for path in package.iterdir():
        if path.name not in targets:
            path.unlink()
    for name, target in targets.items():
        if not (package / name).is_symlink():
            (package / name).symlink_to(os.path.relpath(target, package))


def mypy() -> list[Error]:
    """Run mypy on the linked package."""
    run = subprocess.run([sys.executable, "-m", "mypy", "--no-color-output"], cwd=ROOT, capture_output=True, text=True)
    if run.returncode not in (0, 1):  # 1: it found errors
        raise SystemExit(f"mypy failed:\n{run.stdout}{run.stderr}")
    return [error for error in map(parse, run.stdout.splitlines()) if error]


def parse(line: str) -> Error | None:
    """Parse a line of mypy's output that reports an error; None for any other line."""
    match = re.fullmatch(r"\.types/(minicaffe/(\w+).*)(\.pyi?:\d+: error: .*)", line)
    if not match:
        return None
    stem, name, rest = match.groups()
    file = stem.replace(f"minicaffe/{name}", parts().get(name, f"minicaffe/{name}"), 1)
    return Error(stem.replace("/", ".").removesuffix(".__init__"), f"{file}{rest}")


def judge(errors: list[Error], allowed: Mapping[str, int]) -> tuple[list[Error], list[str]]:
    """Compare errors with a list of exceptions: the errors beyond it, and a line on each module or entry that fails."""
    found: dict[str, list[Error]] = {}
    for error in errors:
        names = (name for name in allowed if f"{error.module}.".startswith(f"{name}."))
        found.setdefault(next(names, error.module), []).append(error)
    beyond = {name: among for name, among in found.items() if len(among) > allowed.get(name, 0)}
    complaints = [f"{name}: {len(among)} errors, allowed {allowed.get(name, 0)}" for name, among in beyond.items()]
    complaints += [f"{name} has no errors: remove it from ALLOWED" for name in allowed if name not in found]
    return [error for among in beyond.values() for error in among], complaints


if __name__ == "__main__":
    main()
