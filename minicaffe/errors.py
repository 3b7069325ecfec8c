"""The exceptions of minicaffe.

Each message is one sentence that names the layer, blob or file, the expected value and the given one.  Where the
original ends the process with a failed CHECK, minicaffe raises one of these.  The command line prints the message and
exits with status 1; a script can catch `MinicaffeError`, the base class of all of them.

Names from files are part of the messages.  `str(error)`, which tracebacks print, is one line, with control characters
escaped; `error.args` has the text as it is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_UNPRINTABLE = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def printable(text: str) -> str:
    r"""Replace control characters by escapes such as \x1b, so that names from a file cannot control a terminal.

    Newlines and tabs are kept.  Replaced are also characters that change the direction of text, bytes that are not
    UTF-8, which `os.fsdecode` keeps as surrogates, and the others that XML forbids.
    """
    return _UNPRINTABLE.sub(_escape, text)


def printable_line(text: str) -> str:
    r"""Return `printable(text)` in one line: newlines and tabs are shown as \n and \t."""
    return printable(text).replace("\n", r"\n").replace("\t", r"\t")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte kept by surrogateescape
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class MinicaffeError(Exception):
    """Base class of all errors that a user's input can cause."""

    def __str__(self) -> str:
        return printable_line(super().__str__())


class PrototxtError(MinicaffeError):
    """A prototxt or binary proto that cannot be read; the message gives file, line and column if available."""


class BlobError(MinicaffeError, ValueError):
    """A shape, axis or size that is invalid for a blob."""


class LayerError(MinicaffeError):
    """Invalid parameters or bottoms of a layer; the message starts with the layer's type and name."""


class NetError(MinicaffeError):
    """An invalid graph: an unknown bottom, two producers of one blob, parameters that cannot be shared."""


class SolverError(MinicaffeError):
    """A solver parameter that is missing, unknown or contradicts another one."""


class DataError(MinicaffeError):
    """A database, image, list or HDF5 file that is missing, truncated or of another shape."""


class SnapshotError(MinicaffeError):
    """Weights or a solver state that do not fit the net, cannot be read, or could not be written."""


class ExportError(MinicaffeError):
    """A net, or a layer of it, that another format cannot express."""


class DeviceError(MinicaffeError):
    """A device or an engine that is not available, or that failed; a compiler's messages are further lines."""

    def __str__(self) -> str:
        return printable(Exception.__str__(self))


class ParallelError(MinicaffeError):
    """The processes of one training cannot reach each other, or one of them has failed."""


class UsageError(MinicaffeError):
    """Arguments of a call or a command line that are invalid or contradict each other."""


class ShapeError(UsageError, BlobError):
    """An array whose shape does not match the blob it is assigned to; also a ValueError, as numpy raises."""


class UnknownNameError(UsageError, KeyError):
    """A name that is missing from one of a net's dicts; also a KeyError, as dicts raise."""

    def __str__(self) -> str:
        return printable_line(Exception.__str__(self))  # KeyError.__str__ puts quotes around the message


def nearest(name: str, known: Iterable[str], limit: int = 1) -> str:
    """Return the hint ' (did you mean "x"?)' with the known name most similar to `name`; '' if none is similar.

    limit: how many such names there may be (default 1): ' (did you mean "x", "y" or "z"?)'.
    """
    by_lower = {k.lower(): k for k in known}
    close = [f'"{by_lower[each]}"' for each in difflib.get_close_matches(name.lower(), by_lower, n=limit, cutoff=0.6)]
    names = " or ".join([*([", ".join(close[:-1])] if close[1:] else []), *close[-1:]])
    return f" (did you mean {names}?)" if close else ""


def listed(names: Iterable[str], limit: int = 8) -> str:
    """Join names for a message: 'a, b', at most `limit` of them, followed by the number of the others."""
    names = [name or "(unnamed)" for name in names]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
