"""Atomic writes: a file is written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from minicaffe.errors import DataError, MinicaffeError


@contextmanager
def replacing(path: str | os.PathLike, kind: type[MinicaffeError] = DataError) -> Iterator[str]:
    """Yield a temporary path in the folder of `path`, with the same extension; at the end it replaces `path`.

    After an exception, including a full disk or a signal, the temporary file is removed and an older file at `path`
    is unchanged.

    kind: the exception raised when the folder is missing or the file cannot be written.
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
    """Write `content` to `path` completely, or leave an older file unchanged; text is encoded as UTF-8.

    DataError when the folder is missing or the file cannot be written.
    """
    with replacing(path) as temporary:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
