"""Read-only containers of blobs: `net.blobs`, `net.params` and `layer.blobs`.

Their entries are the blobs that the net computes with, so an entry cannot be replaced.  Values are written into a blob:
`net.blobs["data"].data[...] = array`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.errors import LayerError, UnknownNameError, UsageError, nearest


class ReadOnlyDict(dict):
    """A read-only dict: a change raises UsageError, an unknown name UnknownNameError.

    entries: pairs (name, value).  what: kind of the entries, for the message "the net has no <what> 'name'".
    refusal: message of the UsageError.
    Copies (`dict(d)`, `copy.copy`, `copy.deepcopy`) can be changed.
    """

    __slots__ = ("_what", "_refusal")

    def __init__(self, entries: Iterable[tuple[str, Any]], what: str, refusal: str) -> None:
        super().__init__(entries)
        self._what, self._refusal = what, refusal

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UsageError(self._refusal)

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse  # type: ignore[assignment]  # all refuse

    def __missing__(self, name: Any) -> NoReturn:
        has = f"{nearest(str(name), self)}; it has {', '.join(self) or 'none'}"
        raise UnknownNameError(f"the net has no {self._what} {name!r}{has}")

    def __reduce__(self) -> tuple:
        return OrderedDict, (list(self.items()),)


class BlobVec(list):
    """The list of a layer's parameter blobs.

    layer_name: for error messages.  dtype: dtype of the blobs.

    Blobs are added while the layer is set up (`add_blob`); after `complete`, any change of the list raises UsageError.
    """

    __slots__ = ("_layer_name", "_dtype", "_complete")

    def __init__(self, layer_name: str, dtype: np.typing.DTypeLike) -> None:
        super().__init__()
        self._layer_name, self._dtype, self._complete = layer_name, dtype, False

    def add_blob(self, *shape: int) -> None:
        """Append a blob of the given shape, filled with zeros."""
        self.append(Blob(shape, self._dtype))

    def complete(self) -> None:
        """Make the list read-only; LayerError for an entry that is not a Blob."""
        for i, entry in enumerate(self):
            if not isinstance(entry, Blob):
                raise LayerError(f"blobs[{i}] must be a blob, as add_blob makes them, got {type(entry).__name__}")
        self._complete = True

    def __reduce__(self) -> tuple:
        return list, (list(self),)


def _until_complete(name: str) -> Callable[..., Any]:
    """Return the method of `list` with that name, which raises UsageError once the BlobVec is complete."""
    method = getattr(list, name)

    def change(self: BlobVec, *args: Any, **kwargs: Any) -> Any:
        if self._complete:
            layer = self._layer_name
            raise UsageError(
                f"layer '{layer}': its parameter blobs cannot be replaced, added or removed; to write values: "
                f'net.params["{layer}"][0].data[...] = array'
            )
        return method(self, *args, **kwargs)

    change.__name__, change.__doc__ = name, method.__doc__
    return change


for _name in ("__setitem__", "__delitem__", "__iadd__", "__imul__", "append", "extend", "insert", "pop", "remove",
              "clear", "sort", "reverse"):  # fmt: skip
    setattr(BlobVec, _name, _until_complete(_name))
