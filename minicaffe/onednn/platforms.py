"""Where the oneDNN library is on each operating system: what `library.py` opens, as data."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import sys
from typing import NamedTuple

_FUNCTIONS = ("omp_get_max_threads", "omp_set_num_threads")


class Platform(NamedTuple):
    """An operating system.

    file: the library's file name, which the system's loader searches for, too.
    packages: PyPI packages that may contain the file, in the order in which they are tried.
    openmp: the library with OpenMP's functions; "" where they are found through oneDNN's library, which depends on it.
    needs: what the packages need from the system, and how to get it.
    """

    file: str
    packages: tuple[str, ...] = ()
    openmp: str = ""
    needs: str = ""

    def candidates(self) -> list[str]:
        """Paths and names to try in order; MINICAFFE_ONEDNN alone if it is set."""
        if os.environ.get("MINICAFFE_ONEDNN"):
            return [os.environ["MINICAFFE_ONEDNN"]]
        found = []
        for package in self.packages:
            try:
                files = importlib.metadata.files(package) or []
            except importlib.metadata.PackageNotFoundError:
                continue
            found += [os.path.realpath(file.locate()) for file in files if file.name == self.file]
        return [*found, self.file]

    def open(self, path: str) -> ctypes.CDLL:
        """Load oneDNN's library, with OpenMP's functions as attributes; OSError where that fails.

        On Windows a DLL's own folder is searched for what it depends on if `path` is absolute.
        """
        library = ctypes.CDLL(path)
        if self.openmp:
            openmp = ctypes.CDLL(self.openmp)
            for name in _FUNCTIONS:
                setattr(library, name, getattr(openmp, name))
        return library

    @property
    def advice(self) -> str:
        """How to get the library: a pip command, or that there is no package for this platform."""
        if self.packages:
            return f"pip install {self.packages[0]}" + (f"; it needs {self.needs}" if self.needs else "")
        return "no PyPI package has it for this platform; MINICAFFE_ONEDNN can give its path"


LINUX = Platform(
    "libdnnl.so.3",
    ("onednn-cpu-gomp", "onednn", "onednn-cpu-iomp"),
    needs="libgomp.so.1 and libstdc++.so.6, in Debian's packages libgomp1 and libstdc++6",
)
WINDOWS = Platform("dnnl.dll", ("onednn-cpu-vcomp",), "vcomp140.dll", "Microsoft's Visual C++ Redistributable")
MACOS = Platform("libdnnl.3.dylib", ("onednn-cpu-iomp",))

_BY_SYSTEM = {"win32": WINDOWS, "darwin": MACOS}


def current(system: str, machine: str) -> Platform:
    """The platform for `sys.platform` and `platform.machine()`; the packages are for x86-64 only."""
    found = _BY_SYSTEM.get(system, LINUX)
    return found if machine.lower() in ("x86_64", "amd64") else found._replace(packages=())


CURRENT = current(sys.platform, platform.machine())
