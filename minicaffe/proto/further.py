"""Fields that forks repeat and that have one value here, so that scripts read them as master's.

The text reader puts the first value into the field, and the others, in their order, into a repeated field of this
package; `format_text` writes all under the name of the first.  `all_values` returns them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

#: By "Message.field", the field for all values after the first.
FURTHER = {
    "PoolingParameter.kernel_size": "more_kernel_size",
    "PoolingParameter.pad": "more_pad",
    "PoolingParameter.stride": "more_stride",
    "SolverParameter.device_id": "more_device_id",
    "TransformationParameter.noise_param": "more_noise_param",
    "TransformationParameter.resize_param": "more_resize_param",
}
_FIRST = {more: name.partition(".")[2] for name, more in FURTHER.items()}
_PRINTED = re.compile(rf"^( *)({'|'.join(_FIRST)})\b", re.MULTILINE)


class Edit(NamedTuple):
    """A change of a text that keeps its lines: `new` in place of text[start:end]."""

    start: int
    end: int
    new: str


def further_field(message: str, name: str) -> str | None:
    """Return the field for all values after the first of a field; None if such values are an error."""
    return FURTHER.get(f"{message}.{name}")


def all_values(message: Any, name: str) -> list:
    """Return the values of a field, several if forks repeat it; [] if it is not given."""
    more = list(getattr(message, FURTHER.get(f"{message.DESCRIPTOR.name}.{name}", ""), ()))
    return [getattr(message, name), *more] if message.HasField(name) else more


def edited(text: str, edits: Sequence[Edit]) -> str:
    """Return the text with all edits, which do not overlap."""
    parts, at = [], 0
    for edit in sorted(edits):
        parts += [text[at : edit.start], edit.new]
        at = edit.end
    return "".join(parts) + text[at:]


def original_column(text: str, edits: Sequence[Edit], line: int, column: int) -> int:
    """Return the column, from 1, in the text before the edits, of one in the edited text."""
    start = sum(len(each) + 1 for each in text.split("\n")[: line - 1])
    end = start + len(text[start:].partition("\n")[0])
    for edit in sorted(edits):
        if start <= edit.start < end and column > edit.start - start + len(edit.new):
            column -= len(edit.new) - (edit.end - edit.start)
    return column


def with_first_names(text: str) -> str:
    """Return printed text with the values of the repeated fields under the names of the first."""
    return _PRINTED.sub(lambda match: match[1] + _FIRST[match[2]], text)
