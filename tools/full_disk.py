#!/usr/bin/env python
"""Run every command that writes files on a disk with more and more room (tests/support/full_disk), and print faults.

python tools/full_disk.py                              # every command at 20 fill levels
python tools/full_disk.py --commands train_hdf5,draw_svg --levels 100

It mounts a tmpfs, which needs the rights of root; without them, the size of each file is limited instead.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from full_disk.commands import COMMANDS  # noqa: E402  (needs the line above)
from full_disk.trial import Inputs, clear, faults, put_older  # noqa: E402

_DISK = 16 << 20  #: bytes of the tmpfs
_PAGE = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description="Run every command that writes files on a full disk.")
    parser.add_argument("--commands", default=",".join(COMMANDS), help="names separated by commas (default: all)")
    parser.add_argument("--levels", type=int, default=20, help="how many fill levels (default 20)")
    parser.add_argument("--show", action="store_true", help="print the sentence of each level")
    args = parser.parse_args()
    bad = 0
    with small_disk() as (disk, mounted), tempfile.TemporaryDirectory() as temporary:
        print("on a tmpfs" if mounted else "with a limit on the size of files", flush=True)
        folder, room = Path(temporary, "inputs"), Path(temporary, "room")
        folder.mkdir()
        room.mkdir()
        inputs = Inputs(folder, room)
        for name in args.commands.split(","):
            bad += run(name, inputs, disk, mounted, args.levels, args.show)
    print(f"{bad} faults")
    raise SystemExit(1 if bad else 0)


@contextlib.contextmanager
def small_disk() -> Iterator[tuple[Path, bool]]:
    """Yield a folder, and whether it is a file system of its own."""
    folder = Path(tempfile.mkdtemp())
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(folder)]
    mounted = shutil.which("mount") is not None and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield folder, mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
        shutil.rmtree(folder)


def run(name: str, inputs: Inputs, disk: Path, mounted: bool, levels: int, show: bool) -> int:
    """Run one command at all levels; print what is wrong, and return at how many levels."""
    command, whole = COMMANDS[name], inputs.whole(name)
    most = 1.3 * sum(map(len, whole.values())) + 8 * _PAGE if mounted else 1.1 * max(map(len, whole.values()))
    statuses, bad = "", 0
    for level in range(levels):
        clear(disk)
        (disk / "work").mkdir()
        older = put_older(command, whole, disk / "work")
        room = int(most * level / (levels - 1))
        if mounted:
            fill(disk / "filler", room)
        result = inputs.attempt(name, disk / "work", None if mounted else room)
        found = faults(name, whole, disk / "work", result, older)
        statuses += str(result.status) if result.status in (0, 1) else "!"
        bad += bool(found)
        if show and result.errors:
            print(f"{name}, room for {room} bytes: {result.errors.splitlines()[-1]}", flush=True)
        for phrase in found:
            print(f"{name}, room for {room} bytes: {phrase}", flush=True)
    print(f"{name}: status {statuses}, {bad} faults", flush=True)
    return bad


def fill(path: Path, room: int) -> None:
    """Write a file that leaves so many bytes on its file system, in whole pages."""
    state = os.statvfs(path.parent)
    with open(path, "wb") as file:
        size = state.f_bavail * state.f_frsize - room // _PAGE * _PAGE
        if size > 0:
            os.posix_fallocate(file.fileno(), 0, size)


if __name__ == "__main__":
    main()
