"""Fields of a message that are set by text, as on a command line: "base_lr=0.01", "layer[conv1].param[0].lr_mult=2"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from minicaffe.errors import PrototxtError, nearest
from minicaffe.proto.reading import format_text, parse_text
from minicaffe.proto.unknown import unknown_field

_STEP = r"\w+(?:\[[^\]]*\])?"
_SETTING = re.compile(rf"({_STEP}(?:\.{_STEP})*)=(.*)", re.DOTALL)
_EXPECTED = {
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_INT32: "a whole number",
    FieldDescriptor.CPPTYPE_INT64: "a whole number",
    FieldDescriptor.CPPTYPE_UINT32: "a whole number that is not negative",
    FieldDescriptor.CPPTYPE_UINT64: "a whole number that is not negative",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
}


class Step(NamedTuple):
    """A field on the way to a value, and which of a repeated field's elements: an index or a name; "" for none."""

    field: str
    element: str


class Setting(NamedTuple):
    """A value for a field.  path: from the message to the field.  value: as it was written."""

    path: tuple[Step, ...]
    value: str

    @property
    def name(self) -> str:
        """The path in words."""
        return ".".join(f"{step.field}[{step.element}]" if step.element else step.field for step in self.path)


def parse_setting(text: str) -> Setting:
    """Parse "field=value", "message.field=value", "repeated[0].field=value" or "layer[conv1].field=value".

    PrototxtError for any other text.
    """
    match = _SETTING.fullmatch(text.strip())
    if match is None:
        raise PrototxtError("expected FIELD=VALUE, such as base_lr=0.01 or train_state.level=1")
    steps = [step.rstrip("]").partition("[") for step in re.findall(_STEP, match[1])]
    return Setting(tuple(Step(name, element) for name, _, element in steps), match[2].strip())


def set_field(message: Message, setting: Setting, append: bool = False) -> None:
    """Set a field, or that field of several messages where an element is a name that several of them have.

    A value is that of the text format: a number, true or false, the name of an enum's value, a text with or without
    quotes, or the fields of a message, with or without braces.  For a repeated field it is one value, several that are
    separated by commas, or a list in brackets; "" for none.
    append: add to what a repeated field has, instead of replacing it (default False).
    PrototxtError for an unknown field, element or value.
    """
    *way, last = setting.path
    for owner in list(_owners(message, way)):
        field = _field(owner, last.field)
        if last.element:
            _set_element(owner, field, last.element, setting.value)
        elif _is_repeated(owner, field):
            parsed = _parsed(owner, field, _list_text(field, setting.value))
            if not append:
                owner.ClearField(field.name)
            getattr(owner, field.name).extend(getattr(parsed, field.name))
        else:
            parsed = _parsed(owner, field, f"{field.name}{_value_text(field, setting.value)}")
            owner.ClearField(field.name)
            owner.MergeFrom(parsed)


def value_of(message: Message, setting: Setting) -> str:
    """Return the present value of a setting's field, as text in one line; "unset" if it has none."""
    *way, last = setting.path
    texts = []
    for owner in _owners(message, way):
        field = _field(owner, last.field)
        only = type(owner)()
        if _is_repeated(owner, field):
            getattr(only, field.name).extend(getattr(owner, field.name))
        elif owner.HasField(field.name):
            _copy(only, owner, field)
        texts.append(_in_one_line(only, field) or "unset")
    return ", ".join(dict.fromkeys(texts))


def _in_one_line(message: Message, field: FieldDescriptor) -> str:
    """Return the text of a message's only field: its values, or the text format of messages."""
    if field.message_type is not None:
        return " ".join(format_text(message).split())
    return ", ".join(line.removeprefix(f"{field.name}: ") for line in format_text(message).splitlines())


def _copy(target: Any, source: Any, field: FieldDescriptor) -> None:
    value = getattr(source, field.name)
    if field.message_type is None:
        setattr(target, field.name, value)
    else:
        getattr(target, field.name).CopyFrom(value)


# -- paths -------------------------------------------------------------------------------------------------------------


