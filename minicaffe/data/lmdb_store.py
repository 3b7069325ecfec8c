"""Writer of LMDB databases, by means of the `lmdb` package."""

from __future__ import annotations

import os

import lmdb


class LmdbStore:
    """A new LMDB in `folder`; `map_size`, in bytes, is doubled whenever the map is full.

    Its methods raise OSError when writing fails.
    """

    def __init__(self, folder: str, map_size: int = 1 << 26) -> None:
        self._map_size = map_size
        os.makedirs(folder, exist_ok=True)
        try:
            # Without a lock file: it is mapped, so that a full disk would end the process with SIGBUS.
            self._environment = lmdb.open(folder, map_size=map_size, sync=False, lock=False)
        except lmdb.Error as error:
            raise OSError(str(error)) from error

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
