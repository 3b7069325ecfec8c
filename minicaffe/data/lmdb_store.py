"""LMDB, through the `lmdb` package.

LMDB maps its file into memory; a file that was cut short would end the whole process with SIGBUS at the first access
behind its end.  So before mapping, `check_size` reads the two meta pages itself and compares what they claim with the
size of the file.
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
    """Raise `DataError` unless folder `source` holds a whole LMDB data file."""
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
    if len(second) == _META.size:  # two meta pages take turns: the newer transaction counts
        magic, _, _, _, _, _, other_last, other_transaction = _META.unpack(second)
        if magic == _MAGIC and other_transaction > transaction:
            last_page = other_last
    expected = (last_page + 1) * page_size
    if size < expected:
        raise DataError(f"LMDB {source} is truncated: data.mdb has {size} bytes, expected at least {expected}")


#: held in every call of the library: a fork in the middle of one would leave a child that cannot close the file.
#: An RLock, as a collected generator may release in the middle of an acquire.
_lock = forks.held(threading.RLock())


class _Environment:
    """One open file and how many use it: LMDB allows one per process, but train and test nets may share a source.

    A reader uses it, and so does every iteration that has not ended: closing the file under an open transaction
    would leave that with memory which is no longer mapped.  A process that was forked may not use what its parent
    opened, and opens the file again (`of_this_process`).
    """

    _open: dict[tuple[int, int], _Environment] = {}

    def __init__(self, source: str, file: tuple[int, int]) -> None:
        self.file, self.users, self.process = file, 0, os.getpid()
        # by its data file: for a folder the package also counts the lock file as open, which it never opens here, so
        # that a new database whose lock file gets the inode of a deleted one would be refused
        data = os.path.join(source, "data.mdb")
        self.environment = lmdb.open(data, subdir=False, readonly=True, lock=False, max_spare_txns=8)

    @classmethod
    def acquire(cls, source: str) -> _Environment:
        check_size(source)  # every time: a file that is open already may have been cut since
        status = os.stat(os.path.join(source, "data.mdb"))
        file = (status.st_dev, status.st_ino)  # not the path: another database may have taken its place
        with _lock:
            shared = cls._open.get(file)
            if shared is None or not shared.of_this_process:
                if shared is not None:
                    shared.environment.close()  # lmdb refuses to open a file twice
                shared = cls._open[file] = cls(source, file)
            return shared.retain()

    @property
    def of_this_process(self) -> bool:
        return self.process == os.getpid()

    def retain(self) -> _Environment:
        with _lock:
            self.users += 1
        return self

    def release(self, transaction: lmdb.Transaction | None = None) -> None:
        """One user, and its transaction, less."""
        with _lock:
            if transaction is not None:
                with contextlib.suppress(lmdb.Error):  # closed already, in a process that was forked
                    transaction.abort()
            self.users -= 1
            if self.users == 0:
                if self._open.get(self.file) is self:
                    del self._open[self.file]
                self.environment.close()


def _behind(cursor: lmdb.Cursor, after: bytes | None) -> Iterator[tuple[memoryview, memoryview]]:
    """The records whose keys are greater than `after`."""
    if after is not None:
        if not cursor.set_range(after):
            return iter(())
        if bytes(cursor.key()) == after and not cursor.next():
            return iter(())
    return cursor.iternext()


class LmdbReader:
    """An LMDB open for reading; any number of readers may share one folder."""

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
        """(key, value) from the first key greater than `after`; the value is a view of the mapped file.

        An iteration that is going on when the process is forked goes on in both.
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
                records = _behind(transaction.cursor(), after)
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
        """All keys in order; values that have pages of their own are not touched."""
        with self._transaction() as transaction, transaction.cursor() as cursor:
            return list(cursor.iternext(keys=True, values=False))

    def get(self, key: bytes) -> bytes:
        """The value of a key, copied; `DataError` when there is no such record."""
        with self._transaction() as transaction:
            value = transaction.get(key)
        if value is None:
            raise DataError(f"LMDB {self.source} has no record {key.decode(errors='replace')!r}")
        return value

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[lmdb.Transaction]:
        """A read transaction that copies what it returns; LMDB's errors become `DataError`."""
        try:
            with _lock, self._of_this_process().environment.begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise DataError(f"cannot read LMDB {self.source}: {error}") from error

    def _of_this_process(self) -> _Environment:
        """The open file; opened again in a process that was forked."""
        if self._environment is None:
            raise DataError(f"cannot read LMDB {self.source}: it is closed")
        if not self._environment.of_this_process:
            self._environment = _Environment.acquire(self.source)
        return self._environment

    def close(self) -> None:
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
    """A new LMDB; its map starts small and doubles when it is full."""

    def __init__(self, folder: str, map_size: int = 1 << 26) -> None:
        self._map_size = map_size
        os.makedirs(folder)
        self._environment = lmdb.open(folder, map_size=map_size, sync=False)

    def write(self, records: list[tuple[bytes, bytes]]) -> None:
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
        environment, self._environment = self._environment, None
        if environment is None:
            return
        try:
            environment.sync(True)
        except lmdb.Error as error:
            raise OSError(str(error)) from error
        finally:
            environment.close()
