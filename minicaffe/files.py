"""Files that are either whole or not there: written beside their place, then moved into it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from minicaffe.errors import DataError, MinicaffeError


@contextmanager
def replacing(path: str | os.PathLike, kind: type[MinicaffeError] = DataError) -> Iterator[str]:
    """A temporary path in the folder of `path`, with its extension; what was written there replaces `path` at the end.

    After an exception, a full disk or a signal nothing is left behind and an older file at `path` stays as it was.
    kind: the error raised when the folder is missing or the file cannot be written.
    """
    path = os.fspath(path)
    folder, name = os.path.split(os.path.abspath(path))
    try:
        handle, temporary = tempfile.mkstemp(suffix=os.path.splitext(name)[1], prefix=f".{name}.", dir=folder)
    except OSError as error:
        raise kind(f"cannot write '{path}': {error.strerror}") from error
    os.close(handle)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # h5py raises RuntimeError when a disk is full
        raise kind(f"cannot write '{path}': {getattr(error, 'strerror', None) or error}") from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def write_atomically(path: str | os.PathLike, content: bytes | str) -> None:
    """Write a whole file, or leave the older one; text is encoded as UTF-8."""
    with replacing(path) as temporary:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
