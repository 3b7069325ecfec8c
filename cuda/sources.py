"""The sources of kernels: files ``<stem>.cu`` of this folder, and generated ones (`define`).

The compiler gets one string: ``common.cuh`` comes first, and a line ``#include "gemm.cuh"`` is replaced by that file.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path

from minicaffe.errors import DeviceError, nearest

HERE = Path(__file__).resolve().parent
_SIGNATURE = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
#: the types of parameters beside Dtype, with their formats in `struct`
FORMATS = {
    "pointer": "P",
    "int": "i",
    "unsigned": "I",
    "unsigned int": "I",
    "float": "f",
    "double": "d",
    "size_t": "Q",
    "long long": "q",
    "unsigned long long": "Q",
    "bool": "?",
}


class Sources:
    """Texts, and the signatures of the kernels in them, by stem; `SOURCES` below is the only instance."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._defined: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._signatures: dict[str, dict[str, tuple[str, ...]]] = {}

    def define(self, stem: str, text: str) -> None:
        """Register a generated text under a stem, in place of a file, as elementwise layers do."""
        with self._lock:
            self._defined[stem] = text
            self._texts.pop(stem, None)
            self._signatures.pop(stem, None)

    def text(self, stem: str) -> str:
        """The whole text for a stem, headers included; raises DeviceError when there is no such file."""
        with self._lock:
            if stem not in self._texts:
                whole = _included("common.cuh") + _inline(f"{stem}.cu", self._defined.get(stem) or _read(stem))
                self._texts[stem] = re.sub(r'(?<!extern "C" )__global__', 'extern "C" __global__', whole)
            return self._texts[stem]

    def parameters(self, stem: str) -> dict[str, list[str]]:
        """The kernels of a text and their parameters as written."""
        text = _COMMENT.sub(" ", self.text(stem))
        return {name: [p for p in given.split(",") if p.strip()] for name, given in _SIGNATURE.findall(text)}

    def signatures(self, stem: str) -> dict[str, tuple[str, ...]]:
        """The kernels of a text and the types of their parameters: "pointer", or as written without qualifiers."""
        with self._lock:
            if stem not in self._signatures:
                self._signatures[stem] = {
                    name: tuple(_type(each, stem, name) for each in parameters)
                    for name, parameters in self.parameters(stem).items()
                }
            return self._signatures[stem]


SOURCES = Sources()


def _read(stem: str) -> str:
    path = HERE / f"{stem}.cu"
    if not path.exists():
        known = sorted(p.relative_to(HERE).with_suffix("").as_posix() for p in HERE.rglob("*.cu"))
        raise DeviceError(f"there is no kernel file cuda/{stem}.cu{nearest(stem, known)}")
    return path.read_text()


def _included(name: str) -> str:
    return _inline(name, (HERE / name).read_text())


def _inline(name: str, text: str) -> str:
    """Replace lines that include a header of this folder by the header; compilers report the files' line numbers."""
    lines = [f'#line 1 "{name}"']
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r'#include "([\w.]+)"', line)
        lines.append(f'{_included(header[1])}#line {number + 1} "{name}"' if header else line)
    return "\n".join(lines) + "\n"


def _type(parameter: str, stem: str, name: str) -> str:
    if "*" in parameter:
        return "pointer"
    words = [w for w in parameter.split() if w not in ("const", "__restrict__", "__grid_constant__")][:-1]
    found = " ".join(words)
    if found != "Dtype" and found not in FORMATS:
        raise DeviceError(
            f"cuda/{stem}.cu: kernel {name} has a parameter of a type that cannot be passed: {parameter.strip()}"
        )
    return found
