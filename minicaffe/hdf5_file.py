"""HDF5 files: built in memory and written as bytes, because the HDF5 library ends the process when a disk is full."""

from __future__ import annotations

from collections.abc import Callable

import h5py


def content(fill: Callable[[h5py.File], None]) -> bytes:
    """Return the bytes of an HDF5 file, of the earliest format, whose groups and datasets `fill` creates."""
    with h5py.File("memory", "w", driver="core", backing_store=False, libver="earliest") as file:
        fill(file)
        file.flush()
        return file.id.get_file_image()
