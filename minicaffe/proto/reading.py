"""Read and write the files of messages: prototxt and binaryproto.

The text format is protobuf's.  Added are the byte-order marks, line ends and code pages of other systems, and errors of
one sentence with the position, the cause and the most similar known name.
"""

from __future__ import annotations

import os
import re
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from minicaffe.errors import PrototxtError, nearest
from minicaffe.files import read_bytes, write_atomically
from minicaffe.proto import caffe_pb2
from minicaffe.proto.elsewhere import field_owner
from minicaffe.proto.kinds import kind_of, mistaken_for
from minicaffe.text import is_utf16

M = TypeVar("M", bound=Message)
PathLike = str | os.PathLike

_KINDS = {"NetParameter": "net", "SolverParameter": "solver"}
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_UNKNOWN_FIELD = re.compile(r'Message type "([\w.]+)" has no field named "([^"]*)"')
_UNKNOWN_VALUE = re.compile(r'Enum type "([\w.]+)" has no value (?:named|with number) (.*?)\.?$')
_REPEATED = re.compile(r'Message type "([\w.]+)" should not have multiple "(\w+)" fields')
_QUOTED_LINE = re.compile(r"^\d+:\d+ : (?:'.*': (?=[A-Z]))?", re.DOTALL)


# ------------------------------------------------------------------------------------------------------------ text


def parse_text(text: str | bytes, message: M, filename: PathLike | None = None) -> M:
    """Fill `message` from prototxt text and return it.

    text: a string, or bytes in UTF-8 or Windows-1252.  filename: for error messages; None (default): no file.
    PrototxtError "file:line:column: sentence" for a syntax error, an unknown field or enum value (with the most similar
    known name), a field that is given more than once but is not repeated, and a missing required field; of one sentence
    without a place for a solver instead of a net, or a net instead of a solver.
    """
    if isinstance(text, bytes):
        text = _decode(text, filename)
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        if mistaken := mistaken_for(_KINDS.get(message.DESCRIPTOR.name, ""), text):
            raise PrototxtError(f"{_name(filename)}: {mistaken}") from None
        raise PrototxtError(_place(filename, error) + _brief(_sentence(error))) from None
    missing = message.FindInitializationErrors()  # type: ignore[attr-defined]  # not in the stubs of protobuf
    if missing:
        raise PrototxtError(f"{_name(filename)}: required field {missing[0]} is missing")
    return message


def read_text(path: PathLike, message: M) -> M:
    """Fill `message` from a prototxt file and return it.

    PrototxtError when the file cannot be read, and as for `parse_text`.
    """
    return parse_text(_read_bytes(path), message, path)


def format_text(message: Message) -> str:
    """Return the message as prototxt text; `parse_text` is the inverse."""
    return text_format.MessageToString(message, as_utf8=True)


def write_text(message: Message, path: PathLike) -> None:
    """Write a message as prototxt, atomically; DataError when the file cannot be written."""
    write_atomically(path, format_text(message))


