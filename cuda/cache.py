"""Files of compiled kernels: whole, undamaged, and written by the user who loads them.

A file holds the code, followed by a trailer: a signature, the code's length (8 bytes, little-endian), and the SHA-256
of the file's name and the code. A kernel runs with the rights of the process, so on POSIX systems only files are loaded
that belong to this user, in a folder that belongs to this user, and that no other user can write.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

from minicaffe.files import open_regular, remove_leftovers, replacing

_SIGNATURE = b"minicaffe kernel"
_TRAILER = len(_SIGNATURE) + 8 + 32
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def load(path: Path) -> bytes | None:
    """Return the code in a file; None if it is missing, damaged, or another user's or writable by one."""
    try:
        if not _is_own(os.stat(path.parent)):
            return None
        with open_regular(path) as file:
            content = file.read() if _is_own(os.fstat(file.fileno())) else b""
    except OSError:
        return None
    code = content[:-_TRAILER]
    return code if content == code + _trailer(path, code) else None


def store(path: Path, code: bytes) -> None:
    """Write code to a file that only this user can access; the folder is created, or other users' write access removed.

    OSError or DataError when the folder belongs to another user, or when the file cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_own(os.stat(path.parent)):
        _close(path.parent)
    remove_leftovers(os.fspath(path))
    with replacing(path) as temporary:
        os.chmod(temporary, 0o600)
        Path(temporary).write_bytes(code + _trailer(path, code))


def _trailer(path: Path, code: bytes) -> bytes:
    digest = hashlib.sha256(path.name.encode() + b"\0" + code).digest()
    return _SIGNATURE + len(code).to_bytes(8, "little") + digest


def _is_own(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to this user, who alone can write it; True on Windows."""
    return not hasattr(os, "geteuid") or (status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE)


def _close(folder: Path) -> None:
    """Remove the write access of other users to a folder; OSError for another user's."""
    status = os.stat(folder)
    if status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "the folder belongs to another user", os.fspath(folder))
    os.chmod(folder, stat.S_IMODE(status.st_mode) & ~_OTHERS_WRITE)