def _owners(message: Message, way: Sequence[Step]) -> Iterator[Any]:
    """Yield the messages at the end of a way."""
    if not way:
        yield message
        return
    (name, element), *rest = way
    field = _field(message, name)
    if field.message_type is None:
        raise PrototxtError(f"{name} of {message.DESCRIPTOR.name} has no fields of its own: it is {_kind(field)}")
    value = getattr(message, name)
    repeated = _is_repeated(message, field)
    if element and not repeated:
        raise PrototxtError(f"{name} of {message.DESCRIPTOR.name} is not repeated: leave out [{element}]")
    for each in [value[i] for i in _indices(field, value, element)] if repeated else [value]:
        yield from _owners(each, rest)


def _field(message: Message, name: str) -> FieldDescriptor:
    descriptor: Any = message.DESCRIPTOR  # in two types of stubs
    if name not in descriptor.fields_by_name:
        raise PrototxtError(unknown_field(descriptor, name))
    return descriptor.fields_by_name[name]


def _is_repeated(message: Any, field: FieldDescriptor) -> bool:
    return hasattr(getattr(message, field.name), "extend")  # descriptors state it differently in versions of protobuf


def _indices(field: FieldDescriptor, values: Any, element: str) -> list[int]:
    """Return which elements of a repeated field are meant: by an index, by a name, or the only one."""
    names = [getattr(value, "name", "") for value in values]
    if element in names and element:
        return [i for i, name in enumerate(names) if name == element]
    if element.isdecimal() and int(element) < len(values):
        return [int(element)]
    if not element and len(values) == 1:
        return [0]
    count = f"{field.name} has {len(values)} element{'s' * (len(values) != 1)}"
    if not element:
        example = next(filter(None, names), 0)
        raise PrototxtError(f"{count}: name one of them, as in {field.name}[{example}]")
    raise PrototxtError(f"{count}, and none is [{element}]{nearest(element, filter(None, names))}")


# -- values ------------------------------------------------------------------------------------------------------------


def _set_element(owner: Any, field: FieldDescriptor, element: str, value: str) -> None:
    if not _is_repeated(owner, field):
        raise PrototxtError(f"{field.name} of {owner.DESCRIPTOR.name} is not repeated: leave out [{element}]")
    values = getattr(owner, field.name)
    indices = _indices(field, values, element)
    new = getattr(_parsed(owner, field, f"{field.name}{_value_text(field, value)}"), field.name)
    for index in indices:
        if field.message_type is None:
            values[index] = new[0]
        else:
            values[index].CopyFrom(new[0])


def _parsed(owner: Message, field: FieldDescriptor, text: str) -> Any:
    """Return a message of the owner's type with this field alone."""
    parsed = type(owner)()
    try:
        parse_text(text, parsed)
    except PrototxtError as error:
        sentence = error.args[0].partition(": ")[2] or error.args[0]
        kind = _EXPECTED.get(field.cpp_type)
        raise PrototxtError(f"expected {kind}" if kind else sentence) from None
    if any(other.name != field.name for other, _ in parsed.ListFields()):
        raise PrototxtError(f"expected a value of {field.name} and nothing else")
    return parsed


def _value_text(field: FieldDescriptor, value: str) -> str:
    """Return the value of a field in the text format, with what separates it from the field's name."""
    if field.message_type is not None:
        return f" {value}" if value.startswith("{") else f" {{ {value} }}"
    if field.type == FieldDescriptor.TYPE_STRING and value[:1] not in ('"', "'"):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f': "{escaped}"'
    return f": {value}"


def _list_text(field: FieldDescriptor, value: str) -> str:
    """Return the values of a repeated field in the text format."""
    if value.startswith("[") and value.endswith("]"):
        return f"{field.name}: {value}"
    if field.message_type is not None or value[:1] in ('"', "'"):
        values = [value] if value else []
    else:
        values = [each.strip() for each in value.split(",")] if value else []
    return " ".join(f"{field.name}{_value_text(field, each)}" for each in values)


def _kind(field: FieldDescriptor) -> str:
    return _EXPECTED.get(field.cpp_type, "a text" if field.enum_type is None else "the name of a value")
