"""The layers of a net whose statistics training updates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from minicaffe.core.blob import Blob
from minicaffe.core.net import Net
from minicaffe.errors import UsageError
from minicaffe.layers.shared.statistics import KeepsStatistics


@dataclass(frozen=True)
class Member:
    """A layer whose statistics are computed."""

    index: int  # in the net
    name: str
    layer: KeepsStatistics
    level: int  # the number of such layers on the longest path from the data to this one


def members_of(net: Net) -> Iterator[Member]:
    """Yield the layers whose statistics are computed, in the order of the net."""
    levels: dict[Blob, int] = {}
    for index, (name, layer) in enumerate(zip(net.layer_names, net.layers)):
        level = max((levels.get(blob, 0) for blob in net.bottoms[index]), default=0)
        if isinstance(layer, KeepsStatistics) and layer.updates_statistics:
            yield Member(index, name, layer, level)
            level += 1
        levels.update((blob, level) for blob in net.tops[index])


def key_of(layer: KeepsStatistics) -> tuple[int, ...]:
    """Identify the memory of a layer's statistics, which layers may share by the names of their parameters."""
    return tuple(id(blob.data_memory) for blob in layer.statistics_blobs)


def groups_of(members: Sequence[Member]) -> dict[tuple[int, ...], list[Member]]:
    """Return the layers by the memory of their statistics; UsageError for layers that share a part of them."""
    groups: dict[tuple[int, ...], list[Member]] = {}
    owner: dict[int, tuple[tuple[int, ...], str]] = {}
    for member in members:
        key = key_of(member.layer)
        for memory in key:
            other, name = owner.setdefault(memory, (key, member.name))
            if other != key:
                raise UsageError(f"layers '{name}' and '{member.name}' share some of their statistics, but not all")
        groups.setdefault(key, []).append(member)
    return groups
