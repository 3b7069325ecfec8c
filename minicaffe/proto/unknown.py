"""All fields of a prototxt that cannot be read, with their places, where protobuf's parser stops at the first.

`faults_of` goes through the text with the schema: an unknown field is noted, and its value, or its whole message,
passed over; each value is parsed by protobuf on its own.  `without` removes such fields from a text, so that the rest
can be parsed.  `read_through` also returns the edits for fields that only forks repeat.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from minicaffe.errors import nearest
from minicaffe.proto import caffe_pb2
from minicaffe.proto.elsewhere import field_owner, is_hint, placeholder
from minicaffe.proto.further import Edit, further_field

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<word>[-+.$\w]+)
      | (?P<mark>[][{}<>:,;])""",
    re.VERBOSE,
)
_CLOSING = {"{": "}", "<": ">", "[": "]"}
_FEW = 12  #: an enum with more values than these is not listed in a message

_UNKNOWN_FIELD = re.compile(r'Message type "([\w.]+)" has no field named "([^"]*)"')
_UNKNOWN_VALUE = re.compile(r'Enum type "([\w.]+)" has no value (?:named|with number) (.*?)\.?$')
_REPEATED = re.compile(r'Message type "([\w.]+)" should not have multiple "(\w+)" fields')
_QUOTED_LINE = re.compile(r"^\d+:\d+ : (?:'.*': (?=[A-Z]))?", re.DOTALL)


class Fault(NamedTuple):
    """A field that cannot be read.

    start, end: where the field is in the text.  line, column: the place of what is wrong, from 1.
    name: the field, as "ConvolutionParameter.hole".  sentence: what is wrong.
    kind: "field" for an unknown field, "value" for anything else.
    hint: whether it is an unknown field without effect on the results.
    """

    start: int
    end: int
    line: int
    column: int
    name: str
    sentence: str
    kind: str
    hint: bool


def faults_of(text: str, message: Message) -> list[Fault]:
    """Return the fields of a prototxt that cannot be read, in order; those before the first error of the syntax.

    text: with newlines as line ends.  message: one of the type of the whole text; it is not changed.
    """
    return read_through(text, message)[0]


def read_through(text: str, message: Message) -> tuple[list[Fault], list[Edit]]:
    """Return the faults of a prototxt, as `faults_of`, and the edits that give further values to the fields for them.

    Such values are all but the first of a field that forks repeat, see further.py.
    """
    walk = _Walk(text)
    descriptor: Any = message.DESCRIPTOR  # in two types of stubs
    with contextlib.suppress(_SyntaxError):  # protobuf's parser reports it, once the faults before are removed
        walk.fields(descriptor, "")
    return sorted(walk.faults), walk.edits


def without(text: str, faults: Sequence[Fault]) -> str:
    """Return the text with spaces in place of some fields: all others keep their places."""
    parts, at = [], 0
    for fault in sorted(faults):  # one may be inside another
        start, end = max(fault.start, at), max(fault.end, at)
        parts += [text[at:start], re.sub(r"[^\n]", " ", text[start:end])]
        at = end
    return "".join(parts) + text[at:]


class _SyntaxError(Exception):
    """The text is not in protobuf's text format from here on."""


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


