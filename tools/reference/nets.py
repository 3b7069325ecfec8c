"""The page of the fields that all nets and layers have in common, and of the messages in them."""

from __future__ import annotations

import functools
import inspect

from minicaffe.core.fillers import FILLERS
from reference import docstrings, layers, schema
from reference.docstrings import cell

UNUSED = ("no effect", "not applied")  # how the comments of fields begin whose messages are not listed


def page() -> list[str]:
    """The lines of docs/reference/net.md."""
    lines = [
        "# Nets, and what layers have in common", "",
        "The fields of a net, those of every layer, and the messages that fields of several layers hold.",
    ]  # fmt: skip
    for message in listed():
        note = schema.notes()[message].comment
        lines += ["", f"## {message}", *([""] + [docstrings.escaped(note)] if note else [])]
        lines += schema.table(message, own_fields(message), link)
        if message == "FillerParameter":
            lines += _fillers()
    return lines


@functools.cache
def listed() -> list[str]:
    """The messages of the page: those of nets and layers, then what they and the layers' own messages contain."""
    found: list[str] = []
    waiting = ["NetParameter", "LayerParameter", *own_messages()]
    while waiting:
        message = waiting.pop(0)
        if message not in found:
            found.append(message)
            waiting += [
                field.descriptor.message_type.name
                for field in own_fields(message)
                if field.descriptor.message_type and not field.note.comment.lower().startswith(UNUSED)
            ]
    return [message for message in found if message not in own_messages() and message not in NOT_LISTED]


#: what weight files contain, and formats before prototxts had a `layer`
NOT_LISTED = ("BlobProto", "V1LayerParameter", "V0LayerParameter")


def own_messages() -> list[str]:
    """The messages whose tables are in the sections of layer types."""
    known = schema.descriptor("LayerParameter").fields_by_name
    return [
        known[field].message_type.name
        for name in layers.types()
        for field in layers.messages(name)
        if layers.owner(field) == name
    ]


def own_fields(message: str) -> list[schema.Field]:
    """The fields of a message that its table has: of LayerParameter without the messages of types."""
    found = schema.fields(message)
    if message != "LayerParameter":
        return found
    return [field for field in found if not field.name.endswith("_param") or field.name in layers.SHARED]


def link(message: str, page: str = "") -> str:
    """The name of a message, as a link to its section on this page if it has one.

    page: path of this page from the one with the link; "": this page itself.
    """
    return f"[{message}]({page}#{message.lower()})" if message in listed() else f"`{message}`"


def _fillers() -> list[str]:
    lines = ["", "| `type` | Values |", "| --- | --- |"]
    for name, function in FILLERS.items():
        lines.append(f"| `{name}` | {cell(' '.join(inspect.cleandoc(function.__doc__ or '').split()))} |")
    return lines
