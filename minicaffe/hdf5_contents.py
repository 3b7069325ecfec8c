"""What can be asked about an HDF5 file: the part of reading that uses the HDF5 library."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

_DEPTH = 100  #: of groups in groups
_SOFT_LINKS = 64  #: that are followed for one name
#: What h5py raises for damaged files and for limits that are reached.
_DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError)


class Problem(Exception):
    """Why a file cannot be read."""


@contextlib.contextmanager
def _problems() -> Iterator[None]:
    """Raise a `Problem` in place of whatever h5py raises."""
    try:
        yield
    except MemoryError:
        raise Problem("reading it takes too much memory") from None
    except _DAMAGE as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise Problem(str(text) or type(error).__name__) from None


class Contents:
    """What can be asked about a file; any exception of h5py becomes a `Problem`."""

    _file: Any = None  #: the h5py.File

    def open(self, path: str) -> None:
        """Open a file; must be called first."""
        self._file = h5py.File(path, "r")

    def call(self, what: str, *words: str) -> Any:
        """Return the result of the method `what`."""
        with _problems():
            return getattr(self, what)(*words)

    def read_into(self, name: str, values: np.ndarray) -> None:
        """Fill `values`, of the dataset's shape and type."""
        values[...] = self.call("values", name, str(values.nbytes))

    def end(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def names(self) -> list[str]:
        """Return the names in the root."""
        return _texts(self._file)

    def find(self, name: str) -> str | list:
        """Return [shape, type, problem] of a dataset, "group", or "" if there is nothing of that name."""
        found = self._resolve(name)
        return "" if found is None else _described(found)

    def members(self, name: str) -> dict[str, str | list]:
        """Return {name: as from `find`} of what is in a group."""
        return self._members(self._resolve(name))

    def _members(self, group: h5py.Group) -> dict[str, str | list]:
        found = {key: self._resolve(key, group) for key in _texts(group)}
        return {key: _described(member) for key, member in found.items() if member is not None}

    def attribute(self, name: str) -> str:
        """Return an attribute of the root that is a text; "" if there is none."""
        value = self._file.attrs.get(name, "")
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""

    def groups(self, name: str) -> dict[str, dict[str, str | list]]:
        """Return {path: {name: as from `find`}} of the groups inside a group, which are found by hard links."""
        found: dict[str, dict[str, str | list]] = {}
        start = self._resolve(name)
        seen, waiting = {_address(start)}, [("", start)]
        while waiting:
            path, group = waiting.pop()
            if path.count("/") >= _DEPTH:
                raise Problem(f"its groups are nested more than {_DEPTH} deep")
            members, inside = self._members(group), []
            for key in (key for key, each in members.items() if each == "group" and _is_hard(group, key)):
                member = group[os.fsencode(key)]
                if _address(member) not in seen:
                    seen.add(_address(member))
                    inside.append((f"{path}/{key}" if path else key, member))
            if path:
                found[path] = members
            waiting += reversed(inside)
        return found

    def values(self, name: str, size: str) -> np.ndarray:
        """Return the values of a dataset; `Problem` unless they have so many bytes."""
        dataset = self._resolve(name)
        values = np.asarray(dataset[()], dataset.dtype, order="C")
        if values.nbytes != int(size):
            raise Problem("it changed while it was read")
        return values

    def text(self, name: str) -> str:
        """Return the string in a dataset that has one."""
        value = np.ravel(self._resolve(name)[()])[0]
        text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
        return text.rstrip("\0")

    def _resolve(self, name: str, start: h5py.Group | None = None) -> Any:
        """Return the object of a name, a `Problem` for a link to another file, or None.

        Names are followed here, part by part, because the library would follow links to other files on the way.
        """
        here: Any = start or self._file
        parts, followed = list(reversed(name.split("/"))), 0
        while parts:
            part = parts.pop()
            if part in ("", "."):
                continue
            key = os.fsencode(part)
            if not isinstance(here, h5py.Group) or not here.id.links.exists(key):
                return None
            kind = here.id.links.get_info(key).type
            if kind == h5py.h5l.TYPE_SOFT:
                followed += 1
                if followed > _SOFT_LINKS:
                    return Problem("is one of too many links to each other")
                path = os.fsdecode(here.id.links.get_val(key))
                here = self._file if path.startswith("/") else here
                parts += reversed(path.split("/"))
            elif kind == h5py.h5l.TYPE_HARD:
                here = here[key]
            else:
                return Problem("is a link to another file, which is not followed")
        return here


def _texts(group: h5py.Group) -> list[str]:
    """Return the names in a group; h5py returns bytes for those that are not UTF-8."""
    return [os.fsdecode(name) for name in group]


def _is_hard(group: h5py.Group, name: str) -> bool:
    return group.id.links.get_info(os.fsencode(name)).type == h5py.h5l.TYPE_HARD


def _address(item: h5py.Group) -> int:
    return h5py.h5o.get_info(item.id).addr


def _described(item: Any) -> str | list:
    """Return [shape, type, problem] of a dataset, or "group"."""
    if isinstance(item, h5py.Group):
        return "group"
    if isinstance(item, Problem):
        return [(), "V", str(item)]
    if not isinstance(item, h5py.Dataset):
        return [(), "V", "is a type, not a dataset"]
    stored = item.id.get_create_plist()
    problem = ""
    if stored.get_layout() == h5py.h5d.VIRTUAL:
        problem = "is virtual: its values are in other files, which are not read"
    elif stored.get_external_count():
        problem = "has its values in another file, which is not read"
    elif item.shape is None:
        problem = "has no values"
    dtype = item.dtype
    return [item.shape or (), dtype.str if dtype.kind in "fiubSO" else "V", problem]