class _Walk:
    """One way through a text, from field to field."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.faults: list[Fault] = []
        self.edits: list[Edit] = []  # of fields that are given more than once, see further.py
        self._tokens = list(_tokens(text))
        self._next = 0
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._errors: dict[tuple[str, str], tuple[int, str]] = {}  # of values that were parsed already
        self._unknown_field = functools.cache(unknown_field)

    def fields(self, message: Descriptor, closing: str) -> None:
        """Go through the fields of a message, to the mark that closes it; "": to the end of the text."""
        given: set[str] = set()
        while not self._take(closing):
            if self._peek().kind == "end" and not closing:
                return
            self._field(message, given)

    def _field(self, message: Descriptor, given: set[str]) -> None:
        name = self._pop("word")
        field = message.fields_by_name.get(name.text)
        has_colon = self._take(":")
        value, first = self._peek(), self._next
        if field is not None and field.message_type is not None and value.text in ("{", "<"):
            self._next += 1
            self.fields(field.message_type, _CLOSING[value.text])
        else:
            self._skip_value(has_colon)
        end = self._tokens[self._next - 1].end
        place, sentence = name.start, ""
        more = further_field(message.name, name.text)
        if field is None:
            sentence = self._unknown_field(message, name.text)
        elif more and (name.text in given or value.text == "["):
            self._give_to(more, name, first, name.text in given)
        elif name.text in given and not is_repeated(field):
            place, sentence = value.start, _given_twice(message.name, name.text)
        elif value.text not in ("{", "<"):
            offset, sentence = self._error_in(message, self.text[name.start : end])
            place = name.start + offset
            if sentence and (origin := placeholder(value.text)):
                sentence = f'{message.name}.{name.text} has the placeholder "{value.text}" of {origin}'
        given.add(name.text)
        if self._peek().text in (",", ";"):
            end = self._peek().end
            self._next += 1
        if sentence:
            hint = field is None and is_hint(message.name, name.text, value.text)
            kind = "value" if field else "field"
            where = *self._place(place), f"{message.name}.{name.text}"
            self.faults.append(Fault(name.start, end, *where, sentence, kind, hint))

    def _give_to(self, more: str, name: _Token, first: int, given: bool) -> None:
        """Note the edits that give a field's values to field `more`, all or, unless it was given, all but the first.

        first: the number of the token where the value begins.
        """
        if given:
            self.edits.append(Edit(name.start, name.end, more))
            return
        depth, values = 0, self._tokens[first : self._next]
        for token in values:
            depth += (token.text in _CLOSING) - (token.text in _CLOSING.values()) if token.kind == "mark" else 0
            if depth == 1 and token.text == ",":
                self.edits += [Edit(values[0].start, values[0].end, ""), Edit(token.start, token.end, f" {more}: [")]
                return
        self.edits += [Edit(values[0].start, values[0].end, ""), Edit(values[-1].start, values[-1].end, "")]

    def _place(self, offset: int) -> tuple[int, int]:
        """Return line and column, from 1, of a place in the text."""
        line = bisect.bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def _skip_value(self, has_colon: bool) -> None:
        """Go to the end of a value: a word, strings, or what is in brackets, of whatever type."""
        first = self._peek()
        if first.text in _CLOSING:
            self._skip_brackets()
        elif first.kind in ("string", "word") and (has_colon or first.kind == "string"):
            self._next += 1
            while first.kind == "string" and self._peek().kind == "string":
                self._next += 1
        else:
            raise _SyntaxError

    def _skip_brackets(self) -> None:
        open_marks: list[str] = []
        while True:
            mark = self._peek().text if self._peek().kind != "string" else ""
            if self._peek().kind in ("end", "other"):
                raise _SyntaxError
            self._next += 1
            if mark in _CLOSING:
                open_marks.append(_CLOSING[mark])
            elif mark in _CLOSING.values() and mark != open_marks.pop():
                raise _SyntaxError
            if not open_marks:
                return

    def _error_in(self, message: Descriptor, text: str) -> tuple[int, str]:
        """Return where in the text of one field its value is wrong, and the sentence; (0, ""): it can be read."""
        key = message.full_name, text
        if key not in self._errors:
            self._errors[key] = 0, ""
            try:
                text_format.Parse(text, GetMessageClass(message)())
            except text_format.ParseError as error:
                lines = text.split("\n")[: (error.GetLine() or 1) - 1]
                offset = sum(len(line) + 1 for line in lines) + (error.GetColumn() or 1) - 1
                self._errors[key] = offset, sentence_of(error)
        return self._errors[key]

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, mark: str) -> bool:
        """Go over a mark, if it is next, and return whether it was."""
        taken = bool(mark) and self._peek().kind == "mark" and self._peek().text == mark
        self._next += taken
        return taken

    def _pop(self, kind: str) -> _Token:
        token = self._peek()
        if token.kind != kind:
            raise _SyntaxError
        self._next += 1
        return token


def _tokens(text: str) -> Iterator[_Token]:
    """Yield the tokens of a text, and at its end, or where there is something else, one of the kind "end"."""
    at = 0
    while match := _TOKEN.match(text, at):
        at = match.end()
        if match.lastgroup and match.lastgroup != "space":
            yield _Token(match.lastgroup, match[0], match.start(), match.end())
    yield _Token("end" if at == len(text) else "other", "", at, at)


def is_repeated(field: Any) -> bool:
    """Whether a field may be given more than once.  field: a FieldDescriptor."""
    repeated = getattr(field, "is_repeated", None)  # `label` is deprecated where this exists
    return bool(field.label == field.LABEL_REPEATED if repeated is None else repeated)


# ------------------------------------------------------------------------------------------------------- sentences


def sentence_of(error: text_format.ParseError) -> str:
    """Translate protobuf's error message into the terms of a prototxt."""
    text = _QUOTED_LINE.sub("", str(error)).strip()
    if match := _UNKNOWN_FIELD.search(text):
        return unknown_field(_find_message(match[1]), match[2])
    if match := _UNKNOWN_VALUE.search(text):
        return _unknown_value(_find_enum(match[1]), match[2])
    if match := _REPEATED.search(text):
        return _given_twice(match[1].rpartition(".")[2], match[2])
    return text[:1].lower() + text[1:].rstrip(".")


def unknown_field(message: Descriptor, name: str) -> str:
    """Return the sentence about a field that a message does not have: the fork that has it, or the most similar one."""
    sentence = f'{message.name} has no field "{name}"'
    if owner := field_owner(message.name, name):
        return f"{sentence}, it belongs to {owner}"
    hint = nearest(name, message.fields_by_name)
    if not hint:
        homes = [
            field.name
            for field in message.fields
            if field.message_type is not None and name in field.message_type.fields_by_name
        ]
        hint = f" (it is a field of {_listed(homes)})" if homes else ""
    return sentence + hint


def _listed(names: list[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{names[0]}, {names[1]} and others"


def _unknown_value(enum: EnumDescriptor, name: str) -> str:
    known = list(enum.values_by_name)
    bare = name.strip("'\"")
    if bare in known:
        return f"the {enum.name} {bare} must not be quoted"
    sentence = f'{enum.name} has no value "{bare}"'
    if owner := field_owner(enum.name, bare):
        return f"{sentence}, it belongs to {owner}"
    return sentence + (nearest(bare, known) or (f", only {', '.join(known)}" if len(known) <= _FEW else ""))


def _given_twice(message: str, field: str) -> str:
    return f'{message} field "{field}" is given more than once'


def _find_message(full_name: str) -> Descriptor:
    return caffe_pb2.DESCRIPTOR.pool.FindMessageTypeByName(full_name)


def _find_enum(full_name: str) -> EnumDescriptor:
    return caffe_pb2.DESCRIPTOR.pool.FindEnumTypeByName(full_name)
