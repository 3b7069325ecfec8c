"""The commands of `minicaffe`: functions with a name, a group, flags and examples, registered by `@command`.

Flags are parsed as in the original: one dash or two, `=` or a space, an underscore or a dash between words.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from minicaffe.errors import UsageError, nearest
from minicaffe.text import printable

#: the flags for files that are given without one, by the ends of their names; the first one that the command has
_FLAGS_OF_FILES = {
    ".prototxt": ("solver", "model"),
    ".caffemodel": ("weights",),
    ".caffemodel.h5": ("weights",),
    ".solverstate": ("snapshot",),
    ".solverstate.h5": ("snapshot",),
}


def print_line(text: str, flush: bool = False) -> None:
    """Print a line of a command's output, control characters in its names escaped (`printable`).

    flush: whether to flush standard output (default False).
    """
    print(printable(text), flush=flush)


@dataclass(frozen=True)
class Command:
    """One action of the command line; `run` takes the parsed flags and returns an exit status (None: 0)."""

    name: str
    group: str
    summary: str
    add_flags: Callable[[FlagParser], None]
    run: Callable[[argparse.Namespace], int | None]
    description: str
    examples: str

    def parser(self) -> FlagParser:
        """Return the parser of this command's flags, `--help` included."""
        paragraphs = [f"{self.summary[0].upper()}{self.summary[1:]}.", *self.description.split("\n\n")]
        description = "\n\n".join(textwrap.fill(text, _width()) for text in paragraphs if text)
        epilog = f"examples:\n{self.examples}" if self.examples else None
        parser = FlagParser(self.name, description=description, epilog=epilog)
        self.add_flags(parser)
        parser.flag("help", action="help", help="show this text and exit", also=["-h"])
        return parser

    def __call__(self, argv: Sequence[str]) -> int:
        parser = self.parser()
        args, rest = parser.parse_known_args(parser.plain_switches(argv))
        if rest:
            raise parser.unexpected(rest[0])
        if not getattr(args, "skip_unknown_fields", False):
            return self.run(args) or 0
        from minicaffe.proto.skipping import skipping

        with skipping():
            return self.run(args) or 0


_registry: dict[str, Command] = {}


def command(
    name: str, group: str, summary: str, flags: Callable[[FlagParser], None], examples: str = ""
) -> Callable[[Callable], Callable]:
    """Register the decorated function as `minicaffe <name>`; its docstring becomes the description in `--help`.

    group: the heading in the overview.  summary: one line, without a capital and a full stop.
    flags: a function that adds the flags to a parser.  examples: indented lines for `--help`.
    """

    def add(run: Callable[[argparse.Namespace], int | None]) -> Callable:
        text = "\n".join(line.strip() for line in (run.__doc__ or "").strip().splitlines())
        _registry[name] = Command(name, group, summary, flags, run, text, examples)
        return run

    return add


def find(name: str, modules: dict[str, str]) -> Command:
    """Return the command of that name, importing the module that `modules` lists for it.

    UsageError for an unknown name.
    """
    if name not in modules:
        raise UsageError(f"unknown action '{name}'{nearest(name, modules)}; `minicaffe --help` lists all actions")
    if name not in _registry:
        importlib.import_module(modules[name])
    return _registry[name]


def all_commands(modules: dict[str, str]) -> list[Command]:
    """Return all commands, importing their modules."""
    return [find(name, modules) for name in modules]


def own_name() -> str:
    """Return the command that runs minicaffe as this process does, in its shortest form: `minicaffe` if that is found
    on the PATH, the path of the program, or this Python with -m.
    """
    word = sys.argv[0]
    if os.path.basename(word) == "minicaffe":
        found = shutil.which("minicaffe")
        same = found is not None and os.path.exists(word) and os.path.samefile(found, word)
        return "minicaffe" if same else shlex.quote(word)
    found = shutil.which("python")
    same = found is not None and os.path.abspath(found) == sys.executable  # links to one Python have other packages
    return f"{'python' if same else shlex.quote(sys.executable)} -m minicaffe"


def _width() -> int:
    """The width of help in columns: that of the terminal, at most 100."""
    return max(min(shutil.get_terminal_size().columns, 100) - 2, 40)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Formatter that shows one spelling of each flag, with two dashes."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=_width())

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = [s for s in action.option_strings if len(s) == 2] + [action.option_strings[0]]
        if action.nargs == 0:
            return ", ".join(names)
        return f"{', '.join(names)} {self._format_args(action, '')}"


