"""Reader of pickles of numbers, texts, lists, dictionaries and numpy arrays.

A pickle is a program for a stack machine, which may call any function.  This machine does not use the module pickle: it
has only the instructions that build values of these types, and calls nothing.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

_ARRAY = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_NAMES = (*_ARRAY, "numpy.ndarray", "numpy.dtype", "_codecs.encode")


class _Name(str):
    """The name of a function or class in a pickle."""


class _Type:
    """A numpy type; its name is "u1", or "<i8" when the order of bytes has been set."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Array:
    """An array, whose values follow when it has been created."""

    values: np.ndarray | None = None


class _Machine:
    """The stack, the values stored by number, and the instructions."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []  # lengths of the stack
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        """Execute a pickle and return the value that is left."""
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in ("PROTO", "FRAME"):
                continue
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name in _ARGUMENTS:
                self.stack.append(argument)
            elif opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name]())
            elif opcode.name in _INSTRUCTIONS:
                _INSTRUCTIONS[opcode.name](self, argument)
            else:
                raise ValueError(f"it has the instruction {opcode.name}")
        raise ValueError("it has no end")

    def popped(self, count: int | None = None) -> list[Any]:
        """Remove the last `count` values from the stack, or those above the last mark, and return them."""
        at = self.marks.pop() if count is None else len(self.stack) - count
        if not 0 <= at <= len(self.stack):
            raise ValueError("it takes more values than it has")
        values = self.stack[at:]
        del self.stack[at:]
        return values

    def put(self, number: int | None) -> None:
        """Store the last value under a number, by default the next one."""
        self.memo[len(self.memo) if number is None else number] = self.stack[-1]

    def get(self, number: int) -> None:
        """Push the value stored under a number."""
        self.stack.append(self.memo[number])

    def append(self, values: list[Any]) -> None:
        """Append values to the list below them on the stack."""
        _expect(self.stack[-1], list).extend(values)

    def set_items(self, values: list[Any]) -> None:
        """Enter keys and values into the dictionary below them on the stack; keys are texts."""
        for key, value in zip(values[::2], values[1::2], strict=True):
            _expect(self.stack[-1], dict)[_expect(key, (bytes, str))] = value

    def dictionary(self, values: list[Any]) -> None:
        """Push a dictionary of these keys and values."""
        self.stack.append({})
        self.set_items(values)

    def name(self, module: str, name: str) -> None:
        """Push the name of a function; ValueError for one that has no place in a pickled array."""
        if f"{module}.{name}" not in _NAMES:
            raise ValueError(f"it refers to {module}.{name}")
        self.stack.append(_Name(f"{module}.{name}"))

    def call(self) -> None:
        """Replace a function's name and its arguments by what the function would create."""
        function, arguments = self.popped(2)
        match _expect(function, _Name):
            case "numpy.dtype":
                self.stack.append(_Type(_text(arguments[0])))
            case "_codecs.encode":  # Python 3 pickles bytes for Python 2 in this way
                self.stack.append(_expect(arguments[0], str).encode("latin1"))
            case name if name in _ARRAY:
                self.stack.append(_Array())
            case name:
                raise ValueError(f"it calls {name}")

    def build(self) -> None:
        """Set the state of the array or type below it on the stack."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Type):
            target.name = _text(state[1]).replace("|", "") + target.name[-2:]
            return
        _, shape, kind, fortran, content = state
        dtype, count = np.dtype(_expect(kind, _Type).name), math.prod(shape)
        if dtype.kind not in "biuf" or min(shape, default=0) < 0 or len(content) != count * dtype.itemsize:
            raise ValueError(f"an array of shape {shape} and type {dtype} is damaged")
        values = np.frombuffer(_expect(content, bytes), dtype).reshape(shape, order="F" if fortran else "C")
        _expect(target, _Array).values = values


def _expect(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"it has a {type(value).__name__} in the wrong place")
    return value


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else _expect(value, str)


#: Instructions that push their argument.
_ARGUMENTS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
}

#: Instructions that push a new value.
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}

_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(
        ("STRING", "BINSTRING", "SHORT_BINSTRING"),  # bytes, in pickles of Python 2
        lambda machine, text: machine.stack.append(text.encode("latin1")),
    ),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), lambda machine, number: machine.put(number)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, number: machine.get(number)),
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.popped())),
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.popped(1))),
    "TUPLE2": lambda machine, _: machine.stack.append(tuple(machine.popped(2))),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.popped(3))),
    "LIST": lambda machine, _: machine.stack.append(machine.popped()),
    "DICT": lambda machine, _: machine.dictionary(machine.popped()),
    "APPEND": lambda machine, _: machine.append(machine.popped(1)),
    "APPENDS": lambda machine, _: machine.append(machine.popped()),
    "SETITEM": lambda machine, _: machine.set_items(machine.popped(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.popped()),
    "GLOBAL": lambda machine, names: machine.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.popped(2)),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
}


def load(data: bytes) -> Any:
    """Return the value of a pickle, its arrays as numpy arrays where they are values of a dictionary.

    ValueError for a pickle that is damaged or holds anything else; nothing in it is executed.
    """
    try:
        value = _Machine().run(data)
    except (IndexError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"it is damaged ({type(error).__name__}: {error})") from error
    if not isinstance(value, dict):
        return value
    return {key: each.values if isinstance(each, _Array) else each for key, each in value.items()}
