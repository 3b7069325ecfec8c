"""Which layer of a file, or of another net, belongs to which layer of a net: by name, in order where names repeat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Sized
from typing import Protocol


class HasBlobs(Protocol):
    """What is matched: a layer of a net or of a file."""

    @property
    def name(self) -> str: ...

    @property
    def blobs(self) -> Sized: ...


def numbered(names: Iterable[str]) -> list[tuple[str, int]]:
    """Each name with how often it came before: a, b, a gives (a, 0), (b, 0), (a, 1)."""
    seen: Counter = Counter()
    result = []
    for name in names:
        result.append((name, seen[name]))
        seen[name] += 1
    return result


def match(sources: Sequence[HasBlobs], targets: Sequence[HasBlobs]) -> list[tuple[int, int]]:
    """Pairs (source, target) of layers that exchange parameters, as indices, in the order in which to copy.

    Of several layers of one name, the k-th source with parameters goes to the k-th target with parameters; where there
    are fewer targets, to the first of them, as all sources do in the original.  Where one side has parameters and the
    other has none, the first layers of the name are paired, for the caller to refuse.
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
    """The indices of the layers of each name: those without parameters, those with."""
    result: dict[str, tuple[list[int], list[int]]] = {}
    for i, layer in enumerate(layers):
        result.setdefault(layer.name, ([], []))[bool(layer.blobs)].append(i)
    return result
