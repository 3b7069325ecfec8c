"""What minicaffe raises: one sentence that names the layer, blob or file, what was expected and what came.

Where the original ends the process with a failed CHECK, minicaffe raises one of these.  The command line prints
the sentence and exits with status 1; a script may catch `MinicaffeError` for all of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MinicaffeError(Exception):
    """Everything that a user's input can cause."""


class PrototxtError(MinicaffeError):
    """A prototxt or binary proto that cannot be read; names file, line and column where they are known."""


class BlobError(MinicaffeError, ValueError):
    """A shape, an axis or a size that a blob cannot have."""


class LayerError(MinicaffeError):
    """A layer that refuses its parameters or its bottoms; the text starts with type and name of the layer."""


class NetError(MinicaffeError):
    """A graph that makes no sense: unknown bottoms, two producers of one blob, parameters that cannot be shared."""


class SolverError(MinicaffeError):
    """A solver parameter that is missing, unknown or contradicts another one."""


class DataError(MinicaffeError):
    """A database, image, list or HDF5 file that is missing, truncated or of another shape."""


class SnapshotError(MinicaffeError):
    """Weights or a solver state that do not fit the net, cannot be read, or could not be written."""


class DeviceError(MinicaffeError):
    """A device or an engine that is not there, or that failed."""


class UsageError(MinicaffeError):
    """A call or a command line whose arguments do not go together."""


class ShapeError(UsageError, BlobError):
    """An array given to a net that does not fit the blob it is for; a ValueError, as numpy raises one there."""


class UnknownNameError(UsageError, KeyError):
    """A name that a net's dict does not hold; a KeyError, as every dict raises one."""

    __str__ = Exception.__str__  # KeyError's would put quotes around the sentence


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint ' (did you mean "x"?)' for the known name closest to `name`, or '' when nothing is close."""
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f' (did you mean "{by_lower[close[0]]}"?)' if close else ""


def listed(names: Iterable[str], limit: int = 8) -> str:
    """Names for a sentence: 'a, b', at most `limit` of them, then how many more there are."""
    names = [name or "(unnamed)" for name in names]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
