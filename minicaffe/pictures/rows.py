"""Folding of a long layout into rows, as a text is broken into lines.

A layout (`minicaffe.pictures.layout`) of a deep net is much longer along the flow than across it.  It is cut between
ranks, where few edges pass, and the parts are placed side by side across the flow: below each other where the flow is
to the right.  An edge that passes a cut goes back to the start of the next row in a lane between the two rows; edges
of one blob share a lane.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from minicaffe.pictures.layout import Node

GAP = 26.0  # between rows, and on both sides of the lanes
TURN = 14.0  # from the end of a row to the first lane that turns there
LANE = 10.0  # between two lanes
_CROSSING_COST = 0.1  # of a blob whose edges pass a cut; that of a row is 1, and half of its unused share squared


Bundle = list[tuple[Node, Node]]  # steps from one rank to the next that share a lane


@dataclass(frozen=True)
class Lane:
    """The way of an edge from the end of a row to the start of the next: along to `out`, across to `between`, along
    back to `into`, all in flow coordinates."""

    out: float
    between: float
    into: float


@dataclass
class Rows:
    """A layout in rows: its size, and the lane of each edge between two consecutive nodes in different rows."""

    length: float = 0.0
    breadth: float = 0.0
    lanes: dict[tuple[Node, Node], Lane] = field(default_factory=dict)


def fold(paths: Iterable[Sequence[Node]], nodes: Iterable[Node], limit: float) -> Rows:
    """Move all nodes of a layout into rows of at most `limit` along the flow; return the size and the lanes.

    paths: the nodes of each edge, with its dummies.  nodes: all nodes without dummies.
    A layout that is shorter than `limit` is one row, and a single rank is never cut.
    """
    paths = [list(path) for path in paths]
    ranks: dict[int, list[Node]] = {}
    for node in dict.fromkeys([*nodes, *(node for path in paths for node in path)]):
        ranks.setdefault(node.rank, []).append(node)
    if not ranks:
        return Rows()
    ordered = [ranks[rank] for rank in sorted(ranks)]
    bundles = _bundles(paths)
    spans = [(rank[0].y, rank[0].end) for rank in ordered]
    passing = [0] * len(ordered)
    for bundle in bundles:
        passing[bundle[0][0].rank] += 1
    starts = row_starts(spans, passing, limit)
    row_of = {
        node: row for row, (i, j) in enumerate(pairwise([*starts, None])) for rank in ordered[i:j] for node in rank
    }
    return _place(row_of, [bundle for bundle in bundles if row_of[bundle[0][0]] != row_of[bundle[0][1]]])


def _bundles(paths: Iterable[Sequence[Node]]) -> list[Bundle]:
    """Return the steps of all edges from a rank to the next, those of one blob together."""
    bundles: dict[object, dict[tuple[Node, Node], None]] = {}
    for path in paths:
        for before, after in pairwise(path):
            if after.rank == before.rank + 1:
                key = before if before.outputs == 1 else (before, after)
                bundles.setdefault(key, {})[before, after] = None
    return [list(bundle) for bundle in bundles.values()]


def row_starts(spans: Sequence[tuple[float, float]], passing: Sequence[int], limit: float) -> list[int]:
    """Return the first rank of each row: few rows of similar length, cut where few edges pass.

    spans: start and end of each rank along the flow.
    passing: number of blobs whose edges go from each rank to the next.
    """
    best: list[tuple[float, int]] = [(0.0, 0)]  # cost of the ranks before, and the start of the last row of them
    for end in range(1, len(spans) + 1):
        costs = []
        for start in range(end - 1, -1, -1):
            length = spans[end - 1][1] - spans[start][0]
            if length > limit and start < end - 1:
                break
            cut = _CROSSING_COST * passing[start - 1] if start else 0.0
            costs.append((best[start][0] + 1 + 0.5 * (1 - length / limit) ** 2 + cut, start))
        best.append(min(costs))
    starts, end = [], len(spans)
    while end:
        end = best[end][1]
        starts.append(end)
    return starts[::-1]


def _place(row_of: dict[Node, int], crossing: Sequence[Bundle]) -> Rows:
    rows = Rows()
    count = max(row_of.values()) + 1
    leaving: list[list[Bundle]] = [[] for _ in range(count)]  # from each row
    for bundle in crossing:
        leaving[row_of[bundle[0][0]]].append(bundle)
    first = TURN + LANE * max(map(len, leaving)) if crossing else 0.0  # where all rows start
    for row in range(count):
        members = [node for node, of in row_of.items() if of == row]
        left, start = min(node.x - node.across / 2 for node in members), min(node.y for node in members)
        for node in members:
            node.x += rows.breadth - left
            node.y, node.end = node.y - start + first, node.end - start + first
        length = max(node.end for node in members)
        rows.breadth = max(node.x + node.across / 2 for node in members)
        rows.length = max(rows.length, length + (TURN + LANE * len(leaving[row]) if leaving[row] else 0.0))
        if row < count - 1:
            _assign_lanes(rows, leaving[row], length, first)
            rows.breadth += 2 * GAP + LANE * max(len(leaving[row]) - 1, 0)
    return rows


def _assign_lanes(rows: Rows, leaving: Sequence[Bundle], length: float, first: float) -> None:
    """Give the edges of each blob between two rows a lane; lanes that do not change their order do not cross."""
    exits = [(bundle[0][0].x, _target(bundle)) for bundle in leaving]
    by_exit = sorted(range(len(leaving)), key=lambda i: exits[i])
    by_entry = sorted(range(len(leaving)), key=lambda i: exits[i][::-1])
    inner = {of: i for i, of in enumerate(by_entry)}
    for i, of in enumerate(reversed(by_exit)):
        lane = Lane(length + TURN + LANE * i, rows.breadth + GAP + LANE * i, first - TURN - LANE * inner[of])
        rows.lanes.update((step, lane) for step in leaving[of])


def _target(bundle: Bundle) -> float:
    """Return where a bundle goes, across the flow."""
    return sum(after.x for _, after in bundle) / len(bundle)
