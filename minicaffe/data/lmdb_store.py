"""Writer of LMDB databases, by means of the `lmdb` package."""

from __future__ import annotations

import errno
import os

import lmdb


class LmdbStore:
    """A new LMDB in `folder`; `map_size`, in bytes, is doubled whenever the map is full.

    Its methods raise OSError when writing fails; nothing is flushed to the disk.
    """

    def __init__(self, folder: str, map_size: int = 1 << 26) -> None:
        self._map_size = map_size
        try:
            # Without a lock file: it is mapped and written to, which on a full disk ends the process with SIGBUS.
            self._environment = lmdb.open(folder, map_size=map_size, sync=False, lock=False)
        except lmdb.Error as error:
            raise _os_error(error) from error

    def write(self, records: list[tuple[bytes, bytes]]) -> None:
        """Store records in one transaction; the value of an existing key is replaced."""
        try:
            while not self._write(records):
                self._map_size *= 2
                self._environment.set_mapsize(self._map_size)
        except lmdb.Error as error:
            raise _os_error(error) from error

    def _write(self, records: list[tuple[bytes, bytes]]) -> bool:
        """Store records in one transaction; False when the map is full."""
        try:
            with self._environment.begin(write=True) as transaction:
                for key, value in records:
                    transaction.put(key, value)
        except lmdb.MapFullError:
            return False
        return True

    def close(self) -> None:
        """Close the file; calls after the first have no effect."""
        self._environment.close()


def _os_error(error: lmdb.Error) -> OSError:
    """Convert an exception; for a write that a full disk cut short, the library states an input/output error."""
    text = str(error)
    return OSError(f"{text} (is the disk full?)" if os.strerror(errno.EIO) in text else text)