def _decode(content: bytes, filename: PathLike | None) -> str:
    """Decode UTF-8 or, for files from old editors, Windows-1252; PrototxtError for UTF-16 and binary files."""
    if is_utf16(content):
        raise PrototxtError(f"{_name(filename)} is UTF-16: save it as UTF-8")
    if content.startswith(HDF5_SIGNATURE) or b"\0" in content:
        kind = "an HDF5 file (weights?)" if content.startswith(HDF5_SIGNATURE) else "a binary file (a .caffemodel?)"
        raise PrototxtError(f"{_name(filename)}: expected a prototxt, which is text, got {kind}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _place(filename: PathLike | None, error: text_format.ParseError) -> str:
    line, column = error.GetLine(), error.GetColumn()
    if line is None:
        return f"{_name(filename)}: "
    return f"{os.fspath(filename)}:{line}:{column}: " if filename else f"line {line}, column {column}: "


def _name(filename: PathLike | None) -> str:
    return os.fspath(filename) if filename else "prototxt text"


def _brief(sentence: str) -> str:
    """Cut a sentence that quotes a word of more than some hundred characters."""
    return sentence if len(sentence) <= 400 else f"{sentence[:400]}..."


def _sentence(error: text_format.ParseError) -> str:
    """Translate protobuf's error message into the terms of a prototxt."""
    text = _QUOTED_LINE.sub("", str(error)).strip()
    if match := _UNKNOWN_FIELD.search(text):
        return unknown_field(_find_message(match[1]), match[2])
    if match := _UNKNOWN_VALUE.search(text):
        return _unknown_value(_find_enum(match[1]), match[2])
    if match := _REPEATED.search(text):
        return f'{_short(match[1])} field "{match[2]}" is given more than once'
    return text[:1].lower() + text[1:].rstrip(".")


def unknown_field(message: Descriptor, name: str) -> str:
    """Return the sentence about a field that a message does not have, with the most similar one that it has."""
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
    return sentence + (nearest(bare, known) or f", only {', '.join(known)}")


def _short(full_name: str) -> str:
    return full_name.rpartition(".")[2]


def _find_message(full_name: str) -> Descriptor:
    return caffe_pb2.DESCRIPTOR.pool.FindMessageTypeByName(full_name)


def _find_enum(full_name: str) -> EnumDescriptor:
    return caffe_pb2.DESCRIPTOR.pool.FindEnumTypeByName(full_name)


# ---------------------------------------------------------------------------------------------------------- binary


def read_binary(path: PathLike, message: M) -> M:
    """Fill `message` from a binaryproto file and return it.

    PrototxtError when the file cannot be read, and as for `parse_binary`.
    """
    return parse_binary(_read_bytes(path), message, path)


def parse_binary(content: bytes, message: M, filename: PathLike | None = None) -> M:
    """Fill `message` from serialized bytes and return it.

    filename: for error messages; None (default): no file.
    PrototxtError for an HDF5 file, and for bytes that are damaged or another message.
    """
    kind = message.DESCRIPTOR.name
    if content.startswith(HDF5_SIGNATURE):
        raise PrototxtError(f"{_name(filename)}: expected a binary {kind}, got an HDF5 file")
    try:
        message.ParseFromString(content)
        whole = message.IsInitialized() and _strings_are_text(message)
    except (DecodeError, UnicodeDecodeError):
        whole = False
    if not whole:
        got = f"{len(content)} bytes that are damaged or something else"
        if text := text_kind(content):
            got = f"text, the prototxt of a {text}" + (": give the file of weights" if kind == "NetParameter" else "")
        raise PrototxtError(f"{_name(filename)}: expected a binary {kind}, got {got}")
    return message


def text_kind(content: bytes) -> str:
    """Return "net" or "solver" if the bytes are prototxt text of one, "" for anything else."""
    try:
        return kind_of(_decode(content, None))
    except PrototxtError:
        return ""


def _strings_are_text(message: Message) -> bool:
    """Whether every string is UTF-8; protobuf does not check this in proto2, and returns bytes for an invalid one."""
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_STRING:
            if not all(isinstance(each, str) for each in ([value] if isinstance(value, (str, bytes)) else value)):
                return False
        elif field.message_type is not None and field.message_type.name != "BlobProto":  # it has no strings
            if not all(map(_strings_are_text, [value] if isinstance(value, Message) else value)):
                return False
    return True


def write_binary(message: Message, path: PathLike) -> None:
    """Write a message as binaryproto, atomically; DataError when the file cannot be written."""
    write_atomically(path, message.SerializeToString())


# ----------------------------------------------------------------------------------------------------------- files


def _read_bytes(path: PathLike) -> bytes:
    try:
        return read_bytes(path, pipes=True)
    except OSError as error:
        raise PrototxtError(f"cannot read '{os.fspath(path)}': {error.strerror}") from None
