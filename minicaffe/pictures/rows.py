"""Folding of a long layout into rows, as a text is broken into lines.

A layout (`minicaffe.pictures.layout`) of a deep net is much longer along the flow than across it.  It is cut between
ranks, where few edges pass, and the parts are placed side by side across the flow: below each other where the flow is
to the right.  An edge that passes a cut goes back to the start of the next row in a lane between the two rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from minicaffe.pictures.layout import Node

GAP = 26.0  # between rows, and on both sides of the lanes
TURN = 14.0  # from the end of a row to the first lane that turns there
LANE = 10.0  # between two lanes
_CROSSING_COST = 0.1  # of an edge that passes a cut; that of a row is 1, and half of its unused share squared


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
    steps = list(dict.fromkeys((a, b) for path in paths for a, b in pairwise(path) if b.rank == a.rank + 1))
    spans = [(rank[0].y, rank[0].end) for rank in ordered]
    passing = [0] * len(ordered)
    for before, _ in steps:
        passing[before.rank] += 1
    starts = row_starts(spans, passing, limit)
    row_of = {
        node: row for row, (i, j) in enumerate(pairwise([*starts, None])) for rank in ordered[i:j] for node in rank
    }
    return _place(row_of, [(a, b) for a, b in steps if row_of[a] != row_of[b]])


def row_starts(spans: Sequence[tuple[float, float]], passing: Sequence[int], limit: float) -> list[int]:
    """Return the first rank of each row: few rows of similar length, cut where few edges pass.

    spans: start and end of each rank along the flow.  passing: number of edges from each rank to the next.
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


def _place(row_of: dict[Node, int], crossing: Sequence[tuple[Node, Node]]) -> Rows:
    rows = Rows()
    count = max(row_of.values()) + 1
    leaving: list[list[tuple[Node, Node]]] = [[] for _ in range(count)]  # from each row
    for before, after in crossing:
        leaving[row_of[before]].append((before, after))
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


def _assign_lanes(rows: Rows, leaving: Sequence[tuple[Node, Node]], length: float, first: float) -> None:
    """Give each edge between two rows a lane; those that do not change their order do not cross."""
    by_exit = sorted(leaving, key=lambda edge: (edge[0].x, edge[1].x))
    by_entry = sorted(leaving, key=lambda edge: (edge[1].x, edge[0].x))
    inner = {edge: i for i, edge in enumerate(by_entry)}
    for i, edge in enumerate(reversed(by_exit)):
        rows.lanes[edge] = Lane(
            length + TURN + LANE * i, rows.breadth + GAP + LANE * i, first - TURN - LANE * inner[edge]
        )
