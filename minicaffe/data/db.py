"""One interface over the two key-value stores that Caffe's Data layer reads: LMDB and LevelDB.

A database is a folder of (key, value) records, sorted by key, which is also the order in which they are read.
`open_db(folder, backend)` reads, `open_db(folder, backend, "w")` writes a new one.  A database being written stands
under a temporary name and takes its own when it is complete, so nobody ever meets half a database.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from typing import Protocol

from minicaffe.errors import DataError, nearest

log = logging.getLogger("minicaffe.data")

BACKENDS = ("lmdb", "leveldb")
MAX_KEY = {"lmdb": 511, "leveldb": None}  # bytes; None: any number
BATCH = 1000  # records per write transaction, as in Caffe's converters


class Database(Protocol):
    """A database open for reading."""

    source: str

    def __len__(self) -> int:
        """The number of records."""

    def items(self, after: bytes | None = None) -> Iterator[tuple[bytes, memoryview | bytes]]:
        """(key, value) in the order of the keys, from the first key greater than `after`.

        A value is good until the next one is asked for: copy what you keep.
        """

    def keys(self) -> list[bytes]:
        """All keys in order.  An LMDB reads its pages of keys for that; a LevelDB is read whole."""

    def get(self, key: bytes) -> bytes:
        """The value of a key; `DataError` when there is no such record."""

    def close(self) -> None:
        """Let go of the files."""


class Store(Protocol):
    """What a backend offers for writing: whole batches, then one close."""

    def write(self, records: list[tuple[bytes, bytes]]) -> None:
        """Store the records; a key that is there already gets the new value."""

    def close(self) -> None:
        """Complete the files."""


def open_db(source: str | os.PathLike, backend: str | int = "lmdb", mode: str = "r"):
    """Open the database in folder `source`: a `Database` for mode "r", a `DatabaseWriter` for mode "w".

    backend: "lmdb" or "leveldb" in any case, or the number in `data_param { backend }` (0 LevelDB, 1 LMDB).
    Raises `DataError` when there is no such database, when it is truncated or of the other kind, or, for "w", when
    something stands there already.
    """
    source, backend = os.fspath(source), backend_name(backend)
    if mode == "w":
        return DatabaseWriter(source, backend)
    if mode != "r":
        raise DataError(f'mode of database {source} must be "r" or "w", got {mode!r}')
    _check_folder(source, backend)
    if backend == "lmdb":
        from minicaffe.data.lmdb_store import LmdbReader

        return LmdbReader(source)
    from minicaffe.data.leveldb import LevelDbReader

    return LevelDbReader(source)


def backend_name(backend: str | int) -> str:
    """ "lmdb" or "leveldb" for a name in any case or a DataParameter.DB number."""
    numbered: dict[str | int, str] = {0: "leveldb", 1: "lmdb"}
    name = numbered.get(backend, str(backend)).lower()
    if name not in BACKENDS:
        raise DataError(f'unknown database backend "{backend}", expected lmdb or leveldb{nearest(name, BACKENDS)}')
    return name


def _check_folder(source: str, backend: str) -> None:
    """Tell a wrong path from a wrong backend before the library does so in its own words."""
    label = {"lmdb": "LMDB", "leveldb": "LevelDB"}[backend]
    if not source:
        raise DataError(f"no {label} is named: data_param.source must be given")
    if not os.path.exists(source):
        raise DataError(f"{label} {source} does not exist (looked in {os.getcwd()})")
    if not os.path.isdir(source):
        raise DataError(f"{label} {source} must be a folder, but it is a file")
    found = {
        "lmdb": os.path.exists(os.path.join(source, "data.mdb")),
        "leveldb": os.path.exists(os.path.join(source, "CURRENT")),
    }
    if found[backend]:
        return
    other = "leveldb" if backend == "lmdb" else "lmdb"
    if found[other]:
        raise DataError(f"folder {source} holds a database of the other kind: set backend: {other.upper()}")
    raise DataError(f"folder {source} is no {label}: it has no {'data.mdb' if backend == 'lmdb' else 'CURRENT'} file")


class DatabaseWriter:
    """Writes a new database; a context manager that leaves nothing behind when its block raises.

    max_key: the most bytes that a key may have, or None.  Raises `DataError` when `source` exists already.
    """

    def __init__(self, source: str, backend: str) -> None:
        self.source, self.count, self.max_key = source.rstrip("/\\") or source, 0, MAX_KEY[backend]
        if os.path.exists(self.source):
            raise DataError(f"{source} exists already: remove it first, or choose another name")
        parent = os.path.dirname(os.path.abspath(self.source))
        if not os.path.isdir(parent):
            raise DataError(f"cannot write database {source}: folder {parent} does not exist")
        self._temporary = f"{self.source}.part-{os.getpid()}"
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._pending: list[tuple[bytes, bytes]] = []
        self._store: Store | None = _new_store(self._temporary, backend)

    def put(self, key: bytes | str, value: bytes) -> None:
        """Store one record; records are written in transactions of 1000.

        key: bytes, or text, which becomes UTF-8 or, where it is a path in another encoding, that path's bytes.
        Raises `DataError` for a key that the database cannot hold, and when the database is closed.
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
        """Write what is pending."""
        if self._pending:
            try:
                self._opened().write(self._pending)
            except OSError as error:
                raise DataError(f"cannot write database {self.source}: {error}") from error
            self._pending = []

    def _opened(self) -> Store:
        if self._store is None:
            raise DataError(f"cannot write database {self.source}: it is closed")
        return self._store

    def close(self) -> None:
        """Complete the database and give it its name."""
        if self._store is None:
            return
        try:
            self.commit()
            self._store.close()
            os.rename(self._temporary, self.source)
            self._store = None
        except OSError as error:
            raise DataError(f"cannot write database {self.source}: {error}") from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Throw away what has been written, unless it is complete."""
        if self._store is not None:
            with contextlib.suppress(OSError):  # the reason for giving up has been told
                self._store.close()
            self._store = None
            shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> DatabaseWriter:
        return self

    def __exit__(self, kind, value, traceback) -> None:
        self.discard() if kind else self.close()


def _new_store(folder: str, backend: str) -> Store:
    try:
        if backend == "lmdb":
            from minicaffe.data.lmdb_store import LmdbStore

            return LmdbStore(folder)
        from minicaffe.data.leveldb_store import LevelDbStore

        return LevelDbStore(folder)
    except OSError as error:
        raise DataError(f"cannot write database {folder}: {error}") from error


class Cursor:
    """Reads a database round and round, as the Data layer does.

    Its position is the key of the last record that it gave out (None before the first), so a cursor set to a saved
    position goes on with the record after it, at once in a database of any size.
    """

    def __init__(self, database: Database, name: str = "") -> None:
        self.database = database
        self.position: bytes | None = None
        self._items = database.items()

    def next(self) -> tuple[bytes, memoryview | bytes]:
        """The next (key, value); after the last record comes the first again, with a line in the log."""
        item = next(self._items, None)
        if item is None:
            log.info("Restarting data prefetching from start.")
            self._items = self.database.items()
            item = next(self._items, None)
            if item is None:
                raise DataError(f"database {self.database.source} holds no records")
        self.position = item[0]
        return item

    def seek(self, position: bytes | None) -> None:
        """Go on after the record with key `position` (None: from the start)."""
        self.position = position
        self._items = self.database.items(after=position)
