"""Reading of regular files; atomic and durable writes.

A file, or a folder of files, is written under a hidden temporary name in the same folder, flushed to the disk, then
renamed.  What has a temporary name is locked while it is written: if it can be locked, it was left behind by a process
that was killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from typing import BinaryIO

from minicaffe.errors import DataError, MinicaffeError

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]  # Windows has none

_PART = ".part-"  #: in the names of temporary files, before eight hexadecimal digits
_TEMPORARY = re.compile(r"\.(?P<name>.+)" + re.escape(_PART) + r"[0-9a-f]{8}(\.\w+)?", re.DOTALL)
_OWN_DESCRIPTORS = re.compile(r"/dev/(stdin|fd/\d+)|/proc/self/fd/\d+")


# -- reading -----------------------------------------------------------------------------------------------------------


def open_regular(path: str | os.PathLike, pipes: bool = False) -> BinaryIO:
    """Open a regular file for reading bytes.

    pipes: also accept the process's own descriptors, such as /dev/stdin and the /dev/fd/63 of a shell's
        process substitution (default: False).
    OSError when the file cannot be opened, for a FIFO, a device or a folder, and for a path with a null character.
    """
    path = os.fspath(path)
    _check_name(path)
    if pipes and _OWN_DESCRIPTORS.fullmatch(os.fsdecode(path)):
        return open(path, "rb")
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, f"it is {_kind(mode)}", path)
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")  # which closes it if a signal interrupts


def read_bytes(path: str | os.PathLike, pipes: bool = False) -> bytes:
    """Return the content of a regular file; arguments and errors as for `open_regular`."""
    with open_regular(path, pipes) as file:
        return file.read()


class RandomAccessFile:
    """A regular file that is read at given positions, in any thread and in forked processes.

    It is not mapped into memory, where a file that is truncated meanwhile would end the process with SIGBUS.  It is
    closed with its last reference.

    path: the file; errors as for `open_regular`.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)
        with open_regular(path) as file:
            self._descriptor = os.dup(file.fileno())

    @property
    def size(self) -> int:
        """The present size in bytes."""
        return os.fstat(self._descriptor).st_size

    def read(self, count: int, offset: int) -> bytes:
        """Return `count` bytes from byte `offset` on; DataError when they cannot be read or the file is shorter."""
        try:
            content = os.pread(self._descriptor, count, offset) if hasattr(os, "pread") else self._seek(count, offset)
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror or error}") from error
        if len(content) < count:
            raise DataError(f"{self.path} is truncated: it ends before byte {offset + count}")
        return content

    def _seek(self, count: int, offset: int) -> bytes:
        """Read on a system without pread, in a descriptor of its own."""
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.read(count)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


def _check_name(path: str | bytes) -> None:
    """Raise OSError for a path that no file can have, for which `os.open` raises ValueError."""
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:  # of half a surrogate pair
        raise OSError(errno.EINVAL, "its name has characters that no file name has", path) from None
    if b"\0" in encoded:
        raise OSError(errno.EINVAL, "its name has a null character", path)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return f"{kinds.get(stat.S_IFMT(mode), 'a device')}, expected a regular file"


# -- writing -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def replacing(path: str | os.PathLike, kind: type[MinicaffeError] = DataError) -> Iterator[str]:
    """Yield a temporary path in the folder of `path`, with the same extension; at the end it replaces `path`.

    The content is on the disk before the file has its name.  After an exception, including a full disk or a signal,
    the temporary file is removed and an older file at `path` is unchanged.

    kind: the exception raised when the folder is missing or the file cannot be written.
    """
    path = os.fspath(path)
    folder, name = os.path.split(os.path.abspath(path))
    try:
        handle, temporary = _new_temporary(folder, name)
    except OSError as error:
        raise kind(f"cannot write '{path}': {error.strerror}") from error
    try:
        yield temporary
        _flush(temporary, handle)
        os.replace(temporary, path)
        sync_folder(folder)
    except (OSError, RuntimeError) as error:
        raise kind(f"cannot write '{path}': {getattr(error, 'strerror', None) or error}") from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
        _close(handle)


def write_atomically(
    path: str | os.PathLike, content: bytes | bytearray | memoryview | str, kind: type[MinicaffeError] = DataError
) -> None:
    """Write `content` to `path` completely, or leave an older file unchanged; text is encoded as UTF-8.

    kind: the exception raised when the folder is missing or the file cannot be written.
    """
    with replacing(path, kind) as temporary:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)


