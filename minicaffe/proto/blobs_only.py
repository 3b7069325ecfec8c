"""A binary net without the parameters of its layers: what is left can be read whichever fork wrote it.

Forks gave the same field numbers of LayerParameter to different messages: 203 is the lstm_param of one and SSD's
prior_box_param here.  Most such bytes parse as a message that has other fields, which nothing reads in weights; some do
not, such as those of a message where a string is expected.  The numbers of names, bottoms, tops and blobs are the same
in all forks.
"""

from __future__ import annotations

from collections.abc import Iterator

from minicaffe.errors import PrototxtError
from minicaffe.varint import read_varint, varint

_NAME, _V1_LAYERS, _LAYERS = 1, 2, 100  #: numbers in NetParameter
#: the greatest number of what every layer has: of LayerParameter propagate_down, of V1LayerParameter weight_decay
_COMMON = {_LAYERS: 11, _V1_LAYERS: 8}
_SIZES = {1: 8, 5: 4}  #: bytes of numbers of fixed size, by wire type


def without_parameters(content: bytes) -> bytes:
    """Return the bytes of a NetParameter with its name and, of each layer, what all layers have.

    PrototxtError for bytes that are not fields, or end within one.
    """
    kept = []
    try:
        for number, start, value, end in _fields(content, 0, len(content)):
            if number in _COMMON:
                layer = b"".join(
                    content[first:last]
                    for inner, first, _, last in _fields(content, value, end)
                    if inner <= _COMMON[number]
                )
                kept.append(varint(number << 3 | 2) + varint(len(layer)) + layer)
            elif number == _NAME:
                kept.append(content[start:end])
    except ValueError as error:
        raise PrototxtError(str(error)) from None
    return b"".join(kept)


def _fields(content: bytes, position: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (number, start, start of the value, end) of the fields in a part of the bytes.

    ValueError for a field that does not end in the part, has the number 0, or is a group.
    """
    while position < stop:
        start = position
        tag, value = read_varint(content, position)
        kind = tag & 7
        if tag < 8:
            raise ValueError("a field of the number 0")
        if kind == 0:
            position = read_varint(content, value)[1]
        elif kind == 2:
            length, value = read_varint(content, value)
            position = value + length
        elif kind in _SIZES:
            position = value + _SIZES[kind]
        else:
            raise ValueError(f"a field of the wire type {kind}")
        if position > stop:
            raise ValueError("a field that ends behind its message")
        yield tag >> 3, start, value, position
