"""Changes of valid files: of their bytes, of the fields of messages, of JSON, of text."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

Rng = np.random.Generator

#: Numbers at which sizes, signs and conversions go wrong.
INTEGERS = [0, 1, -1, 2, 3, 7, 127, 128, 255, 256, 1000, 65535, 65536, 2**31 - 1, 2**31, -(2**31), 2**32, 2**62,
            2**63 - 1, -(2**63)]  # fmt: skip
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, 3.5e38, 1e300, float("inf"), float("-inf"), float("nan")]
TEXTS = ["", " ", "a", "\x1b[31m", "\0", "../x", "/dev/zero", "x" * 300, "%s", "$x_{1$", "=1+1", "\u202e", "é"]


def pick(rng: Rng, values: Any) -> Any:
    """Return one of a sequence."""
    return values[int(rng.integers(len(values)))]


def flip(rng: Rng, content: bytes) -> bytes:
    """Change bytes, one to six times: replace, insert, remove, repeat, truncate, or overwrite with an odd number."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 7))):
        at, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 9))
        match int(rng.integers(7)):
            case 0 | 1 if at < len(data):
                data[at] = int(rng.integers(256))
            case 2:
                number = pick(rng, INTEGERS) & (1 << 8 * length) - 1
                data[at : at + length] = number.to_bytes(length, pick(rng, ["little", "big"]))
            case 3:
                data[at:at] = rng.bytes(length)
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = data[at : at + length] * int(rng.integers(1, 20))
            case 6 if rng.random() < 0.3:
                del data[at:]
    return bytes(data)


def put_number(rng: Rng, data: bytearray, at: int, size: int) -> None:
    """Replace the little-endian number of `size` bytes at `at` by an odd one, a small one, or one close to it."""
    old = int.from_bytes(data[at : at + size], "little")
    number = pick(rng, [pick(rng, INTEGERS), int(rng.integers(20)), old + int(rng.integers(-3, 4)), old * 2])
    data[at : at + size] = (number & (1 << 8 * size) - 1).to_bytes(size, "little")


def change_message(rng: Rng, message: Message) -> None:
    """Change one to three fields of a message or of a message inside it, to odd values or by removing them."""
    for _ in range(int(rng.integers(1, 4))):
        parts = [message]
        _collect(message, parts)
        _change_field(rng, pick(rng, parts))


def _collect(message: Message, parts: list[Message]) -> None:
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for each in [value] if isinstance(value, Message) else value:
                parts.append(each)
                _collect(each, parts)


def _change_field(rng: Rng, message: Message) -> None:
    present = [field for field, _ in message.ListFields()]
    fields = present if present and rng.random() < 0.7 else list(message.DESCRIPTOR.fields)
    field = pick(rng, fields)
    many = not isinstance(getattr(message, field.name), Message) and hasattr(getattr(message, field.name), "append")
    if rng.random() < 0.15:
        message.ClearField(field.name)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        value = getattr(message, field.name)
        if many and len(value) and rng.random() < 0.5:
            value.append(pick(rng, value))
        elif many:
            value.add()
        else:
            value.SetInParent()
    else:
        _set_value(rng, message, field, many)


def _set_value(rng: Rng, message: Message, field: FieldDescriptor, many: bool) -> None:
    value = odd_value(rng, field)
    try:
        if not many:
            setattr(message, field.name, value)
            return
        values = getattr(message, field.name)
        if len(values) and rng.random() < 0.7:
            values[int(rng.integers(len(values)))] = value
        else:
            values.append(value)
    except (ValueError, TypeError):  # beyond the range of the field's type
        pass


def odd_value(rng: Rng, field: FieldDescriptor) -> Any:
    """Return an odd value for a field of a message that is not a message."""
    if field.type == FieldDescriptor.TYPE_ENUM:
        return pick(rng, list(field.enum_type.values_by_number))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return bool(rng.integers(2))
    if field.type == FieldDescriptor.TYPE_STRING:
        return pick(rng, TEXTS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.bytes(int(rng.integers(20)))
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return pick(rng, FLOATS)
    return int(rng.integers(-3, 12)) if rng.random() < 0.5 else pick(rng, INTEGERS)


def change_json(rng: Rng, content: bytes) -> bytes:
    """Change one to three values of a JSON document, or, one time in ten, its bytes."""
    if rng.random() < 0.1:
        return flip(rng, content)
    tree = [json.loads(content)]
    for _ in range(int(rng.integers(1, 4))):
        _change_tree(rng, tree)
    return json.dumps(tree[0]).encode("utf-8", "surrogatepass")


def _change_tree(rng: Rng, tree: Any) -> None:
    key = pick(rng, list(tree) if isinstance(tree, dict) else range(len(tree)))
    if isinstance(tree[key], (dict, list)) and tree[key] and rng.random() < 0.85:
        _change_tree(rng, tree[key])
    elif rng.random() < 0.2 and len(tree) > 1:
        del tree[key]
    else:
        tree[key] = pick(rng, [*INTEGERS, *FLOATS, *TEXTS, None, True, [], {}, [[]], 2**70])


def change_words(rng: Rng, content: bytes) -> bytes:
    """Change one to five words of a text, or, one time in five, its bytes."""
    if rng.random() < 0.2:
        return flip(rng, content)
    lines = [line.split(" ") for line in content.decode("utf-8", "surrogateescape").split("\n")]
    for _ in range(int(rng.integers(1, 6))):
        words = pick(rng, lines)
        at = int(rng.integers(len(words) + 1))
        match int(rng.integers(6)):
            case 0 if words and at < len(words):
                words[at] = str(pick(rng, [*INTEGERS, *FLOATS, *TEXTS]))
            case 1:
                words.insert(at, str(pick(rng, [*INTEGERS, *FLOATS, *TEXTS])))
            case 2:
                del words[at : at + 1]
            case 3:
                lines.insert(int(rng.integers(len(lines) + 1)), list(pick(rng, lines)))
            case 4 if len(lines) > 1:
                del lines[int(rng.integers(len(lines)))]
            case 5 if at < len(words):
                words[at] = words[at] * int(rng.integers(2, 30))
    return "\n".join(" ".join(words) for words in lines).encode("utf-8", "surrogateescape")