class FlagParser(argparse.ArgumentParser):
    """An ArgumentParser whose flags take one dash or two, and whose errors are `UsageError`s of one sentence."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(f"minicaffe {name}", formatter_class=_Help, allow_abbrev=False, add_help=False, **options)
        self._name = name
        self._group: Any = self
        self._switches: set[str] = set()
        self._values: dict[str, tuple[str, ...]] = {}

    def section(self, title: str) -> None:
        """Start a heading in `--help` for the flags that are added next."""
        self._group = self.add_argument_group(title)

    def flag(self, name: str, also: Sequence[str] = (), values: Sequence[str] = (), **options: Any) -> None:
        """Add `--name`, also accepted as `-name`; options are those of `add_argument`.

        also: further spellings.  values: what the flag takes, for shells that complete it; the parser does not check
        it, as it does `choices`.
        """
        spellings = dict.fromkeys([name, name.replace("_", "-"), name.replace("-", "_")])
        strings = [f"{dashes}{spelling}" for spelling in spellings for dashes in ("--", "-")]
        dest = {} if options.get("action") in ("help", "version") else {"dest": name.replace("-", "_")}
        action = self._group.add_argument(*strings, *also, **dest, **options)
        self._values[action.dest] = tuple(values)

    def switch(self, name: str, help: str) -> None:
        """Add a boolean that is off by default: `--name`, `--name=false`, `--noname`."""
        self._switches.add(name)
        self.flag(name, action="store_true", help=help)
        self._group.add_argument(
            f"--no{name}", f"-no{name}", dest=name.replace("-", "_"), action="store_false", help=argparse.SUPPRESS
        )

    def values_of(self, action: argparse.Action) -> tuple[str, ...]:
        """Return the words that a flag or an argument takes, as far as they are known; () for any others."""
        return tuple(map(str, action.choices)) if action.choices else self._values.get(action.dest, ())

    def plain_switches(self, argv: Sequence[str]) -> list[str]:
        """Replace `--name=false` by `--noname`, and `--name=true` by `--name`, for all switches.

        UsageError for a value that is not a boolean.
        """
        words = []
        for word in argv:
            name, equals, value = word.lstrip("-").partition("=")
            if equals and name in self._switches and word.startswith("-"):
                word = f"--{name}" if _boolean(name, value) else f"--no{name}"
            words.append(word)
        return words

    def words(self, args: argparse.Namespace) -> list[str]:
        """Return the words of a command line whose flags parse to `args`, without those that have their defaults."""
        words = []
        for action in self._actions:
            value = getattr(args, action.dest, action.default)
            if action.option_strings and action.help != argparse.SUPPRESS and value != action.default:
                name = action.option_strings[0]
                for each in value if isinstance(value, list) else [value]:
                    separate = action.nargs == 0 or not str(each).startswith("-")
                    words += [name, *([] if action.nargs == 0 else [str(each)])] if separate else [f"{name}={each}"]
        return words

    def argument(self, name: str, values: Sequence[str] = (), **options: Any) -> None:
        """Add a positional argument; options are those of `add_argument`, `values` as for `flag`."""
        self._values[self._group.add_argument(name, **options).dest] = tuple(values)

    def unexpected(self, word: str) -> UsageError:
        """Return the error for a word that is neither a known flag nor a positional argument."""
        if word.startswith("-") and len(word) > 1:
            name = word.lstrip("-").partition("=")[0]
            hint = nearest(f"--{name}", [s for s in self._option_string_actions if s.startswith("--")])
            return UsageError(f"{self._name} has no flag '{word}'{hint}; `{self.prog} --help` lists them")
        for name in (name for end, names in _FLAGS_OF_FILES.items() if word.endswith(end) for name in names):
            if f"--{name}" in self._option_string_actions:
                return UsageError(f"{self._name}: expected a flag before '{word}': give --{name} {shlex.quote(word)}")
        return UsageError(f"{self._name}: expected exactly one action and its flags, got '{word}' as well")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help; argparse would ignore an error of writing."""
        print(message, end="", file=file)

    def error(self, message: str) -> NoReturn:
        """Raise argparse's error message as UsageError."""
        message = re.sub(r"(?<!\S)(-+[\w-]+)(/-+[\w-]+)+", r"\1", message)  # one spelling of each flag
        raise UsageError(f"{self._name}: {message}; see `{self.prog} --help`")


def _boolean(name: str, text: str) -> bool:
    for value, words in ((True, ("true", "t", "yes", "y", "1")), (False, ("false", "f", "no", "n", "0"))):
        if text.lower() in words:
            return value
    raise UsageError(f"--{name}: expected true or false, got '{text}'")
