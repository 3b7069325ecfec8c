"""What a shell completes of each command: its flags, what follows them, and its arguments; made from the parsers."""

from __future__ import annotations

import argparse
import re
from typing import NamedTuple

from minicaffe.cli.command import Command, FlagParser
from minicaffe.text import printable_line

#: what values are that are neither words of a list nor names of files, by their metavar
_NO_FILES = frozenset(
    "A,B BLOB=N,C,H,W BLOB1[,BLOB2,...] EFFECT EXT FIELD=VALUE H,W IDS MODE N NAME N|NAME ORDER OUTPUT PHASE RULE "
    "TEXT".split()
)
_LONGEST = 70  #: characters of a description


class Value(NamedTuple):
    """What a flag or an argument takes.

    words: the words of a list; () for none.  files: whether it is a file or a folder.
    open: whether more text follows a word, as after "base_lr=".
    """

    words: tuple[str, ...] = ()
    files: bool = False
    open: bool = False


class Flag(NamedTuple):
    """A flag in its first spelling, "--stop_on_nan".  value: None for a switch."""

    name: str
    text: str
    value: Value | None

    @property
    def key(self) -> str:
        """The name as the scripts compare it: without dashes in front, and with dashes for underscores."""
        return self.name.lstrip("-").replace("_", "-")


class Words(NamedTuple):
    """What follows a command.  argument: the value of its arguments; None if it has none."""

    name: str
    text: str
    flags: tuple[Flag, ...]
    argument: Value | None


def words_of(command: Command) -> Words:
    """Return what a shell completes of a command."""
    parser = command.parser()
    actions = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    flags = (Flag(_spelling(each), brief(each.help), _value(parser, each)) for each in actions if each.option_strings)
    arguments = [_value(parser, action) for action in actions if not action.option_strings]
    return Words(command.name, brief(command.summary), tuple(flags), arguments[0] if arguments else None)


def _spelling(action: argparse.Action) -> str:
    return next((name for name in action.option_strings if name.startswith("--")), action.option_strings[0])


def _value(parser: FlagParser, action: argparse.Action) -> Value | None:
    if action.nargs == 0:
        return None
    words = parser.values_of(action)
    if words or action.type in (int, float) or action.metavar in _NO_FILES:
        return Value(words, open=bool(words) and all(word.endswith("=") for word in words))
    return Value(files=True)


def brief(text: str | None) -> str:
    """Return the first part of a help text, up to a semicolon, a colon or a bracket, of at most 70 characters."""
    first = re.split(r"[;:(]\s*|\. ", printable_line(text or ""))[0].strip().rstrip(",.")
    return first if len(first) <= _LONGEST else f"{first[: _LONGEST - 3].rsplit(' ', 1)[0]}..."
