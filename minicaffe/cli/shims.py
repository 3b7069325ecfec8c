"""`minicaffe install-shims`: minicaffe under the names and paths of a Caffe that was built in its checkout.

The scripts of such a checkout call ./build/tools/caffe and ./build/examples/..., and put ./python on Python's path.
The programs written there are shell scripts (Windows: .cmd files) that run this Python; the package resolves
`import caffe` to minicaffe.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.errors import UsageError
from minicaffe.files import write_atomically
from minicaffe.run_as_caffe import checkout

_MARK = "Written by `minicaffe install-shims`"

#: Programs below build/, and the words after `minicaffe` that they run.
PROGRAMS = {
    "tools/caffe": "",
    **{f"tools/{name}": name for name in (
        "convert_imageset", "compute_image_mean", "extract_features", "upgrade_net_proto_text",
        "upgrade_net_proto_binary", "upgrade_solver_proto_text", "convert_annoset", "get_image_size",
        "create_label_map",
    )},
    "examples/cifar10/convert_cifar_data": "convert_cifar_data",
    "examples/mnist/convert_mnist_data": "convert_mnist_data",
    "examples/siamese/convert_mnist_siamese_data": "convert_mnist_siamese_data",
    "examples/cpp_classification/classification": "cpp_classification",
}  # fmt: skip

#: The tools of 2013 and 2014 with positional arguments, as words of a shell script.  Later Caffe refused them.
OLD_PROGRAMS = {
    "tools/train_net": 'train --solver "$1" ${2:+--snapshot "$2"}',
    "tools/finetune_net": 'train --solver "$1" --weights "$2"',
    "tools/test_net": 'test --model "$1" --weights "$2" --iterations "${3:-50}" --gpu "$gpu"',
    "tools/net_speed_benchmark": 'time --model "$1" --iterations "${2:-50}" --gpu "$gpu"',
    "tools/device_query": 'device_query ${1:+--gpu "$1"}',
}
_DEVICE = {  # shell lines before a program that takes [CPU/GPU] [DEVICE_ID]
    "tools/test_net": 'gpu=none; if [ "$4" = GPU ]; then gpu="${5:-0}"; fi\n',
    "tools/net_speed_benchmark": 'gpu=none; if [ "$3" = GPU ]; then gpu="${4:-0}"; fi\n',
}


def _flags(flags: FlagParser) -> None:
    flags.argument("folder", metavar="DIR", nargs="?", help="the Caffe checkout, or a folder of the same layout")
    flags.switch("command", "write a program `caffe` beside the program `minicaffe`, which is usually on the PATH")


@command(
    "install-shims",
    "Use a Caffe checkout",
    "let the scripts of a Caffe checkout run minicaffe",
    _flags,
    "  minicaffe install-shims ~/caffe\n  minicaffe install-shims --command",
)
def install_shims(args: argparse.Namespace) -> None:
    """Write DIR/build/tools/caffe and the other programs of the original, and a package by which DIR/python gives
    minicaffe for `import caffe`. They run the Python that runs this command. What this command has not written, such as
    a Caffe that is built in DIR, is not overwritten: then nothing is written.
    """
    files: dict[Path, str] = _command_file() if args.command else {}
    if args.folder:
        if not os.path.isdir(args.folder):
            raise UsageError(f"install-shims: there is no folder '{args.folder}'")
        folder = Path(args.folder)
        inside = _programs(folder / "build") | _package(folder / "python" / "caffe")
        for parent in sorted({parent for path in inside for parent in path.relative_to(folder).parents}):
            _check_folder(folder / parent, folder)
        files |= inside
    if not files:
        raise UsageError("install-shims: give the folder of a Caffe checkout, or --command")
    for path in files:
        if os.path.lexists(path) and not _is_ours(path):
            raise UsageError(f"install-shims: '{path}' exists and is not from this command; nothing was written")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
        if path.suffix != ".py":
            path.chmod(path.stat().st_mode | 0o111)
    _print_written(files)


def _print_written(files: dict[Path, str]) -> None:
    """Print the files by folder, and what else has the name `caffe`."""
    folders: dict[Path, list[str]] = {}
    for path in files:
        folders.setdefault(path.parent, []).append(path.name)
    for folder, names in folders.items():
        plain = [name for name in names if not name.endswith(".bin")]
        print_line(f"wrote {', '.join(plain)} in {folder}{', each also as NAME.bin' if plain != names else ''}")
    for path in files:
        if path.stem == "caffe" and path.parent == _scripts():
            found = shutil.which("caffe")
            if found is None or not os.path.samefile(found, path):
                print_line(f"the command `caffe` is {found or 'not found'}: put {path.parent} first on PATH")


def _check_folder(path: Path, top: Path) -> None:
    """Raise UsageError unless a path below `top` is a folder there, or not there yet; links may lead to it."""
    if os.path.lexists(path) and not path.is_dir():
        raise UsageError(f"install-shims: '{path}' is not a folder; nothing was written")
    if not path.resolve().is_relative_to(top.resolve()):
        raise UsageError(f"install-shims: '{path}' leads out of '{top}', to '{path.resolve()}'; nothing was written")


def _is_ours(path: Path) -> bool:
    """Whether a file was written by this command."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return _MARK.encode() in file.read(500)


