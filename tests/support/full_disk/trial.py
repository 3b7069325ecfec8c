"""One command in a process of its own, with little room, and what is wrong with the result."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from full_disk.commands import COMMANDS, Command, make_inputs
from minicaffe.cli import main

OLDER = b"an older file\n" * 40
_SECONDS = 120


class Result(NamedTuple):
    """What a process has left: exit status (negative: the signal that ended it), standard error, output."""

    status: int
    errors: str
    output: str


def in_child(work: Callable[[], int], folder: Path) -> Result:
    """Call a function in a forked child, in a folder; its return value is the exit status, 99 for an exception."""
    sys.stdout.flush()
    sys.stderr.flush()
    pipes = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            os.chdir(folder)
            for descriptor, (_, end) in zip((1, 2), pipes):
                os.dup2(end, descriptor)
            sys.stdout, sys.stderr = (open(descriptor, "w", closefd=False) for descriptor in (1, 2))
            signal.alarm(_SECONDS)
            status = work()
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    for _, end in pipes:
        os.close(end)
    output, errors = (_read(reading) for reading, _ in pipes)
    return Result(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), errors, output)


def _read(descriptor: int) -> str:
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        return file.read()


class Inputs:
    """What the commands read, in a folder, and the files that each command writes when there is room.

    folder: for the inputs; a new one.  room: a folder in which commands run for comparison; it is emptied each time.
    """

    def __init__(self, folder: Path, room: Path) -> None:
        self.folder, self.room = folder, room
        self._whole: dict[str, dict[str, bytes]] = {}
        self._expect(in_child(lambda: make_inputs(folder) or 0, folder))
        self._expect(in_child(lambda: self._run(COMMANDS["train_binary"]), folder))
        (folder / "s_iter_5.caffemodel").rename(folder / "small.caffemodel")

    def whole(self, name: str) -> dict[str, bytes]:
        """Return the files, by relative path, of a command that has room."""
        if name not in self._whole:
            clear(self.room)
            self._expect(self.attempt(name, self.room))
            self._whole[name] = files_in(self.room)
        return self._whole[name]

    def attempt(self, name: str, folder: Path, limit: int | None = None) -> Result:
        """Run a command in a folder; limit: the largest size of a file, in bytes; None: no limit."""

        def work() -> int:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            return self._run(COMMANDS[name])

        return in_child(work, folder)

    def _run(self, command: Command) -> int:
        command.prepare()
        if command.to_file:
            with open(command.to_file, "wb") as file:
                os.dup2(file.fileno(), 1)
        return main(command.words.format(inputs=self.folder).split())

    @staticmethod
    def _expect(result: Result) -> None:
        if result.status:
            raise RuntimeError(f"status {result.status}: {result.errors[-2000:]}")


def files_in(folder: Path) -> dict[str, bytes]:
    """Return the content of all files in a folder, by relative path, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def clear(folder: Path) -> None:
    """Remove everything in a folder."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def put_older(command: Command, whole: Mapping[str, bytes], folder: Path) -> set[str]:
    """Write older files under the names that a command writes; return the names.

    None are written for databases and events, whose folders or files are always new.
    """
    names = {name for name in whole if not _is_new(name) and name != command.to_file}
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(OLDER)
    return names


def _is_new(name: str) -> bool:
    return "events" in name or name.endswith(("data.mdb", "lock.mdb", "CURRENT", ".ldb", "MANIFEST-000002"))


def faults(name: str, whole: Mapping[str, bytes], folder: Path, result: Result, older: set[str]) -> list[str]:
    """Return what is wrong after a command that had little room, as phrases; [] if all is well.

    Status 0, or 1 with one sentence that names a file; older files whole; nothing hidden and nothing unfinished.
    """
    command, found = COMMANDS[name], _wrong_words(result, whole)
    left = files_in(folder)
    for path, content in left.items():
        if any(part.startswith(".") or ".part-" in part for part in Path(path).parts):
            found.append(f"left behind: {path}")
        elif not _may_be(command, path, content, whole.get(path), path in older):
            found.append(f"not whole: {path}, {len(content)} bytes")
    found += [f"lost: {path}" for path in older - left.keys()]
    if not result.status and not command.goes_on:
        found += [f"missing: {path}" for path in whole.keys() - left.keys() if "events" not in path]
        found += [f"not written: {path}" for path in older & left.keys() if left[path] == OLDER]
    return found


def _may_be(command: Command, path: str, content: bytes, whole: bytes | None, is_older: bool) -> bool:
    """Whether a file may have this content after a command."""
    if is_older and content == OLDER:
        return True
    if path.endswith("run.log"):
        return content.startswith(OLDER) and (content.endswith(b"\n") or content == OLDER)
    if "events" in path or path == command.to_file or path.endswith("cifar10_quick.log"):
        return True  # it grows
    if whole is None:
        return False
    return content == whole if command.repeatable else len(content) > len(whole) // 2


def _wrong_words(result: Result, whole: Mapping[str, bytes]) -> list[str]:
    """Return what is wrong with the exit status and the sentence."""
    sentences = [line for line in result.errors.splitlines() if line.startswith("minicaffe: ")]
    if result.status not in (0, 1):
        return [f"status {result.status}: {result.errors[-400:]}"]
    if "Traceback" in result.errors or "Exception ignored" in result.errors or len(sentences) != result.status:
        return [f"no sentence, status {result.status}: {result.errors[-400:]}"]
    parts = {part for path in whole for part in Path(path).parts} | {"standard output", "events"}
    if sentences and not any(part in sentences[0] for part in parts):
        return [f"no name: {sentences[0]}"]
    return []
