"""LMDB databases, by means of the `lmdb` package.

LMDB maps its file into memory; access beyond the end of a truncated file would end the process with SIGBUS.  So before
mapping, `check_size` reads the two meta pages and compares the size that they state with the size of the file.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Iterator

import lmdb

from minicaffe import forks
from minicaffe.errors import DataError

# A page header; magic, version, address, map size, two tables, last page, transaction.
_META = struct.Struct("<16x II QQ 48s 48s QQ")
# Page size (in the first table only), flags, depth, pages of three kinds, entries, root.
_TABLE = struct.Struct("<I HH QQQQQ")
_MAGIC = 0xBEEFC0DE


def check_size(source: str) -> None:
    """Raise DataError unless folder `source` holds a complete LMDB data file."""
    path = os.path.join(source, "data.mdb")
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        first = file.read(_META.size)
        if size == 0 or len(first) < _META.size:
            raise DataError(f"LMDB {source} is truncated: data.mdb has {size} bytes, less than one page")
        magic, _, _, _, table, _, last_page, transaction = _META.unpack(first)
        if magic != _MAGIC:
            raise DataError(f"{path} is no LMDB data file: magic number {magic:#x}, expected {_MAGIC:#x}")
        page_size = _TABLE.unpack(table)[0]
        file.seek(page_size)
        second = file.read(_META.size)
    if len(second) == _META.size:  # LMDB alternates between two meta pages: use the newer transaction
        magic, _, _, _, _, _, other_last, other_transaction = _META.unpack(second)
        if magic == _MAGIC and other_transaction > transaction:
            last_page = other_last
    expected = (last_page + 1) * page_size
    if size < expected:
        raise DataError(f"LMDB {source} is truncated: data.mdb has {size} bytes, expected at least {expected}")


#: Held during every call of the library: after a fork in the middle of a call, the child could not close the file.
#: An RLock, because garbage collection of a generator can call `release` during `acquire`.
_lock = forks.held(threading.RLock())


class _Environment:
    """One open file with a reference count: LMDB permits one per process, but train and test nets can share a source.

    Each reader and each unfinished iteration holds a reference: if the file were closed during a transaction, the
    transaction would access unmapped memory.  A forked process must not use a file opened by its parent, and opens it
    again (`of_this_process`).
    """

    _open: dict[tuple[int, int], _Environment] = {}

    def __init__(self, source: str, file: tuple[int, int]) -> None:
        self.file, self.users, self.process = file, 0, os.getpid()
        # Open the data file, not the folder: for a folder the package also registers the inode of the lock file, which
        # is not opened here, and rejects a new database whose lock file has the inode of a deleted one.
        data = os.path.join(source, "data.mdb")
        self.environment = lmdb.open(data, subdir=False, readonly=True, lock=False, max_spare_txns=8)

    @classmethod
    def acquire(cls, source: str) -> _Environment:
        """Open the file, or share it if it is open; add a reference."""
        check_size(source)  # every time: an open file may have been truncated since
        status = os.stat(os.path.join(source, "data.mdb"))
        file = (status.st_dev, status.st_ino)  # not the path: the database may have been replaced
        with _lock:
            shared = cls._open.get(file)
            if shared is None or not shared.of_this_process:
                if shared is not None:
                    shared.environment.close()  # lmdb refuses to open a file twice
                shared = cls._open[file] = cls(source, file)
            return shared.retain()

    @property
    def of_this_process(self) -> bool:
        """Whether this process has opened the file, not the parent that it was forked from."""
        return self.process == os.getpid()

    def retain(self) -> _Environment:
        """Add a reference."""
        with _lock:
            self.users += 1
        return self

    def release(self, transaction: lmdb.Transaction | None = None) -> None:
        """Drop a reference, and abort its transaction; close the file after the last one."""
        with _lock:
            if transaction is not None:
                with contextlib.suppress(lmdb.Error):  # closed already, in a forked process
                    transaction.abort()
            self.users -= 1
            if self.users == 0:
                if self._open.get(self.file) is self:
                    del self._open[self.file]
                self.environment.close()


def _records_after(cursor: lmdb.Cursor, after: bytes | None) -> Iterator[tuple[memoryview, memoryview]]:
    """Iterate over the records whose keys are greater than `after`; None: over all."""
    if after is not None:
        if not cursor.set_range(after):
            return iter(())
        if bytes(cursor.key()) == after and not cursor.next():
            return iter(())
    return cursor.iternext()


class LmdbReader:
    """An LMDB open for reading; several readers can share one folder.

    source: the folder.  DataError when it cannot be read or is truncated.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._environment: _Environment | None = None
        try:
            self._environment = _Environment.acquire(source)
            with _lock:
                self._length = self._environment.environment.stat()["entries"]
        except lmdb.Error as error:
            raise DataError(f"cannot read LMDB {source}: {error}") from error

    def __len__(self) -> int:
        return self._length

    def items(self, after: bytes | None = None) -> Iterator[tuple[bytes, memoryview]]:
        """Iterate over (key, value) from the first key greater than `after`; values are views of the mapped file.

        If the process is forked during an iteration, the iteration continues in both processes.
        """
        while True:
            process = os.getpid()
            for key, value in self._items_in_this_process(after):
                after = key
                yield key, value
                if os.getpid() != process:
                    break
            else:
                return

    def _items_in_this_process(self, after: bytes | None) -> Iterator[tuple[bytes, memoryview]]:
        shared, transaction = self._of_this_process().retain(), None
        try:
            with _lock:
                transaction = shared.environment.begin(buffers=True)
                records = _records_after(transaction.cursor(), after)
            while True:
                with _lock:
                    record = next(records, None)
                if record is None:
                    return
                key, value = record
                yield bytes(key), value
        except lmdb.Error as error:
            raise DataError(f"cannot read LMDB {self.source}: {error}") from error
        finally:
            shared.release(transaction)

    def keys(self) -> list[bytes]:
        """Return all keys in order; the overflow pages of large values are not read."""
        with self._transaction() as transaction, transaction.cursor() as cursor:
            return list(cursor.iternext(keys=True, values=False))

    def get(self, key: bytes) -> bytes:
        """Return a copy of the value of a key; DataError when there is no such record."""
        with self._transaction() as transaction:
            value = transaction.get(key)
        if value is None:
            raise DataError(f"LMDB {self.source} has no record {key.decode(errors='replace')!r}")
        return value

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[lmdb.Transaction]:
        """Open a read transaction that returns copies; LMDB's exceptions become DataError."""
        try:
            with _lock, self._of_this_process().environment.begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise DataError(f"cannot read LMDB {self.source}: {error}") from error

    def _of_this_process(self) -> _Environment:
        """Return the open file; open it again in a forked process."""
        if self._environment is None:
            raise DataError(f"cannot read LMDB {self.source}: it is closed")
        if not self._environment.of_this_process:
            self._environment = _Environment.acquire(self.source)
        return self._environment

    def close(self) -> None:
        """Drop the reference to the file."""
        shared, self._environment = self._environment, None
        if shared is not None:
            shared.release()

    def __enter__(self) -> LmdbReader:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class LmdbStore:
    """A new LMDB in `folder`, which must not exist; `map_size`, in bytes, is doubled whenever the map is full."""

    def __init__(self, folder: str, map_size: int = 1 << 26) -> None:
        self._map_size = map_size
        os.makedirs(folder)
        self._environment = lmdb.open(folder, map_size=map_size, sync=False)

    def write(self, records: list[tuple[bytes, bytes]]) -> None:
        """Store records in one transaction; the value of an existing key is replaced.  OSError when writing fails."""
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, value in records:
                        transaction.put(key, value)
                return
            except lmdb.MapFullError:
                self._map_size *= 2
                self._environment.set_mapsize(self._map_size)
            except lmdb.Error as error:
                raise OSError(str(error)) from error

    def close(self) -> None:
        """Write everything to the disk and close the file.  OSError when that fails."""
        environment, self._environment = self._environment, None
        if environment is None:
            return
        try:
            environment.sync(True)
        except lmdb.Error as error:
            raise OSError(str(error)) from error
        finally:
            environment.close()
