"""Matching of a net's layers with those of a file or of another net: by name, and in order if names repeat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Sized
from typing import Protocol


class HasBlobs(Protocol):
    """A layer of a net or of a file, with name and parameters."""

    @property
    def name(self) -> str:
        """Name of the layer."""

    @property
    def blobs(self) -> Sized:
        """Its parameters."""


def numbered(names: Iterable[str]) -> list[tuple[str, int]]:
    """Pair each name with the number of its earlier occurrences: a, b, a gives (a, 0), (b, 0), (a, 1)."""
    seen: Counter = Counter()
    result = []
    for name in names:
        result.append((name, seen[name]))
        seen[name] += 1
    return result


def match(sources: Sequence[HasBlobs], targets: Sequence[HasBlobs]) -> list[tuple[int, int]]:
    """Return pairs of indices (source, target) of layers between which to copy parameters, in the order of copying.

    Of several layers with one name, the k-th source with parameters is paired with the k-th target with parameters, or
    with the first if there are fewer targets (in Caffe, all sources go to the first target).  If only one side has
    parameters, the first layers of that name are paired, so that the caller can raise an error.
    """
    source_layers, target_layers = _by_name(sources), _by_name(targets)
    pairs = []
    for name, (plain, full) in source_layers.items():
        if name not in target_layers:
            continue
        target_plain, target_full = target_layers[name]
        if full and target_full:
            pairs += [(s, target_full[k if k < len(target_full) else 0]) for k, s in enumerate(full)]
        elif full or not target_plain:
            pairs.append(((full or plain)[0], (target_full or target_plain)[0]))
    return pairs


def _by_name(layers: Sequence[HasBlobs]) -> dict[str, tuple[list[int], list[int]]]:
    """Return {name: (indices of the layers without parameters, indices of those with)}."""
    result: dict[str, tuple[list[int], list[int]]] = {}
    for i, layer in enumerate(layers):
        result.setdefault(layer.name, ([], []))[bool(layer.blobs)].append(i)
    return result
