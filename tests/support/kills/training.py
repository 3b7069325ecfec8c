"""A small training in a folder, run by `minicaffe train --snapshot auto` in forked processes.

It has what a resumed run can lose: shuffled data in two files, dropout, momentum, average_loss, two test nets with
data of their own, old snapshots that are removed, and the best weights.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import minicaffe.cli.train  # noqa: F401  (before processes are forked)
import minicaffe.layers  # noqa: F401
from minicaffe import solvers
from minicaffe.cli import main, signals
from minicaffe.core.stored_weights import open_weights

FORMS = {"HDF5": ".h5", "BINARYPROTO": ""}
LAST = 20

_NET = """
layer { name: "data" type: "HDF5Data" top: "x" top: "t" include { phase: TRAIN }
        hdf5_data_param { source: "files.txt" batch_size: 5 shuffle: true } }
layer { name: "data" type: "HDF5Data" top: "x" top: "t" include { phase: TEST }
        hdf5_data_param { source: "files.txt" batch_size: 4 shuffle: true } }
layer { name: "ip1" type: "InnerProduct" bottom: "x" top: "h"
        inner_product_param { num_output: 30 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "h" top: "h" }
layer { name: "ip2" type: "InnerProduct" bottom: "h" top: "y"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "noise" type: "DummyData" top: "noise" include { phase: TEST }
        dummy_data_param { shape { dim: 2 } data_filler { type: "gaussian" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""
_SOLVER = """
net: "net.prototxt" test_iter: 3 test_iter: 2 test_interval: 4 test_state {} test_state {} base_lr: 0.02 momentum: 0.9
lr_policy: "step" gamma: 0.5 stepsize: 6 average_loss: 5 display: 2 max_iter: %d snapshot: 3 snapshot_prefix: "s"
random_seed: 3 snapshot_format: %s
"""
_WORDS = ["train", "--solver", "solver.prototxt", "--snapshot", "auto", "--keep", "2", "--best", "loss", "--log", "log"]

Hook = Callable[[str], None]


class Training:
    """A training in `folder`, which is created; its snapshots have the format `form`."""

    def __init__(self, folder: Path, form: str) -> None:
        self.folder, self.form = folder, form
        folder.mkdir(parents=True)
        rng = np.random.default_rng(0)
        for name, rows in (("a.h5", 13), ("b.h5", 8)):
            with h5py.File(folder / name, "w") as file:
                file["x"], file["t"] = rng.standard_normal((rows, 6)), rng.standard_normal((rows, 3))
        (folder / "files.txt").write_text("a.h5\nb.h5\n")
        (folder / "net.prototxt").write_text(_NET)
        (folder / "solver.prototxt").write_text(_SOLVER % (LAST, form))

    def start(self, hook: Hook | None = None) -> int:
        """Start to train in a new process and return its number; it ends with the status of the command.

        hook: called in that process with a name, before and after each change of a file and in each pass.
        """
        return self._fork(lambda: self._train(hook))

    def check(self) -> str:
        """Return what is wrong with the files that a process left, '' if nothing is.

        Every visible file has to be whole, and temporary files have to be gone once a solver is built.
        """
        status = wait(self._fork(self._check))
        return "" if status == 0 else f"a file is damaged: {self.output()[-1500:]}"

    def result(self) -> dict[str, Any]:
        """Return the files of the last snapshot, the best weights, and every score and loss that was displayed.

        Where a resumed run displayed a value again, a different value is kept as well.
        """
        names = [f"s_iter_{LAST}.runstate", *(f"s_{stem}{FORMS[self.form]}" for stem in (
            f"iter_{LAST}.caffemodel", f"iter_{LAST}.solverstate", "best.caffemodel"))]  # fmt: skip
        found: dict[str, Any] = {name: (self.folder / name).read_bytes() for name in names}
        found["displayed"] = sorted(set((self.folder / "displayed").read_text().splitlines()))
        found["hidden"] = [name for name in os.listdir(self.folder) if name.startswith(".")]
        return found

    def output(self) -> str:
        """Return what all processes have printed."""
        return (self.folder / "output").read_text()

    # -- in the forked process -------------------------------------------------------------------------------------

    def _fork(self, work: Callable[[], int]) -> int:
        """Run `work` in a new process, in the folder; its result is the status.  Returns the number of the process."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        pid = os.fork()
        if pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return pid
        status = 70
        try:
            os.chdir(self.folder)
            sys.stdout = sys.stderr = open("output", "a", buffering=1)  # noqa: SIM115  (open until the process ends)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            status = work()
        except BaseException as error:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
            traceback.print_exc()
            if isinstance(error, KeyboardInterrupt) and not _in_minicaffe(error):
                status = 130  # before the command began, or after its end
        finally:
            os._exit(status)

    def _train(self, hook: Hook | None) -> int:
        get_solver = solvers.get_solver

        def observed(source: Any) -> Any:
            solver = get_solver(source)
            solver.observers.append(_Recorder(hook))
            return solver

        solvers.get_solver = observed
        signals.GRACE = 0  # a second signal stops at once
        if hook is not None:
            for name in ("open", "fsync", "replace", "unlink"):
                setattr(os, name, _hooked(getattr(os, name), name, hook))
        return main(_WORDS)

    def _check(self) -> int:
        solver = solvers.get_solver("solver.prototxt")
        assert not [name for name in os.listdir() if name.startswith(".")]
        for path in sorted(Path().glob("s_*")):
            kind = path.name.removesuffix(".h5").rpartition(".")[2]
            if kind == "solverstate":
                solver.restore(path)
            elif kind == "caffemodel":
                with open_weights(str(path)) as layers:
                    assert [layer.name for layer in layers if layer.blobs] == ["ip1", "ip2"]
            else:
                json.loads(path.read_bytes())
        return 0


def _in_minicaffe(error: BaseException) -> bool:
    """Whether minicaffe was running when an exception was raised."""
    package = os.path.dirname(minicaffe.__file__)
    return any(frame.filename.startswith(package) for frame in traceback.extract_tb(error.__traceback__))


class _Recorder:
    """Observer that appends every score and displayed loss to the file "displayed"."""

    def __init__(self, hook: Hook | None) -> None:
        self._file = os.open("displayed", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self._hook = hook or (lambda name: None)

    def _append(self, *values: Any) -> None:
        os.write(self._file, f"{json.dumps(values)}\n".encode())  # one call: written completely or not at all

    def on_iteration(self, solver: Any, loss: float | None) -> None:
        self._hook("iteration")

    def on_test_batch(self, solver: Any, net_id: int, i: int) -> None:
        self._hook("test batch")

    def on_test(self, solver: Any, net_id: int, scores: dict[str, list[float]]) -> None:
        self._append(solver.iter, net_id, scores)

    def on_display(self, solver: Any, loss: float, outputs: dict[str, list[float]]) -> None:
        self._append(solver.iter, loss, outputs)


def _hooked(function: Callable[..., Any], name: str, hook: Hook) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        hook(f"before {name}")
        result = function(*args, **options)
        hook(f"after {name}")
        return result

    return call


def wait(pid: int) -> int:
    """Wait for a process; return its status, or minus the number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
