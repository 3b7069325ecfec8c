"""Read and write the files of messages: prototxt and binaryproto.

The text format is protobuf's.  Added are the byte-order marks, line ends and code pages of other systems, and errors of
one sentence with the position, the cause and the most similar known name.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from minicaffe.errors import PrototxtError
from minicaffe.files import read_bytes, write_atomically
from minicaffe.proto.blobs_only import without_parameters
from minicaffe.proto.further import edited, original_column, with_first_names
from minicaffe.proto.kinds import kind_of, mistaken_for
from minicaffe.proto.skipping import skips_hints
from minicaffe.proto.unknown import Fault, read_through, sentence_of, without
from minicaffe.text import is_utf16

log = logging.getLogger("minicaffe")

M = TypeVar("M", bound=Message)
PathLike = str | os.PathLike

_KINDS = {"NetParameter": "net", "SolverParameter": "solver"}
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


# ------------------------------------------------------------------------------------------------------------ text


def parse_text(text: str | bytes, message: M, filename: PathLike | None = None) -> M:
    """Fill `message` from prototxt text and return it.

    text: a string, or bytes in UTF-8 or Windows-1252.  filename: for error messages; None (default): no file.
    PrototxtError "file:line:column: sentence" for a syntax error, an unknown field or enum value (with the fork that
    has it, or the most similar known name), a field that is given more than once but is repeated neither here nor, as
    far as further.py has it, in a fork, and a missing required field; of one sentence without a place for a solver
    instead of a net, or a net instead of a solver.
    Where `skip_unknown_fields` is in force, unknown fields that change no result are left out, with a warning.
    """
    text = _normal(text, filename)
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        if mistaken := mistaken_for(_KINDS.get(message.DESCRIPTOR.name, ""), text):
            raise PrototxtError(f"{_name(filename)}: {mistaken}") from None
        _parse_in_parts(text, message, filename, error)
    missing = message.FindInitializationErrors()  # type: ignore[attr-defined]  # not in the stubs of protobuf
    if missing:
        raise PrototxtError(f"{_name(filename)}: required field {missing[0]} is missing")
    return message


def _parse_in_parts(text: str, message: Message, filename: PathLike | None, error: text_format.ParseError) -> None:
    """Parse a text again, with further values in the fields for them, and without hints if they are to be left out.

    error: that of the whole text.  PrototxtError if something else is wrong.
    """
    faults, edits = read_through(text, message)
    hints = [fault for fault in faults if fault.hint] if skips_hints() else []
    place = error.GetLine(), error.GetColumn()
    if hints or edits:
        faults = [fault for fault in faults if fault not in hints]
        message.Clear()
        try:
            text_format.Parse(edited(without(text, hints), edits), message)
        except text_format.ParseError as other:
            error, line = other, other.GetLine()
            column = other.GetColumn()
            place = line, column if line is None or column is None else original_column(text, edits, line, column)
        else:
            if hints:
                log.warning("%s: left out %s, which change no result", _name(filename), counted(hints))
            return
    same = [fault.sentence for fault in faults if (fault.line, fault.column) == place]
    sentence = _brief((same or [sentence_of(error)])[0])
    raise PrototxtError(_place(filename, *place) + sentence + _more(faults, filename)) from None


def counted(faults: Sequence[Fault]) -> str:
    """Return the names of fields, with how often each is given: "LayerParameter.multinode (3 times), ..."."""
    counts = Counter(fault.name for fault in faults)
    return ", ".join(f"{name} ({count} times)" if count > 1 else name for name, count in counts.items())


def _more(faults: Sequence[Fault], filename: PathLike | None) -> str:
    """Return the end of the sentence about the first of several faults."""
    if faults and all(fault.hint for fault in faults):
        return "; it changes no result: --skip-unknown-fields reads on without it"
    if len(faults) < 2:
        return ""
    listed = f": `minicaffe check {shlex.quote(os.fspath(filename))}` lists all" if filename else ""
    return f"; {len(faults) - 1} more of its fields cannot be read{listed}"


def _normal(text: str | bytes, filename: PathLike | None) -> str:
    """Return a prototxt's text without a byte-order mark, with newlines as line ends; errors as for `_decode`."""
    if isinstance(text, bytes):
        text = _decode(text, filename)
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def text_of(path: PathLike) -> str:
    """Return the text of a prototxt file, as `parse_text` takes it; PrototxtError when it cannot be read as text."""
    return _normal(_read_bytes(path), path)


def read_text(path: PathLike, message: M) -> M:
    """Fill `message` from a prototxt file and return it.

    PrototxtError when the file cannot be read, and as for `parse_text`.
    """
    return parse_text(_read_bytes(path), message, path)


def format_text(message: Message) -> str:
    """Return the message as prototxt text; `parse_text` is the inverse."""
    return with_first_names(text_format.MessageToString(message, as_utf8=True))


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


def _place(filename: PathLike | None, line: int | None, column: int | None) -> str:
    if line is None:
        return f"{_name(filename)}: "
    return f"{os.fspath(filename)}:{line}:{column}: " if filename else f"line {line}, column {column}: "


def _name(filename: PathLike | None) -> str:
    return os.fspath(filename) if filename else "prototxt text"


def _brief(sentence: str) -> str:
    """Cut a sentence that quotes a word of more than some hundred characters."""
    return sentence if len(sentence) <= 400 else f"{sentence[:400]}..."


# ---------------------------------------------------------------------------------------------------------- binary


def read_binary(path: PathLike, message: M) -> M:
    """Fill `message` from a binaryproto file and return it.

    PrototxtError when the file cannot be read, and as for `parse_binary`.
    """
    return parse_binary(_read_bytes(path), message, path)


def read_weights(path: PathLike, net: M) -> M:
    """Fill a NetParameter from a file of weights and return it.

    Where the parameters of layers are a fork's and cannot be parsed here, the layers are read without them, with their
    names, types, bottoms, tops and blobs.
    PrototxtError as for `read_binary`.
    """
    content = _read_bytes(path)
    try:
        return parse_binary(content, net, path)
    except PrototxtError:
        try:
            bare = without_parameters(content)
            net.Clear()
            return parse_binary(bare, net, path)
        except PrototxtError:
            pass
        raise


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
