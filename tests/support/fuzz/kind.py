"""A kind of file: valid examples, how they are changed, and the commands that read the result."""

from __future__ import annotations

import importlib
import pkgutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from fuzz import kinds, mutate

#: Words of a command line, or a function that raises MinicaffeError for what it refuses.
Action = list[str] | Callable[[], object]


@dataclass
class Case:
    """What is done in an empty folder: files are written, then the actions run in order."""

    files: dict[str, bytes]
    actions: Sequence[Action]


@dataclass
class Kind:
    """A kind of file.

    examples: function without arguments that returns the contents of valid files.
    case: function of a content that returns the Case in which it is read.
    change: function of a generator and a valid content that returns a changed one; default: `mutate.flip`.
    memory: bytes that a case may use; the default is 1 GB.  None: as many as it asks for (a net may be large).
    """

    name: str
    examples: Callable[[], Sequence[bytes]]
    case: Callable[[bytes], Case]
    change: Callable[[np.random.Generator, bytes], bytes] = mutate.flip
    memory: int | None = 1 << 30
    _examples: list[bytes] = field(default_factory=list)

    def draw(self, number: int) -> bytes:
        """Return changed content number `number`, always the same for a number."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), number])
        if not self._examples:
            self._examples = list(self.examples())
        return self.change(rng, self._examples[rng.integers(len(self._examples))])


def all_kinds() -> dict[str, Kind]:
    """Return every `Kind` in the modules of `fuzz.kinds`, by name."""
    modules = (importlib.import_module(f"fuzz.kinds.{each.name}") for each in pkgutil.iter_modules(kinds.__path__))
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Kind)]
    return {kind.name: kind for kind in sorted(found, key=lambda kind: kind.name)}
