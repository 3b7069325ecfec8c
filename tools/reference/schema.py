"""Fields of messages: name, type and default from the descriptors, the meaning from the comments in minicaffe/proto.

A comment belongs to what is in its line, or to what follows in the line below it.  In a message, `// -- title --`
begins a section of its fields; in extensions/ the title is the name of a fork.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from minicaffe.proto import caffe_pb2
from minicaffe.proto.unknown import is_repeated
from reference.docstrings import capital, cell

FOLDER = Path(caffe_pb2.__file__).parent

_OPENS = re.compile(r"(?:message|enum) (\w+) \{")
_NAMED = re.compile(r"(?:(?:optional|repeated|required) [\w.]+ )?(\w+) = -?\w+[^;]*;(?:\s*// (.*))?")
_SECTION = re.compile(r"// -- (.+?) --$")


class Note(NamedTuple):
    """What the schema states about a field, a value of an enum, or a message: its comment, its section, its file."""

    comment: str = ""
    section: str = ""
    file: str = ""


class Field(NamedTuple):
    """A field of a message as a reader needs it; `descriptor` is protobuf's."""

    descriptor: Any
    note: Note

    @property
    def name(self) -> str:
        return self.descriptor.name

    @property
    def fork(self) -> str:
        """The fork that has the field in addition to those of Caffe's master; "" for master's."""
        return "" if self.note.file == "caffe.proto" else self.note.section


@functools.cache
def notes() -> dict[str, Note]:
    """{qualified name: Note}: of "LossParameter", "LossParameter.normalize", "LossParameter.NormalizationMode.FULL"."""
    found = _notes_of("caffe.proto")
    for path in sorted(FOLDER.glob("extensions/*.proto")):
        found = _notes_of(path.relative_to(FOLDER).as_posix()) | found
    return found


def _notes_of(file: str) -> dict[str, Note]:
    found: dict[str, Note] = {}
    scope: list[str] = []
    above: list[str] = []
    section = ""
    for line in map(str.strip, (FOLDER / file).read_text(encoding="utf-8").splitlines()):
        if title := _SECTION.match(line):
            section, above = title[1], []
        elif line.startswith("//"):
            above.append(line[2:].strip())
        else:
            if opened := _OPENS.match(line):
                scope.append(opened[1])
                section = section if len(scope) > 1 else ""
                found[".".join(scope)] = Note(" ".join(above), section, file)
            elif named := _NAMED.match(line):
                comment = " ".join([*above, *([named[2]] if named[2] else [])])
                found[".".join([*scope, named[1]])] = Note(comment, section, file)
            elif line == "}":
                scope.pop()
            above = []
    return found


def fields(message: str) -> list[Field]:
    """The fields of a message, by name: master's in the order of caffe.proto, then those of forks."""
    known = notes()
    ordered = {name: place for place, name in enumerate(known)}
    found = [Field(each, known[f"{message}.{each.name}"]) for each in descriptor(message).fields]
    return sorted(found, key=lambda field: (field.fork != "", ordered[f"{message}.{field.name}"]))


def descriptor(message: str) -> Any:
    """protobuf's descriptor of a message."""
    return getattr(caffe_pb2, message).DESCRIPTOR


def type_of(field: Any, link: Callable[[str], str]) -> str:
    """The type of a field for a table: a scalar's name, the values of an enum, or a link to a message.

    field: its descriptor.  link: function of a message's name, which returns Markdown.
    """
    if field.message_type:
        name = link(field.message_type.name)
    elif field.enum_type:
        name = ", ".join(f"`{value.name}`" for value in _values(field.enum_type))
    else:
        name = _SCALARS[field.type]
    return f"{name}, repeated" if is_repeated(field) else name


def _values(enum: Any) -> list[Any]:
    """The values of an enum, those with a number that an earlier one has left out."""
    known: dict[int, Any] = {}
    for value in enum.values:
        known.setdefault(value.number, value)
    return list(known.values())


_SCALARS = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in vars(type(descriptor("BlobProto").fields[0])).items()
    if name.startswith("TYPE_")
}


def default_of(field: Any) -> str:
    """The default of a field for a table; "" where it has none: messages, lists, and fields without a default."""
    if not field.has_default_value:
        return ""
    value = field.default_value
    if field.enum_type:
        return next(each.name for each in _values(field.enum_type) if each.number == value)
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f"{value:.6g}".replace("e-0", "e-")


def meaning_of(field: Field) -> str:
    """The comment of a field, and those of the values of its enum."""
    kind = field.descriptor.enum_type
    scope = kind.full_name.split(".", 1)[1] if kind else ""
    known = notes()
    explained = [f"{v.name}: {c}" for v in (_values(kind) if kind else ()) if (c := known[f"{scope}.{v.name}"].comment)]
    comment = field.note.comment or _COMMON.get(field.name, "")
    return ". ".join(part.rstrip(".") for part in (capital(comment), "; ".join(explained)) if part)


_COMMON = {"engine": "the engine that computes the layer; DEFAULT: the fastest that is installed"}  # of many messages


def table(
    message: str,
    chosen: Iterable[Field],
    link: Callable[[str], str],
    further: Mapping[str, Callable[[Field], str]] = MappingProxyType({}),
) -> list[str]:
    """The lines of a table of fields in Markdown.

    message: of caffe.proto: the fields that forks added are marked with the fork's name; "": nothing is marked.
    further: more columns: a title, and a function of the field.
    """
    titles = ["Field", "Type", "Default", "Meaning", *further]
    lines = ["", *(f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(titles)))]
    for field in chosen:
        default = f"`{text}`" if (text := default_of(field.descriptor)) else ""
        origin = f"*{field.fork}.* " if field.fork and message in _OF_BOTH else ""
        cells = [f"`{field.name}`", type_of(field.descriptor, link), default, origin + cell(meaning_of(field))]
        lines.append(f"| {' | '.join([*cells, *(column(field) for column in further.values())])} |")
    return lines


#: messages of caffe.proto, whose additions are marked with the fork
_OF_BOTH = {name for name, note in notes().items() if note.file == "caffe.proto"}
