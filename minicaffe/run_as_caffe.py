"""Run a script that contains `import caffe`, unchanged, on minicaffe.

    python -m minicaffe.run_as_caffe script.py ARGS...
    python -m minicaffe.run_as_caffe -m pytest tests
    python -m minicaffe.run_as_caffe -c "import caffe; print(caffe.__version__)"

`caffe` and its submodules become aliases of minicaffe's, in this process and in those that it starts (a notebook's
kernel, a data loader's workers): `caffe.io` is `minicaffe.io`, the same module object.
A script can install the aliases itself:

    from minicaffe import run_as_caffe; run_as_caffe.install()
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from minicaffe.core.alias import install
from minicaffe.errors import UsageError

__all__ = ["install", "install_for_children", "main"]


def checkout() -> str:
    """Return the folder of the checkout that contains this package; "" if the package is installed."""
    root = Path(__file__).resolve().parent.parent
    return str(root) if (root / "setup.cfg").exists() else ""


def install_for_children() -> None:
    """Resolve `import caffe` to minicaffe in child processes too: extend their PYTHONPATH.

    `multiprocessing` gives its children the path of this process instead, which is extended, too.
    """
    folders = [str(Path(__file__).resolve().parent / "import_alias")]
    sys.path[1:1] = folders
    if checkout():  # which children find only from its own folder
        folders.append(checkout())
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders += [folder for folder in known if folder and folder not in folders]
    os.environ["PYTHONPATH"] = os.pathsep.join(folders)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a script, a module (-m) or a command (-c) with `caffe` as an alias of minicaffe, as `python` does.

    argv: the command line without the program's name; None (default): the process's own.
    UsageError when the script does not exist, or when -m or -c has no argument.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print((__doc__ or "").strip())
        return
    install()
    install_for_children()
    if words[0] in ("-m", "-c"):
        if len(words) < 2:
            raise UsageError(f"run_as_caffe: expected a {'module' if words[0] == '-m' else 'command'} after {words[0]}")
        sys.path[0] = os.getcwd() if words[0] == "-m" else ""
        sys.argv = [words[0] if words[0] == "-c" else words[1], *words[2:]]
        if words[0] == "-m":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
        return
    if not os.path.exists(words[0]):
        raise UsageError(f"run_as_caffe: script '{words[0]}' does not exist")
    sys.argv = words
    sys.path[0] = os.path.dirname(os.path.abspath(words[0]))
    runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(str(error))
