"""The page of the command line: every action with its flags and examples, from the parsers."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from minicaffe.cli.command import Command, find
from minicaffe.cli.entry import MODULES
from reference.docstrings import capital, cell, escaped

ARGUMENTS = "arguments"  # the title of positional arguments
FEW = 3  # a group of flags that as many commands have, word for word, is described once


class Group(NamedTuple):
    """Flags under one heading of `--help`: the title, and the rows of their table."""

    title: str
    rows: tuple[str, ...]


def page() -> list[str]:
    """The lines of docs/reference/commands.md."""
    commands = [find(name, MODULES) for name in MODULES]
    counted = Counter(group for command in commands for group in groups(command) if group.title != ARGUMENTS)
    shared = {group for group, number in counted.items() if number >= FEW}
    lines = [
        "# Commands", "",
        "`minicaffe <action> <flags>`. Flags take one dash or two, their values after a space or `=`, and an "
        "underscore or a dash between words. `minicaffe <action> --help` prints what is below.",
    ]  # fmt: skip
    for heading in dict.fromkeys(command.group for command in commands):
        lines += ["", f"- **{heading}**"]
        lines += [f"  - [`{c.name}`](#{c.name}): {escaped(c.summary)}" for c in commands if c.group == heading]
    lines += ["", "Flags of several commands: " + ", ".join(_link(title) for title in _titles(shared)) + "."]
    for command in commands:
        lines += _section(command, shared)
    for title in _titles(shared):
        lines += ["", f"## {capital(title)}"]
        lines += _table(dict.fromkeys(row for group in _sorted(shared) if group.title == title for row in group.rows))
    return lines


def _section(command: Command, shared: set[Group]) -> list[str]:
    lines = ["", f"## {command.name}", "", f"{capital(command.summary)}."]
    for paragraph in filter(None, command.description.split("\n\n")):
        lines += ["", escaped(" ".join(paragraph.split()))]
    also = []
    for group in groups(command):
        if group in shared:
            also.append(_link(group.title))
        else:
            lines += ["", f"{capital(group.title)}:", *_table(group.rows)]
    lines += ["", f"Also {', '.join(also)}."] if also else []
    return lines + (["", "```text", *_examples(command.examples), "```"] if command.examples else [])


def _examples(text: str) -> list[str]:
    return re.sub(r"^  ", "", text, flags=re.MULTILINE).split("\n")


def _table(rows) -> list[str]:
    return ["", "| Flag | Default | Meaning |", "| --- | --- | --- |", *rows]


def _titles(shared: set[Group]) -> list[str]:
    return list(dict.fromkeys(group.title for group in _sorted(shared)))


def _sorted(shared: set[Group]) -> list[Group]:
    return sorted(shared, key=lambda group: (group.title, -len(group.rows), group.rows))


def _link(title: str) -> str:
    return f"[{title}](#{title.replace(' ', '-')})"


def groups(command: Command) -> Iterator[Group]:
    """The flags of a command by heading, in the order of `--help`, without --help."""
    parser = command.parser()
    explain = parser._get_formatter()._expand_help
    for each in parser._action_groups:
        rows = tuple(_row(action, explain(action)) for action in each._group_actions if _is_shown(action))
        if rows:
            yield Group({"positional arguments": ARGUMENTS}.get(each.title or "", each.title or ""), rows)


def _is_shown(action: argparse.Action) -> bool:
    return bool(action.help) and action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)


def _row(action: argparse.Action, meaning: str) -> str:
    """The row of a flag; a default at the end of its help is left out, as it is in the column of defaults."""
    default = _default(action)
    if default:
        meaning = re.sub(rf" \((the )?(default:? )?{re.escape(default)}\)$", "", meaning)
    words = _words(action).replace("|", "\\|")
    return f"| `{words}` | {f'`{default}`' if default else ''} | {cell(meaning)} |"


def _words(action: argparse.Action) -> str:
    """The action as it is written on the command line: `--name VALUE`, `-w, --max_width N`, `NET`, `[OUT]`."""
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
    names = (action.metavar,) if isinstance(action.metavar, str) else action.metavar
    value = " ".join(names or [choices or action.dest.upper()])
    if action.option_strings:
        spellings = [s for s in action.option_strings if len(s) == 2] + [action.option_strings[0]]
        value = {0: "", "?": f"[={value}]"}.get(action.nargs, f" {value}")  # type: ignore[call-overload]
        return ", ".join(spellings) + value
    return {"?": f"[{value}]", "*": f"[{value} ...]", "+": f"{value} ..."}.get(str(action.nargs), str(value))


def _default(action: argparse.Action) -> str:
    """The default of a flag with a value; "" if it has none."""
    value = action.default
    if action.nargs == 0 or value in (None, "", [], argparse.SUPPRESS):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
