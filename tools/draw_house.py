#!/usr/bin/env python
"""Draw docs/house.svg, the picture in docs/design.md, from the table of floors there and from the imports.

    python tools/draw_house.py                 # writes docs/house.svg
    python tools/draw_house.py picture.png     # or another file, in the format of its ending

Each floor is a band with its packages and modules. A vertical line leads down to each floor; on it, at the height of
the floors above, is the number of imports from there. An import that goes up is red.
A test fails when floors, boxes or lines have changed; the numbers are those of the last time that this ran.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from house.floors import Floor, floors, place  # noqa: E402  (needs the line above)
from house.imports import all_imports, modules  # noqa: E402
from minicaffe.pictures.canvas import Box, Canvas, Spline, Text, text_width  # noqa: E402

PICTURE = ROOT / "docs" / "house.svg"
WIDTH, WALL, ROOF = 740, 8, 56  # of the picture; from its edge to the walls; of the roof
COLUMN, TAG = 28, 12.5  # from one vertical line to the next; half the width of a number on it
INK, GREY, LINE, ACCENT, UP = "#1f2933", "#5b6b7b", "#b8c4d0", "#2f6f9f", "#c0392b"
BANDS, GROUND = ("#ffffff", "#f5f8fb"), "#f1ecdf"


class House:
    """The picture: a canvas, and the height of each floor on it."""

    def __init__(self) -> None:
        self.floors = floors()
        self.rows = [rows_of_boxes(floor, self._free(number)) for number, floor in enumerate(self.floors)]
        heights = [30 + 27 * len(rows) for rows in self.rows]
        self.tops = [ROOF + sum(heights[:i]) for i in range(len(heights) + 1)]
        self.canvas = Canvas(WIDTH, self.tops[-1] + 70)
        self._draw()

    def _draw(self) -> None:
        lines = lines_of_members()
        for number, floor in enumerate(self.floors):
            self._band(number, floor)
            self._boxes(number, lines)
        between = imports_between_floors()
        for target in range(1, len(self.floors)):
            self._shaft(target, {source: count for (source, to), count in between.items() if to == target})
        self._outline()
        self._legend(self.tops[-1] + 22)

    def _outline(self) -> None:
        """Walls and roof."""
        middle, right, bottom = WIDTH / 2, WIDTH - WALL, self.tops[-1]
        walls = [(right, ROOF), (right, bottom), (WALL, bottom), (WALL, ROOF)]
        self.canvas.add(Spline((WALL, ROOF), [(corner,) for corner in walls], INK, arrow=False))
        self.canvas.add(Spline((0, ROOF), [((middle, 6),), ((WIDTH, ROOF),)], INK, arrow=False))
        self.canvas.add(Text(middle, ROOF - 14, "minicaffe", 16, INK, bold=True, anchor="middle"))

    def _band(self, number: int, floor: Floor) -> None:
        top, bottom = self.tops[number : number + 2]
        fill = GROUND if number == len(self.floors) - 1 else BANDS[number % 2]
        self.canvas.add(Box(WALL, top, WIDTH - 2 * WALL, bottom - top, fill))
        self.canvas.add(Text(WALL + 10, top + 18, floor.name, 13, ACCENT, bold=True))
        self.canvas.add(Text(WALL + 20 + text_width(floor.name, 13, True), top + 18, floor.purpose, 11, GREY))

    def _boxes(self, number: int, lines: Counter[str]) -> None:
        y = self.tops[number] + 26
        for row in self.rows[number]:
            x = WALL + 10.0
            for member in row:
                if member == ";":
                    self.canvas.add(Spline((x + 2, y), [((x + 2, y + 22),)], INK, arrow=False))
                    x += 10
                    continue
                width = box_width(member)
                self.canvas.add(Box(x, y, width, 22, "#ffffff", LINE, 4))
                self.canvas.add(Text(x + 8, y + 15, shown(member), 12))
                self.canvas.add(Text(x + 13 + text_width(shown(member), 12), y + 15, rounded(lines[member]), 11, GREY))
                x += width + 6
            y += 27

    def _shaft(self, target: int, counts: dict[int, int]) -> None:
        """The line that leads to floor `target`, with the number of imports from each floor."""
        x, name = self._column(target), self.floors[target].name
        stop = self._middle(target)
        above, below = [s for s in counts if s < target], [s for s in counts if s > target]
        if above:
            self.canvas.add(Spline((x, self._middle(min(above))), [((x, stop - 10),)], ACCENT))
        if below:
            self.canvas.add(Spline((x, self._middle(max(below)) + 19), [((x, stop + 10),)], UP))
        for source, count in sorted(counts.items()):
            y, color = (self._middle(source), ACCENT) if source < target else (self._middle(source) + 19, UP)
            self.canvas.add(Box(x - TAG, y - 9, 2 * TAG, 18, "#ffffff", color, 9))
            self.canvas.add(Text(x, y + 4, rounded(count), 11, color, anchor="middle"))
        width = label_width(name)
        self.canvas.add(Box(x + TAG - width, stop - 9, width, 18, ACCENT, radius=4))
        self.canvas.add(Text(x + TAG - width / 2, stop + 4, name, 11, "#ffffff", bold=True, anchor="middle"))

    def _column(self, target: int) -> float:
        return WIDTH - WALL - 22 - COLUMN * (len(self.floors) - 1 - target)

    def _free(self, number: int) -> float:
        """Where the boxes of a floor must end: before its label, which is left of all lines that cross the floor."""
        label = label_width(self.floors[number].name) if number else 2 * TAG
        return self._column(max(number, 1)) + TAG - label - 8

    def _middle(self, number: int) -> float:
        return (self.tops[number] + self.tops[number + 1]) / 2

    def _legend(self, y: float) -> None:
        for line in (
            "In a box: a module, or a package (with /), and its lines of code.  A bar parts what must not import each",
            "other.  On a line: how many imports lead from the floor at that height to the floor where the line ends;",
            "red, if they lead up.  All numbers are rounded.",
        ):
            self.canvas.add(Text(WALL + 10, y, line, 11, GREY))
            y += 17


def rows_of_boxes(floor: Floor, end: float) -> list[list[str]]:
    """The members of a floor as rows from the left wall to `end`; ";" where a group ends."""
    rows: list[list[str]] = [[]]
    x = start = WALL + 10.0
    for number, group in enumerate(floor.groups):
        for member in ([";"] if number else []) + list(group):
            width = 10 if member == ";" else box_width(member) + 6
            if x + width - 6 > end:
                rows.append([])
                x = start
            rows[-1].append(member)
            x += width
    return rows


def label_width(name: str) -> float:
    return text_width(name, 11, True) + 12


def box_width(member: str) -> float:
    return text_width(shown(member), 12) + (52 if member.endswith("/") else 38)


def shown(member: str) -> str:
    return member.replace("minicaffe/__init__", "__init__")


def rounded(count: int) -> str:
    """A count with one digit below 10, else with two: 7, 140, 2,300."""
    digits = max(len(str(count)) - 2, 0)
    return f"{round(count, -digits):,}"


def lines_of_members() -> Counter[str]:
    """Lines of code of each member of a floor: Python that is not generated, and kernels."""
    lines: Counter[str] = Counter()
    for name, path in modules().items():
        found = place(name)
        if found and path.name != "caffe_pb2.py":
            lines[found[2]] += len(path.read_text(encoding="utf-8").splitlines())
    for path in (ROOT / "cuda").rglob("*.cu*"):
        lines["cuda/"] += len(path.read_text(encoding="utf-8").splitlines())
    return lines


def imports_between_floors() -> Counter[tuple[int, int]]:
    """(floor, floor) -> how many modules of the first import how many of the second, in pairs."""
    pairs = {(one.importer, one.imported) for one in all_imports()}
    between: Counter[tuple[int, int]] = Counter()
    for importer, imported in pairs:
        source, target = place(importer), place(imported)
        if source and target and source[0] != target[0]:
            between[source[0], target[0]] += 1
    return between


def without_counts(svg: str) -> str:
    """The picture's floors, boxes and arrows: its SVG without the numbers that it shows."""
    return re.sub(r">[\d,]+</text>", "></text>", svg)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw docs/house.svg.")
    parser.add_argument("file", nargs="?", type=Path, default=PICTURE, help="where to (docs/house.svg)")
    args = parser.parse_args()
    args.file.write_bytes(House().canvas.encode(args.file.suffix.lstrip(".")))


if __name__ == "__main__":
    main()
