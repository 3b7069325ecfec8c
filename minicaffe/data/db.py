"""One interface for the two key-value stores of Caffe's Data layer: LMDB and LevelDB.

A database is a folder of (key, value) records, sorted by key, and is read in that order.
`open_db(folder, backend)` reads, `open_db(folder, backend, "w")` writes a new one.  A database is written under a
temporary name and renamed when it is complete and on the disk, so an incomplete one is never visible under its name.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
from collections.abc import Iterator
from typing import Protocol

from minicaffe.errors import DataError, nearest
from minicaffe.files import NewFolder

log = logging.getLogger("minicaffe.data")

BACKENDS = ("lmdb", "leveldb")
_FILES = {"lmdb": "data.mdb", "leveldb": "CURRENT"}  # which each database of a kind has
MAX_KEY = {"lmdb": 511, "leveldb": None}  # bytes; None: no limit
_DATA_SETS = re.compile(  # paths of the databases that `minicaffe data` writes
    r"(?:.*/)?(?P<data_set>mnist|cifar10|shapes)(?:(?<=shapes)/|(?<!shapes)_)"
    r"(?:train|test|(?<=cifar10_)train_pad(?P<pad>\d+))_(?P<backend>lmdb|leveldb)"
)
BATCH = 1000  # records per write transaction, as in Caffe's converters


class Database(Protocol):
    """A database open for reading."""

    source: str

    def __len__(self) -> int:
        """The number of records."""

    def items(self, after: bytes | None = None) -> Iterator[tuple[bytes, memoryview | bytes]]:
        """Iterate over (key, value) in the order of keys, from the first key greater than `after`; None: all.

        A value is valid until the iterator advances: copy it to keep it.
        """

    def keys(self) -> list[bytes]:
        """Return all keys in order.  For an LMDB this reads the pages of keys only; a LevelDB is read completely."""

    def get(self, key: bytes) -> bytes:
        """Return the value of a key; DataError when there is no such record."""

    def close(self) -> None:
        """Close the files."""


class Store(Protocol):
    """A backend's interface for writing: batches of records, then `close`."""

    def write(self, records: list[tuple[bytes, bytes]]) -> None:
        """Store the records; the value of an existing key is replaced."""

    def close(self) -> None:
        """Complete the files."""


def open_db(source: str | os.PathLike, backend: str | int = "lmdb", mode: str = "r"):
    """Open the database in folder `source`: a `Database` for mode "r" (default), a `DatabaseWriter` for mode "w".

    backend: "lmdb" (default) or "leveldb", in upper or lower case, or the number in `data_param { backend }` (0
        LevelDB, 1 LMDB).
    DataError when there is no such database, when it is truncated or of the other kind, or, for "w", when `source`
    exists already.
    """
    source, backend = os.fspath(source), backend_name(backend)
    if mode == "w":
        return DatabaseWriter(source, backend)
    if mode != "r":
        raise DataError(f'mode of database {source} must be "r" or "w", got {mode!r}')
    _check_folder(source, backend)
    if backend == "lmdb":
        from minicaffe.data.lmdb_reader import LmdbReader

        return LmdbReader(source)
    from minicaffe.data.leveldb import LevelDbReader

    return LevelDbReader(source)


def backend_name(backend: str | int) -> str:
    """Return "lmdb" or "leveldb" for a name in upper or lower case, or for a number of DataParameter.DB.

    DataError for any other value.
    """
    numbered: dict[str | int, str] = {0: "leveldb", 1: "lmdb"}
    name = numbered.get(backend, str(backend)).lower()
    if name not in BACKENDS:
        raise DataError(f'unknown database backend "{backend}", expected lmdb or leveldb{nearest(name, BACKENDS)}')
    return name


def backends_in(folder: str | os.PathLike) -> list[str]:
    """Return the kinds of the databases in a folder, of "lmdb" and "leveldb"; [] if it is none."""
    return [backend for backend, name in _FILES.items() if os.path.exists(os.path.join(folder, name))]


def _check_folder(source: str, backend: str) -> None:
    """Raise DataError for a wrong path or a wrong backend, with a clearer message than the library's."""
    label = {"lmdb": "LMDB", "leveldb": "LevelDB"}[backend]
    if not source:
        raise DataError(f"no {label} is named: data_param.source must be given")
    if not os.path.exists(source):
        raise DataError(f"{label} {source} does not exist (looked in {os.getcwd()}){_command_that_writes(source)}")
    if not os.path.isdir(source):
        raise DataError(
            f"{label} {source} must be a folder, but it is a file (ImageData reads lists, HDF5Data HDF5 files)"
        )
    found = backends_in(source)
    if backend in found:
        return
    if found:
        raise DataError(f"folder {source} holds a database of the other kind: set backend: {found[0].upper()}")
    raise DataError(f"folder {source} is no {label}: it has no {_FILES[backend]} file")


