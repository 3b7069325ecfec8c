"""`minicaffe models`: list the nets that minicaffe brings, and copy one of them."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sys

from minicaffe import models
from minicaffe.cli.command import FlagParser, command, own_name, print_line
from minicaffe.errors import UsageError
from minicaffe.files import read_bytes, write_atomically
from minicaffe.models.texts import accuracy, deploy_net, summary, texts, zoo_names
from minicaffe.pictures.costs import net_costs

_ROW = "{:<26}{:>12}  {:<9} {}"


def _flags(flags: FlagParser) -> None:
    flags.argument("name", metavar="NAME", nargs="?", values=[*models.names(), *zoo_names()],
                   help="the net to copy (default: list all nets)")  # fmt: skip
    flags.argument("folder", metavar="DIR", nargs="?", help="where to copy it (default: NAME in the folder models)")


@command(
    "models",
    "Begin",
    "list the nets that come with minicaffe, or copy one of them",
    _flags,
    "  minicaffe models\n  minicaffe models cifar10_quick my_net\n  minicaffe train --solver my_net/solver.prototxt",
)
def models_command(args: argparse.Namespace) -> None:
    """Print name, number of parameters, test accuracy and a summary of each net; or write the prototxts and the readme
    of one into DIR, with paths that hold in the present folder.

    Files in DIR that differ from those to write are not replaced: nothing is written then.
    """
    if args.name is None:
        _list()
        return
    folder = (args.folder or f"models/{args.name}").rstrip("/") or "/"
    files = texts(args.name, folder)
    written = _copy(files, folder)
    print_line(
        f"Wrote {', '.join(written)} to {folder}" if written else f"{folder} has the files of {args.name} already"
    )
    if "solver.prototxt" in files:
        solver = shlex.quote(f"{folder}/solver.prototxt")
        commands = [*_data_commands(files["readme.md"]), f"train --solver {solver}"]
        lines = "".join(f"\n  {own_name()} {each}" for each in commands)
        print_line(f"\nWhat to try next, as {folder}/readme.md describes:{lines}")


def _data_commands(readme: str) -> list[str]:
    """Return the `minicaffe data` commands of a readme, without the program's name and comments."""
    return [line.partition("#")[0].strip() for line in re.findall(r"^ {4}minicaffe (data .*)$", readme, re.MULTILINE)]


def _list() -> None:
    """Print a line for each net."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for title, names in (("with a solver and results", models.names()), ("from papers, the net alone", zoo_names())):
        print_line(_line(width, title, "parameters", "accuracy", ""))
        for name in names:
            layers = net_costs(deploy_net(name)).layers
            counts = [layer.own_params for layer in layers if layer.type != "BatchNorm"]
            known = [count for count in counts if count is not None]  # others are behind a Python layer
            total = f"{sum(known):,}" if len(known) == len(counts) else ""
            print_line(_line(width, f"  {name}", total, accuracy(name), summary(name)), flush=True)
        print_line("")
    print_line(f"`{own_name()} models NAME DIR` copies one. Statistics of BatchNorm are not counted as parameters.")


def _line(width: int | None, *cells: str) -> str:
    """Return a row of the list, shortened to a width; None: not shortened."""
    line = _ROW.format(*cells).rstrip()
    return line if width is None or len(line) <= width else f"{line[: width - 1]}…"


def _copy(files: dict[str, str], folder: str) -> list[str]:
    """Write files into a folder; return the names of those that were not there, with the same text, before.

    UsageError, before any is written, if a file of another text is there.
    """
    missing = []
    for name, text in files.items():
        path = os.path.join(folder, name)
        if not os.path.lexists(path):
            missing.append(name)
        elif not os.path.isfile(path) or read_bytes(path) != text.encode():
            raise UsageError(f"models: '{path}' is another file, which is not replaced: give another DIR")
    os.makedirs(folder, exist_ok=True)
    for name in missing:
        write_atomically(os.path.join(folder, name), files[name])
    return missing
