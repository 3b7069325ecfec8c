"""Layered layout of a directed graph: nodes in ranks along the flow, with few crossings and straight edges.

The method is that of Sugiyama, Tagawa and Toda (Methods for Visual Understanding of Hierarchical System Structures,
1981).  The rank of a node is its longest path from a source; an edge over several ranks gets a dummy node in each rank
between; the order within ranks is found by barycentre sweeps.  Positions are found by sweeps that move each rank
towards its neighbours: a least-squares problem with minimum distances, solved exactly by pooling adjacent violators.

Coordinates are flow coordinates, `along` the flow and `across` it, so the layout does not depend on the direction in
which the flow is drawn.  Edges go straight along the flow within a rank and bend only in the gaps between ranks, so
that none crosses a box, or a label that is within the size of its node.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

GAP_ACROSS = 26.0  # between two boxes of a rank
GAP_DUMMY = 14.0  # between two edges that cross a rank side by side
GAP_ALONG = 30.0  # between ranks, where edges bend; more where one goes far across the flow
MOST_GAP_ALONG = 60.0
SWEEPS = 24
MOST_DUMMIES = 20_000


@dataclass(eq=False)
class Node:
    """A box of a given size, or a dummy of width 0 where an edge crosses a rank."""

    across: float = 0.0  # size
    along: float = 0.0
    x: float = 0.0  # centre, across the flow
    y: float = 0.0  # start, along the flow
    end: float = 0.0  # where its rank ends, along the flow
    rank: int = 0
    dummy: bool = False
    outputs: int = 1  # number of blobs that leave it
    up: list[Node] = field(default_factory=list)  # neighbours one rank before
    down: list[Node] = field(default_factory=list)


def layout(nodes: Sequence[Node], edges: Sequence[tuple[int, int]]) -> list[list[Node]]:
    """Set rank, x, y and end of `nodes`; return the dummies of each edge, in order.

    edges: (index of the source, index of the target); in `nodes`, sources precede targets.
    """
    _rank(nodes, edges)
    chains, ranks = _insert_dummies(nodes, edges)
    _order(ranks)
    _place_across(ranks)
    _place_along(ranks)
    return chains


def _rank(nodes: Sequence[Node], edges: Sequence[tuple[int, int]]) -> None:
    """Set the ranks: longest path from a source; a source itself is placed directly before its first reader."""
    targets: dict[int, list[int]] = {}
    has_source = set()
    for source, target in sorted(edges):
        nodes[target].rank = max(nodes[target].rank, nodes[source].rank + 1)
        targets.setdefault(source, []).append(target)
        has_source.add(target)
    for i, node in enumerate(nodes):
        if i not in has_source and i in targets:
            node.rank = min(nodes[t].rank for t in targets[i]) - 1


def _insert_dummies(
    nodes: Sequence[Node], edges: Sequence[tuple[int, int]]
) -> tuple[list[list[Node]], list[list[Node]]]:
    """Insert dummies where edges cross ranks; return the dummies of each edge, and the nodes of each rank.

    Where the edges together cross more than MOST_DUMMIES ranks, the longest have no dummies and do not count in the
    layout: they are drawn across what lies between.
    """
    ranks: list[list[Node]] = [[] for _ in range(max((n.rank for n in nodes), default=-1) + 1)]
    for node in nodes:
        ranks[node.rank].append(node)
    chains: list[list[Node]] = []
    longest = _longest_with_dummies([nodes[target].rank - nodes[source].rank for source, target in edges])
    for source, target in edges:
        between = range(nodes[source].rank + 1, nodes[target].rank)
        if len(between) + 1 > longest:
            chains.append([])
            continue
        chain = [Node(rank=r, dummy=True) for r in between]
        path = [nodes[source], *chain, nodes[target]]
        for before, after in pairwise(path):
            before.down.append(after)
            after.up.append(before)
        for dummy in chain:
            ranks[dummy.rank].append(dummy)
        chains.append(chain)
    return chains, ranks


def _longest_with_dummies(lengths: Sequence[int]) -> int:
    """Return the greatest length, in ranks, of edges that get dummies: the shorter ones have MOST_DUMMIES in all."""
    total = 0
    for length in sorted(lengths):
        total += length - 1
        if total > MOST_DUMMIES:
            return length - 1
    return max(lengths, default=0)


def _order(ranks: list[list[Node]]) -> None:
    """Sort each rank by the mean position of its neighbours, in alternating sweeps; keep the best order found."""
    best, fewest = [list(rank) for rank in ranks], _crossings(ranks)
    for sweep in range(SWEEPS):
        if fewest == 0:
            break
        downward = sweep % 2 == 0
        for r in range(1, len(ranks)) if downward else range(len(ranks) - 2, -1, -1):
            place = {node: i for i, node in enumerate(ranks[r - 1 if downward else r + 1])}
            here = {node: i for i, node in enumerate(ranks[r])}

            def barycentre(node: Node, place=place, here=here, downward=downward) -> float:
                near = node.up if downward else node.down
                return sum(place[n] for n in near) / len(near) if near else here[node]

            ranks[r].sort(key=barycentre)
        count = _crossings(ranks)
        if count < fewest:
            best, fewest = [list(rank) for rank in ranks], count
    ranks[:] = best


def _crossings(ranks: list[list[Node]]) -> int:
    total = 0
    for upper, lower in pairwise(ranks):
        place = {node: i for i, node in enumerate(lower)}
        ends = [sorted(place[n] for n in node.down if n in place) for node in upper]
        passed: list[int] = []  # in order
        for of_node in ends:
            total += sum(len(passed) - bisect_right(passed, end) for end in of_node)
            for end in of_node:
                insort(passed, end)
    return total


def _place_across(ranks: list[list[Node]]) -> None:
    for rank in ranks:
        x = 0.0
        for i, node in enumerate(rank):
            x += _distance(rank[i - 1], node) if i else 0.0
            node.x = x
    if not ranks:
        return
    for sweep in range(SWEEPS):
        ordered = ranks if sweep % 2 == 0 else ranks[::-1]
        for rank in ordered:
            _pull(rank, up=sweep % 2 == 0, both=sweep >= SWEEPS // 2)
    for _ in range(2):
        _straighten(ranks)
    left = min(node.x - node.across / 2 for rank in ranks for node in rank)
    for rank in ranks:
        for node in rank:
            node.x -= left


def _pull(rank: list[Node], up: bool, both: bool) -> None:
    """Move the nodes of a rank towards their neighbours: least squares with minimum distances."""
    wanted, weights = [], []
    for node in rank:
        near = [*node.up, *node.down] if both else node.up if up else node.down
        pulls = [(_stiffness(node, n), n.x) for n in near] or [(0.1, node.x)]
        weight = sum(w for w, _ in pulls)
        wanted.append(sum(w * x for w, x in pulls) / weight)
        weights.append(weight)
    offsets = [0.0]
    for before, after in pairwise(rank):
        offsets.append(offsets[-1] + _distance(before, after))
    placed = _pool_adjacent_violators([w - o for w, o in zip(wanted, offsets)], weights)
    for node, x, offset in zip(rank, placed, offsets):
        node.x = x + offset


def _straighten(ranks: list[list[Node]]) -> None:
    """Align every chain without branches on one line, if the distances to adjacent nodes permit it."""

    def measure(node: Node) -> tuple[float, float]:
        rank = ranks[node.rank]
        i = rank.index(node)
        low = rank[i - 1].x + _distance(rank[i - 1], node) if i else float("-inf")
        high = rank[i + 1].x - _distance(node, rank[i + 1]) if i + 1 < len(rank) else float("inf")
        return low, high

    seen: set[Node] = set()
    for rank in ranks:
        for node in rank:
            chain = _chain_from(node) if node not in seen else []
            seen.update(chain)
            if len(chain) > 1:
                lows, highs = zip(*map(measure, chain))
                low, high = max(lows), min(highs)
                if low <= high:
                    middle = sum(n.x for n in chain) / len(chain)
                    for n in chain:
                        n.x = min(max(middle, low), high)


def _chain_from(node: Node) -> list[Node]:
    """Return the longest chain from `node` downwards in which each edge is the only one at both ends."""
    chain = [node]
    while len(chain[-1].down) == 1 and len(chain[-1].down[0].up) == 1:
        chain.append(chain[-1].down[0])
    return chain


def _stiffness(node: Node, neighbour: Node) -> float:
    """Return the weight of an edge's straightness: 32 between dummies, 4 in a chain without branches, otherwise 1."""
    if node.dummy and neighbour.dummy:
        return 32.0
    upper, lower = (node, neighbour) if node.rank < neighbour.rank else (neighbour, node)
    return 4.0 if len(upper.down) == 1 and len(lower.up) == 1 else 1.0


def _pool_adjacent_violators(values: list[float], weights: list[float]) -> list[float]:
    """Return the non-decreasing sequence closest to `values` in weighted least squares."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values, weights):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (m1, w1, n1), (m2, w2, n2) = blocks[-2:]
            blocks[-2:] = [((m1 * w1 + m2 * w2) / (w1 + w2), w1 + w2, n1 + n2)]
    return [mean for mean, _, length in blocks for _ in range(length)]


def _distance(before: Node, after: Node) -> float:
    gap = GAP_DUMMY if before.dummy and after.dummy else GAP_ACROSS
    return (before.across + after.across) / 2 + gap


def _place_along(ranks: list[list[Node]]) -> None:
    y = 0.0
    for rank in ranks:
        height = max(node.along for node in rank)
        for node in rank:
            node.y, node.end = y, y + height
            node.along = height if node.dummy else node.along
        y += height + _gap_after(rank)


def _gap_after(rank: list[Node]) -> float:
    """Return the length of the gap behind a rank: edges that go far across the flow get room to bend."""
    farthest = max((abs(below.x - node.x) for node in rank for below in node.down), default=0.0)
    return min(max(GAP_ALONG, 0.12 * farthest), MOST_GAP_ALONG)