def _command_that_writes(source: str) -> str:
    """Return the hint, from ": " on, with the command that writes a database of this name; "" if there is none."""
    source = source.rstrip("/")
    found = _DATA_SETS.fullmatch(source)
    if not found:
        return ""
    flags = {"dest": os.path.dirname(source) or ".", "backend": found["backend"], "pad": found["pad"]}
    defaults = {"dest": f"data/{found['data_set']}", "backend": "lmdb", "pad": None}
    words = [f"--{flag} {shlex.quote(value)}" for flag, value in flags.items() if value != defaults[flag]]
    return f": `{' '.join(['minicaffe data', found['data_set'], *words])}` writes it"


class DatabaseWriter:
    """Writer of a new database; a context manager that discards the database if its block raises.

    source: the folder to create.  backend: "lmdb" or "leveldb".
    `count`: number of records; `max_key`: largest length of a key in bytes, or None for no limit.
    DataError when `source` exists already or its parent folder does not.
    """

    def __init__(self, source: str, backend: str) -> None:
        self.source, self.count, self.max_key = source.rstrip("/\\") or source, 0, MAX_KEY[backend]
        if os.path.exists(self.source):
            raise DataError(f"{source} exists already: remove it first, or choose another name")
        parent = os.path.dirname(os.path.abspath(self.source))
        if not os.path.isdir(parent):
            raise DataError(f"cannot write database {source}: folder {parent} does not exist")
        self._pending: list[tuple[bytes, bytes]] = []
        self._store: Store | None = None
        with self._errors():
            self._folder = NewFolder(self.source)
            try:
                self._store = _new_store(self._folder.temporary, backend)
            except OSError:
                self._folder.close()
                raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Convert an OSError inside the block to a DataError."""
        try:
            yield
        except OSError as error:
            raise DataError(f"cannot write database {self.source}: {error.strerror or error}") from error

    def put(self, key: bytes | str, value: bytes) -> None:
        """Store one record; records are written in transactions of 1000.

        key: bytes, or text, which is encoded as UTF-8 with surrogateescape, as a path is.
        DataError for a key that is too long for the database, when writing fails, and when the database is closed.
        """
        self._opened()
        key = key.encode("utf-8", "surrogateescape") if isinstance(key, str) else key
        if self.max_key and not 0 < len(key) <= self.max_key:
            raise DataError(
                f"cannot write database {self.source}: its keys have 1 to {self.max_key} bytes, but "
                f"{key.decode(errors='replace')!r} has {len(key)}"
            )
        self._pending.append((key, value))
        self.count += 1
        if len(self._pending) >= BATCH:
            self.commit()

    def commit(self) -> None:
        """Write the pending records."""
        if self._pending:
            with self._errors():
                self._opened().write(self._pending)
            self._pending = []

    def _opened(self) -> Store:
        if self._store is None:
            raise DataError(f"cannot write database {self.source}: it is closed")
        return self._store

    def close(self) -> None:
        """Write the pending records, flush the files to the disk, and rename the complete database to `source`."""
        if self._store is None:
            return
        try:
            self.commit()
            with self._errors():
                self._store.close()
                self._folder.complete()
        finally:
            self.discard()

    def discard(self) -> None:
        """Close the files, and remove the temporary database unless it has been completed."""
        if self._store is not None:
            with contextlib.suppress(OSError):  # the error that led here is already reported
                self._store.close()
            self._store = None
            self._folder.close()

    def __enter__(self) -> DatabaseWriter:
        return self

    def __exit__(self, kind, value, traceback) -> None:
        self.discard() if kind else self.close()


def _new_store(folder: str, backend: str) -> Store:
    if backend == "lmdb":
        from minicaffe.data.lmdb_store import LmdbStore

        return LmdbStore(folder)
    from minicaffe.data.leveldb_store import LevelDbStore

    return LevelDbStore(folder)


class Cursor:
    """Endless iteration over a database, as in the Data layer.

    `position` is the key of the last record returned (None before the first).  A cursor set to a saved position
    continues with the next record, without reading the records before it.
    """

    def __init__(self, database: Database, name: str = "") -> None:
        self.database = database
        self.position: bytes | None = None
        self._items = database.items()

    def next(self) -> tuple[bytes, memoryview | bytes]:
        """Return the next (key, value); after the last record, log a line and continue with the first.

        DataError for an empty database.
        """
        item = next(self._items, None)
        if item is None:
            log.info("Restarting data prefetching from start.")
            self._items = self.database.items()
            item = next(self._items, None)
            if item is None:
                raise DataError(f"database {self.database.source} holds no records")
        self.position = item[0]
        return item

    def skip(self, count: int) -> None:
        """Leave out so many records."""
        for _ in range(count):
            self.next()

    def seek(self, position: bytes | None) -> None:
        """Continue after the record with key `position`; None: from the start."""
        self.position = position
        self._items = self.database.items(after=position)
