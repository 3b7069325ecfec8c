"""Names of Python 2."""

from __future__ import annotations

import builtins
import functools
import io
import itertools
import pickle
import tempfile
from collections.abc import Callable
from types import ModuleType
from typing import Any

from minicaffe.core.containers import ReadOnlyDict

_BUILTINS = {
    "xrange": range, "unicode": str, "basestring": str, "long": int, "raw_input": input, "reduce": functools.reduce
}  # fmt: skip
_ITERTOOLS = {"izip": zip, "imap": map, "ifilter": filter, "izip_longest": itertools.zip_longest}
_METHODS = {
    "iteritems": lambda self: iter(self.items()),
    "iterkeys": lambda self: iter(self),
    "itervalues": lambda self: iter(self.values()),
    "has_key": lambda self, name: name in self,
}
#: the old names of modules and classes
NAMES: tuple[tuple[Any, dict[str, Any]], ...] = (
    (builtins, _BUILTINS), (itertools, _ITERTOOLS), (ReadOnlyDict, _METHODS)
)  # fmt: skip


def add_names() -> None:
    """Add the old names to Python's builtins, to itertools, and to the dicts of nets; temporary files take str."""
    for owner, names in NAMES:
        for name, value in names.items():
            if not hasattr(owner, name):
                setattr(owner, name, value)
    if not hasattr(tempfile.NamedTemporaryFile, "__wrapped__"):
        tempfile.NamedTemporaryFile = _taking_text(tempfile.NamedTemporaryFile)


def _taking_text(named: Callable[..., Any]) -> Callable[..., Any]:
    """Return `NamedTemporaryFile` whose files, in the default mode "w+b", also take str, as UTF-8."""

    @functools.wraps(named)
    def taking_text(*args: Any, **options: Any) -> Any:
        file = named(*args, **options)
        if not args and "mode" not in options:
            write = file.write
            file.write = lambda content: write(content.encode() if isinstance(content, str) else content)
        return file

    return taking_text


def fill_string_io(module: ModuleType) -> None:
    """Add `StringIO` to a module: a file in memory, of text or, if it begins with bytes, of bytes."""
    module.__dict__["StringIO"] = lambda initial="": (
        io.BytesIO(initial) if isinstance(initial, bytes) else (io.StringIO(initial))
    )


def fill_pickle(module: ModuleType) -> None:
    """Fill the module cPickle: pickle, which also reads what Python 2 has written, and files opened as text.

    Strings of Python 2 become str, by Latin-1, and so its arrays can be read.
    """
    names = {name: value for name, value in vars(pickle).items() if not name.startswith("_")}
    module.__dict__.update(names, load=_load, loads=_loads, dump=_dump)


def _load(file: Any, **options: Any) -> Any:
    return pickle.load(getattr(file, "buffer", file), **{"encoding": "latin1", **options})


def _loads(data: bytes | str, **options: Any) -> Any:
    content = data.encode("latin1") if isinstance(data, str) else data
    return pickle.loads(content, **{"encoding": "latin1", **options})


def _dump(obj: Any, file: Any, protocol: int | None = None) -> None:
    pickle.dump(obj, getattr(file, "buffer", file), protocol)