def check_writable(path: str | os.PathLike) -> None:
    """Raise OSError unless `path` can be written: create and remove a temporary file as `replacing` does.

    A name that is too long and a folder of that name are errors, too.
    """
    path = os.path.abspath(os.fspath(path))
    _check_name(path)
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    handle, temporary = _new_temporary(*os.path.split(path))
    _close(handle)
    os.unlink(temporary)


class NewFolder:
    """A folder that is filled under a temporary name, `temporary`, until `complete` gives it its own.

    Temporary folders that killed processes left behind for the same path are removed first.

    path: the folder, which does not exist yet.  OSError when its parent folder cannot be written.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self._path = os.path.abspath(os.fspath(path))
        _check_name(self._path)
        remove_leftovers(self._path)
        self._handle, self.temporary = _new_temporary(*os.path.split(self._path), is_folder=True)

    def complete(self, flush: bool = True) -> None:
        """Flush all files and the folder to the disk, and rename it.  OSError when that fails.

        flush: False for many files that can be made again (default True); then it may have folders, too.
        """
        if flush:
            for name in os.listdir(self.temporary):
                _flush(os.path.join(self.temporary, name))
            sync_folder(self.temporary)
        os.rename(self.temporary, self._path)
        sync_folder(os.path.dirname(self._path))

    def close(self) -> None:
        """Remove the folder, unless it is complete, and unlock it; calls after the first have no effect."""
        shutil.rmtree(self.temporary, ignore_errors=True)
        _close(self._handle)
        self._handle = -1


def _flush(path: str, handle: int = -1) -> None:
    """Flush a file to the disk, through its open descriptor `handle`, unless that is -1."""
    descriptor = handle if handle >= 0 else os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        if handle < 0:
            os.close(descriptor)


def _close(handle: int) -> None:
    """Close a descriptor of `_new_temporary`."""
    if handle >= 0:
        os.close(handle)


def sync_folder(folder: str) -> None:
    """Flush a folder to the disk, so that the names of its files survive a power failure."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- temporary files of dead processes ---------------------------------------------------------------------------------


def remove_leftovers(prefix: str) -> list[str]:
    """Remove temporary files and folders of killed processes for paths that start with `prefix`.

    Returns their paths.  Those that a living process is writing are kept.
    """
    folder, start = os.path.split(os.path.abspath(prefix))
    removed = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            match = _TEMPORARY.fullmatch(entry.name)
            if match and match["name"].startswith(start) and not entry.is_symlink():
                with contextlib.suppress(OSError):
                    if _abandoned(entry.path):
                        shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)
                        removed.append(entry.path)
    return removed


def _new_temporary(folder: str, name: str, is_folder: bool = False) -> tuple[int, str]:
    """Create a temporary file or folder for `name`, lock it, and return its descriptor and path.

    The descriptor is -1 on systems without such locks: Windows, which neither opens a folder nor renames an open file.
    """
    _check_name(os.path.join(folder, name))
    suffix = "" if is_folder else os.path.splitext(name)[1]
    shortened = os.fsdecode(os.fsencode(name)[: 236 - len(os.fsencode(suffix))])
    while True:
        temporary = os.path.join(folder, f".{shortened}{_PART}{secrets.token_hex(4)}{suffix}")
        try:
            if is_folder:
                os.mkdir(temporary)
            handle = _open_temporary(temporary, is_folder)
            if fcntl is None:
                _close(handle)
                return -1, temporary
            if lock(handle) and os.path.exists(temporary):  # else `remove_leftovers` of another process was faster
                return handle, temporary
            os.close(handle)
        except FileExistsError:
            continue
        except BaseException:  # of a signal too, in which case the file may exist
            with contextlib.suppress(OSError, ValueError):
                (os.rmdir if is_folder else os.unlink)(temporary)
            raise


def _open_temporary(path: str, is_folder: bool) -> int:
    """Create and open a temporary file, or open a temporary folder."""
    if not is_folder:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY) if hasattr(os, "O_DIRECTORY") else -1
    except FileNotFoundError as error:
        raise FileExistsError from error  # `remove_leftovers` of another process was faster: try another name


def lock(descriptor: int) -> bool:
    """Lock an open file or folder until it is closed; return False if another process has locked it.

    On systems and file systems without such locks, nothing is locked and the result is True.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _abandoned(path: str) -> bool:
    """Whether no process has locked a temporary file or folder; False on systems without locks."""
    if fcntl is None:
        return False
    descriptor = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
