"""Which layer reads which values, in a NetParameter.

A blob name may stand for several values: a layer that works in place gives its bottom's name to what it computes.  A
`Value` is what one layer writes to one of its tops.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Value(NamedTuple):
    """What a layer writes to a top: the index of the layer in the NetParameter, and that of the top."""

    layer: int
    top: int


class Reader(NamedTuple):
    """A layer that reads a value, and the index of the bottom."""

    layer: int
    bottom: int


class Flow:
    """The values of a NetParameter of one phase, as `filter_net` returns it, before Splits are inserted.

    param: an upgraded NetParameter.
    sources: for each layer, the Value behind each bottom; None for a bottom that no layer before it writes.
    """

    def __init__(self, param) -> None:
        self.param = param
        self.sources: list[list[Value | None]] = []
        self._readers: dict[Value, list[Reader]] = {}
        current: dict[str, Value] = {}
        for i, layer in enumerate(param.layer):
            self.sources.append([current.get(name) for name in layer.bottom])
            for j, source in enumerate(self.sources[-1]):
                if source is not None:
                    self._readers[source].append(Reader(i, j))
            for j, name in enumerate(layer.top):
                current[name] = value = Value(i, j)
                self._readers[value] = []
        self.last = current  #: the last Value of each blob name

    def values_of(self, layer: int) -> list[Value]:
        """Return the values that a layer writes, one for each top."""
        return [Value(layer, top) for top in range(len(self.param.layer[layer].top))]

    def readers(self, value: Value) -> list[Reader]:
        """Return the layers that read a value, in order."""
        return self._readers[value]

    def only_reader(self, value: Value) -> int | None:
        """Return the index of the layer that reads a value, if it is one layer with one bottom; None otherwise."""
        readers = self._readers[value]
        return readers[0].layer if len(readers) == 1 else None

    def outputs(self) -> list[Value]:
        """Return the values that no layer reads, in order: the net's outputs."""
        return [value for value, readers in self._readers.items() if not readers]

    def before(self, layer: int, bottom: int = 0) -> Iterator[int]:
        """Yield the indices of the layers before a bottom, the nearest first, along their first bottoms."""
        source = self.sources[layer][bottom] if bottom < len(self.sources[layer]) else None
        while source is not None:
            yield source.layer
            sources = self.sources[source.layer]
            source = sources[0] if sources else None
