"""How many cores this process may use: those of its affinity, and no more than its cgroups' quotas.

A container started with `--cpus 2` may run on every core of the machine, but its threads together only for 200 ms of
processor time in each period of 100 ms; then all of them stop until the next period.  Linux states that quota in a file
of the process's cgroup, or of one of its parents: `cpu.max` in version 2, `cpu.cfs_quota_us` in version 1.

Sources: Linux's Documentation/admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst (version 1); cgroups(7)
and proc_pid_mountinfo(5) for the files in /proc.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_VERSION_1, _VERSION_2 = "cgroup", "cgroup2"  # types of file systems
_GROUP = re.compile(r"^\d+:([^:]*):(.*)$", re.MULTILINE)  # "4:cpu,cpuacct:/path", in version 2 "0::/path"
#: "36 25 0:32 /root /mount/point options - type source options"
_MOUNT = re.compile(r"^\S+ \S+ \S+ (\S+) (\S+) .* - (\S+) \S+ (\S+)$", re.MULTILINE)


def cores(process: str = "/proc/self") -> int:
    """Return the number of cores that this process may use, at least 1.

    process: the folder of the process in Linux's /proc.
    A quota is rounded up: one of 1.5 cores is used up by two threads, which stop in a quarter of each period, and not
    by one thread.
    """
    return max(1, min([affinity(), *map(math.ceil, quotas(process))]))


def affinity() -> int:
    """Return the number of cores that this process may run on; all cores where the system does not state it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quotas(process: str = "/proc/self") -> list[float]:
    """Return the quotas, in cores, of the process's cgroups and of all their parents; [] where there are none."""
    return [quota for kind, folder in _folders(process) if (quota := _quota(kind, folder)) is not None]


def _quota(kind: str, folder: Path) -> float | None:
    """Return the quota of one cgroup, in cores; None if it has none."""
    if kind == _VERSION_2:
        limit = re.fullmatch(r"(\d+) (\d+)", _text(folder / "cpu.max"))  # or "max 100000"
        return int(limit[1]) / int(limit[2]) if limit else None
    quota, period = (_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None  # the quota may be -1


def _folders(process: str) -> Iterator[tuple[str, Path]]:
    """Yield (version, folder) of the process's cgroups and of their parents, as far as they are mounted."""
    paths = {}
    for controllers, path in _GROUP.findall(_text(Path(process, "cgroup"))):
        if not controllers:
            paths[_VERSION_2] = path
        elif "cpu" in controllers.split(","):
            paths[_VERSION_1] = path
    for root, mount, kind, options in _MOUNT.findall(_text(Path(process, "mountinfo"))):
        if kind not in paths or (kind == _VERSION_1 and "cpu" not in options.split(",")):
            continue
        path = PurePosixPath(paths[kind])
        if ".." in path.parts or not path.is_relative_to(root):
            continue  # the process is in a cgroup above those that are mounted here
        inner = path.relative_to(root)
        for part in (inner, *inner.parents):
            yield kind, Path(mount, part)


def _text(path: Path) -> str:
    """Return what a small file contains, stripped; "" if it cannot be read."""
    try:
        return path.read_text("utf-8", "surrogateescape").strip()
    except OSError:
        return ""