# -- programs ----------------------------------------------------------------------------------------------------------


def _programs(build: Path, windows: bool = os.name == "nt") -> dict[Path, str]:
    """Return the text of each program by its path; Make gives programs the suffix .bin, CMake does not: both exist."""
    lines = {name: _line(word, windows) for name, word in PROGRAMS.items()}
    if windows:
        return {build / f"{name}.cmd": _program(line, windows) for name, line in lines.items()}
    for name, words in OLD_PROGRAMS.items():
        lines[name] = f"{_DEVICE.get(name, '')}exec {_python()} -m minicaffe {words}"
    texts = {name: _program(line, windows) for name, line in lines.items()}
    return {build / f"{name}{suffix}": text for name, text in texts.items() for suffix in ("", ".bin")}


def _line(word: str, windows: bool) -> str:
    """Return the line that runs an action of minicaffe ("": the one given first) with the arguments of the program."""
    action = f" {word}" if word else ""
    if windows:
        return f'"{sys.executable}" -m minicaffe{action} %*'
    return f'exec {_python()} -m minicaffe{action} "$@"'


def _program(line: str, windows: bool) -> str:
    """Return the text of a program; that of a checkout that is not installed adds it to the end of Python's path."""
    root = checkout()
    if windows:
        path = f"@set PYTHONPATH=%PYTHONPATH%;{root}\r\n" if root else ""
        return f"@rem {_MARK}.\r\n{path}@{line}\r\n"
    path = f'PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}"{shlex.quote(root)}; export PYTHONPATH\n' if root else ""
    return f"#!/bin/sh\n# {_MARK}.\n{path}{line}\n"


def _python() -> str:
    return shlex.quote(sys.executable)


def _command_file() -> dict[Path, str]:
    """Return the text of the program `caffe` by its path."""
    windows = os.name == "nt"
    return {_scripts() / ("caffe.cmd" if windows else "caffe"): _program(_line("", windows), windows)}


def _scripts() -> Path:
    """The folder in which pip installs programs of this Python."""
    return Path(sysconfig.get_path("scripts"))


# -- the package -------------------------------------------------------------------------------------------------------

_PACKAGE = '''"""`import caffe` gives minicaffe.  {mark}."""

import sys

PYTHON = {python!r}

{path}try:
    from minicaffe import run_as_caffe
except ModuleNotFoundError as error:
    message = f"this caffe is minicaffe, which {{sys.executable}} cannot import ({{error}}): use {{PYTHON}}"
    raise ImportError(message) from None
run_as_caffe.replace(__name__)
'''


def _package(folder: Path) -> dict[Path, str]:
    """Return the text of the package by its path, for the folder python/caffe.

    In a checkout of Caffe, that folder holds pycaffe's sources, whose __init__.py first imports its module `pycaffe`:
    a package of that name precedes the file pycaffe.py, and no file is changed.
    UsageError for a pycaffe that is built, and for an __init__.py of another form.
    """
    path = folder / "__init__.py"
    if path.exists() and not _is_ours(path):
        built = [*folder.glob("_caffe*.so"), *folder.glob("_caffe*.pyd")]
        if built:
            raise UsageError(f"install-shims: '{built[0]}' is a pycaffe that is built; nothing was written")
        if "pycaffe" not in next(iter(_imports(path)), ""):
            raise UsageError(f"install-shims: '{path}' exists and is not from this command; nothing was written")
        path = folder / "pycaffe" / "__init__.py"
    root = checkout()
    line = f"sys.path.append({root!r})\n" if root else ""
    return {path: _PACKAGE.format(mark=_MARK, path=line, python=sys.executable)}


def _imports(path: Path) -> list[str]:
    """Return the lines of a Python file that begin with `from` or `import`."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line.startswith(("from ", "import "))]
