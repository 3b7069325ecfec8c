"""Run a script that contains `import caffe`, unchanged, on minicaffe.

    python -m minicaffe.run_as_caffe script.py ARGS...
    python -m minicaffe.run_as_caffe -m pytest tests
    python -m minicaffe.run_as_caffe -c "import caffe; print(caffe.__version__)"

flags, before the script:
    --old-names  bring back names that libraries have removed since Caffe's time: np.float, np.int, np.bool, np.object,
                 np.fromstring of bytes, scipy.misc.imread, imresize and imsave, as_grey of skimage.io.imread; of
                 Python 2: xrange, cPickle, StringIO, net.params.iteritems() and others
    --cpu        compute on the CPU, with a warning, where the script calls caffe.set_mode_gpu()

`caffe` and its submodules become aliases of minicaffe's, in this process and in those that it starts (a notebook's
kernel, a data loader's workers): `caffe.io` is `minicaffe.io`, the same module object.  In processes that it starts,
the flags have their effects from `import caffe` on.
A script can install the aliases itself, and a notebook in its first cell:

    from minicaffe import run_as_caffe; run_as_caffe.install(old_names=True)
"""

from __future__ import annotations

import logging
import os
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from minicaffe.core import alias
from minicaffe.core.settings import set_mode_cpu, set_mode_gpu
from minicaffe.errors import DeviceError, UsageError, nearest

__all__ = ["install", "install_for_children", "main"]

_log = logging.getLogger("minicaffe")

_FLAGS = {"--old-names": "old_names", "--cpu": "cpu"}
_FOR_CHILDREN = "MINICAFFE_RUN_AS_CAFFE"  #: environment variable: arguments of `install`, separated by commas


def install(old_names: bool = False, cpu: bool = False) -> None:
    """Resolve `import caffe` to minicaffe from now on, unless another `caffe` has been imported already.

    old_names: also bring back names that other libraries have removed, see `minicaffe.old_names` (default False).
    cpu: let `set_mode_gpu()` compute on the CPU, with a warning (default False).
    """
    alias.install()
    if old_names:
        from minicaffe import old_names as names

        names.install()
    if cpu:
        sys.modules["caffe"].set_mode_gpu = _cpu_instead_of_gpu  # type: ignore[attr-defined]  # of any module


def replace(name: str) -> None:
    """Let minicaffe take the place of the module `name`, "caffe" or a part of it, while that module is imported.

    Files of that name call it: that of `minicaffe/import_alias/`, and those of `minicaffe install-shims`.
    The arguments of `install` are those of `install_for_children` in the process that has started this one, if any.
    """
    sys.modules.pop("caffe", None)  # of which the calling file is a part
    inherited = os.environ.get(_FOR_CHILDREN, "").split(",")
    install(**{name: True for name in _FLAGS.values() if name in inherited})
    sys.modules[name] = sys.modules["caffe"]


def _cpu_instead_of_gpu() -> None:
    """Stand in for `set_mode_gpu`."""
    _log.warning("set_mode_gpu() computes on the CPU, because of run_as_caffe --cpu")
    set_mode_cpu()


def checkout() -> str:
    """Return the folder of the checkout that contains this package; "" if the package is installed."""
    root = Path(__file__).resolve().parent.parent
    return str(root) if (root / "setup.cfg").exists() else ""


def install_for_children(*arguments: str) -> None:
    """Resolve `import caffe` to minicaffe in child processes too: extend their PYTHONPATH.

    `multiprocessing` gives its children the path of this process instead, which is extended, too.
    arguments: those of `install` that are True in child processes, from `import caffe` on: "old_names", "cpu".
    """
    os.environ[_FOR_CHILDREN] = ",".join(arguments)
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
    UsageError for an unknown flag, when the script does not exist, and when -m or -c has no argument.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print((__doc__ or "").strip())
        return
    arguments = []
    while words and words[0] in _FLAGS:
        arguments.append(_FLAGS[words.pop(0)])
    if not words:
        raise UsageError("run_as_caffe: expected a script, -m or -c after the flags")
    if words[0].startswith("--"):
        raise UsageError(f"run_as_caffe has no flag '{words[0]}'{nearest(words[0], _FLAGS)}")
    install(**dict.fromkeys(arguments, True))
    install_for_children(*arguments)
    _run(words)


def _run(words: list[str]) -> None:
    """Run a script, -m MODULE or -c COMMAND with its arguments; errors as for `main`."""
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


def print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error of a script as `python` does, without the frames that run the script, and the flag that helps.

    The arguments are those of `sys.excepthook`.
    """
    hint = _hint(error, trace)
    own = (_run.__code__.co_filename, runpy.run_path.__code__.co_filename)
    while trace is not None and trace.tb_frame.f_code.co_filename in own:
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)
    if hint:
        print(hint, file=sys.stderr)


def _hint(error: BaseException, trace: TracebackType | None) -> str:
    """Return a line about the flag without which an error has been raised; "" for other errors."""
    given = os.environ.get(_FOR_CHILDREN, "").split(",")
    if isinstance(error, DeviceError) and "cpu" not in given:
        if any(frame.f_code is set_mode_gpu.__code__ for frame, _ in traceback.walk_tb(trace)):
            return "run_as_caffe: with --cpu before the script, set_mode_gpu() computes on the CPU"
    if isinstance(error, (ImportError, NameError, AttributeError)) and "old_names" not in given:
        from minicaffe import old_names

        if old_names.is_missing_in(error):
            return "run_as_caffe: --old-names before the script brings this name back"
    return ""


if __name__ == "__main__":
    sys.excepthook = print_error
    try:
        main()
    except UsageError as error:
        sys.exit(str(error))
