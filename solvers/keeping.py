"""Keeper: removes old snapshots, keeps the best weights, and stops a training that no longer improves."""

from __future__ import annotations

import logging
from typing import Any

from minicaffe.core import weights
from minicaffe.errors import SnapshotError, SolverError, listed
from minicaffe.solvers import snapshot_files

log = logging.getLogger("minicaffe")

_DIRECTIONS = ("smaller", "larger")


class Keeper:
    """Observer of a solver: `solver.observers.append(Keeper(solver, keep=3, best="accuracy", patience=5))`.

    keep: number of snapshots kept, at least 1; None (default): all.  After each snapshot, files `<prefix>_iter_<n>.*`
        of lower iterations are removed, except those of the newest `keep` whole sets, the one just written included.
        Those of higher iterations, which another run wrote, and all other files stay.
    best: an output of a test net with one value (mAP is one), as "accuracy" or "accuracy:larger"; None (default): none.
        At each test that improves it, the weights are written to `<prefix>_best.caffemodel`, or `.caffemodel.h5` if
        `snapshot_format` is HDF5.  After the colon, which values are better, "smaller" or "larger"; by default smaller
        for outputs with a loss weight, larger for others.
    patience: stop, with a snapshot as after Ctrl-C, when so many tests in succession do not improve `best`; None
        (default): never.

    value, iter: the best value so far, whose weights are written, and its iteration; None before the first test.
    since: number of tests without an improvement.
    These are part of the run state, so that a resumed run goes on with them.
    At ranks other than the root, which do not test or write, it does nothing.

    Raises SolverError for an unknown output, one of several values, a number below 1, and `patience` without `best`.
    """

    def __init__(
        self, solver: Any, keep: int | None = None, best: str | None = None, patience: int | None = None
    ) -> None:
        for name, number in (("keep", keep), ("patience", patience)):
            if number is not None and number < 1:
                raise SolverError(f"{name} must be at least 1, got {number}")
        if patience is not None and best is None:
            raise SolverError("patience counts tests that do not improve the best one: give the output for best, too")
        self.keep, self.patience = keep, patience
        self.output, self.net_id, self.smaller = "", -1, False
        if best is not None and solver.ranks.root:
            self.output, self.net_id, self.smaller = _test_output(solver, best)
        self.value: float | None = None
        self.iter: int | None = None
        self.since = 0
        self._whole: set[int] = set()  # iterations whose snapshots are known to be whole

    # -- the best weights ------------------------------------------------------------------------------------------

    def on_test(self, solver: Any, net_id: int, scores: dict[str, list[float]]) -> None:
        """Called after a test: write the weights if they are the best so far, stop if patience is exhausted."""
        if net_id != self.net_id:
            return
        (value,) = scores[self.output]
        if self._improves(value):
            self.since = 0
            if solver.try_to_write("copy of the best weights", lambda: self._save_best(solver, value)):
                self.value, self.iter = value, solver.iter
            return
        self.since += 1
        if self.patience is not None and self.since >= self.patience:
            log.info(
                "Stopping: no better %s in %d test%s; the best was %s, of iteration %s",
                self.output, self.since, "s" if self.since > 1 else "", self.value, self.iter,
            )  # fmt: skip
            solver.stop()

    def _improves(self, value: float) -> bool:
        """Whether a value is better than the best so far; nan never is."""
        if self.value is None:
            return value == value
        return value < self.value if self.smaller else value > self.value

    def _save_best(self, solver: Any, value: float) -> None:
        hdf5 = solver.param.snapshot_format == solver.param.HDF5
        path = f"{solver.param.snapshot_prefix}_best.caffemodel{'.h5' if hdf5 else ''}"
        log.info("Best %s so far, %.6g: writing the weights to %s", self.output, value, path)
        (weights.save_hdf5 if hdf5 else weights.save_binary)(solver.net, path)

    def run_state(self) -> dict[str, Any]:
        """Return the best value so far, for the run state."""
        return {"output": self.output, "smaller": self.smaller, "value": self.value, "iter": self.iter,
                "since": self.since}  # fmt: skip

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Restore what `run_state` returned; it is ignored if it belongs to another output or direction.

        SnapshotError unless value, iteration and number of tests are numbers, the first two together or None.
        """
        state = state if isinstance(state, dict) else {}
        value, it, since = (state.get(key) for key in ("value", "iter", "since"))
        best = value is None and it is None or isinstance(value, int | float) and isinstance(it, int)
        if not best or not isinstance(since, int):
            raise SnapshotError(f"the run state's best value is damaged: got {value}, of iteration {it}, since {since}")
        if (state.get("output"), state.get("smaller")) == (self.output, self.smaller):
            self.value, self.iter, self.since = value, it, since

    # -- old snapshots ---------------------------------------------------------------------------------------------

    def on_snapshot(self, solver: Any, path: str) -> None:
        """Called after a snapshot: remove the files of older ones."""
        if self.keep is None or not solver.ranks.root:
            return
        self._whole.add(solver.iter)
        sets, kept = snapshot_files.of_prefix(solver.param.snapshot_prefix), 0
        for n in sorted((n for n in sets if n <= solver.iter), reverse=True):
            if kept >= self.keep:
                self._remove(sets[n])
            elif n in self._whole or any(map(snapshot_files.is_whole, filter(snapshot_files.is_state, sets[n]))):
                self._whole.add(n)
                kept += 1

    def _remove(self, paths: list[str]) -> None:
        try:
            snapshot_files.remove(paths)
        except OSError as error:
            log.warning("Cannot remove the old snapshot file %s: %s", error.filename, error.strerror)


def _test_output(solver: Any, best: str) -> tuple[str, int, bool]:
    """Return name and test net of the output that `best` names, and whether smaller values are better.

    SolverError unless the solver has a test net with an output of that name and one value.
    """
    name, _, direction = best.rpartition(":")
    if not name or direction not in _DIRECTIONS:
        name, direction = best, ""
    for i, net in enumerate(solver.test_nets):
        if name in net.outputs:
            if net.blobs[name].count != 1 and name not in solver.tests.outputs(i).special:
                raise SolverError(f"best: the output '{name}' must have one value, got {net.blobs[name].count}")
            smaller = direction == "smaller" if direction else bool(net.blob_loss_weights.get(name, 0.0))
            return name, i, smaller
    known = listed(dict.fromkeys(name for net in solver.test_nets for name in net.outputs)) or "(there is no test net)"
    raise SolverError(f"best: no test net has an output '{best}', expected one of: {known}")
