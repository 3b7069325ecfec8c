#!/usr/bin/env python
"""Write the pages of docs/reference: layer types, fields of nets and solvers, commands.

    python tools/write_reference.py            # writes the pages that have changed
    python tools/write_reference.py --check    # exit status 1 if a page is out of date

The pages are made from docstrings, class data, the comments in minicaffe/proto/*.proto and the parsers of the commands;
a test fails when they differ from what this writes.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from reference import commands, forks, layers, nets, solver  # noqa: E402  (needs the line above)

HEAD = "<!-- Made by tools/write_reference.py from the code; change the code, then run it again. -->\n\n"


def pages() -> dict[str, str]:
    """{path below docs/reference: text} of all pages."""
    lines = {
        "layers.md": layers.index(),
        "net.md": nets.page(),
        "solver.md": solver.page(),
        "commands.md": commands.page(),
        "forks.md": forks.page(),
    }
    link = partial(nets.link, page="../net.md")
    lines |= {f"layers/{page}.md": layers.page(family, link) for family, (page, _, _) in layers.FAMILIES.items()}
    return {path: HEAD + "\n".join(each).strip() + "\n" for path, each in lines.items()}


def main() -> int:
    """Write, or compare, all pages; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the pages of docs/reference.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    args = parser.parse_args()
    there = {path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.md")}
    made = pages()
    stale = [path for path in sorted(made.keys() | there.keys()) if made.get(path) != there.get(path)]
    for path in stale:
        if args.check:
            print(f"docs/reference/{path} is not what tools/write_reference.py writes")
        elif path in made:
            (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
            (FOLDER / path).write_text(made[path], encoding="utf-8", newline="\n")
            print(f"wrote docs/reference/{path}")
        else:
            (FOLDER / path).unlink()
            print(f"removed docs/reference/{path}")
    return 1 if stale and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
