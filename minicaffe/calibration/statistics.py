"""The training net of a solver, and the computation of its statistics."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minicaffe.calibration import records
from minicaffe.calibration.layers import groups_of, key_of, members_of
from minicaffe.calibration.records import Pass
from minicaffe.core import file_kinds, random
from minicaffe.core.net import Net
from minicaffe.core.settings import settings
from minicaffe.core.weights import check_hdf5
from minicaffe.data.moments import Moments
from minicaffe.errors import NetError, UsageError, listed
from minicaffe.layers.shared.statistics import KeepsStatistics
from minicaffe.layers.shared.views import by_channel, parts
from minicaffe.proto import caffe_pb2
from minicaffe.solvers import nets

Path = str | os.PathLike
Progress = Callable[[int, int], Any]  #: called with the number of batches that are done, and with that of all


class Change(NamedTuple):
    """The statistics of a layer before and after, each (C,)."""

    name: str
    eps: float
    mean: np.ndarray
    variance: np.ndarray
    new_mean: np.ndarray
    new_variance: np.ndarray

    @property
    def had_statistics(self) -> bool:
        """Whether the layer had been trained: its mean and variance were not all zero."""
        return bool(self.mean.any() or self.variance.any())

    @property
    def mean_error(self) -> float:
        """The largest distance between the two means of a channel, in units of sqrt(new variance + eps)."""
        with np.errstate(divide="ignore", invalid="ignore"):  # of a channel that is constant, if eps is 0
            return float((np.abs(self.mean - self.new_mean) / np.sqrt(self.new_variance + self.eps)).max(initial=0))

    @property
    def variance_ratios(self) -> tuple[float, float]:
        """The smallest and the largest quotient (variance + eps) / (new variance + eps) of a channel."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = (self.variance + self.eps) / (self.new_variance + self.eps)
        return float(ratios.min(initial=math.inf)), float(ratios.max(initial=0))


class Calibration:
    """The training net of a solver with trained weights, whose statistics can be computed anew.

    solver: path of a solver prototxt, or a SolverParameter (or a `nets.Source` of either).
    weights, more: paths of .caffemodel or .caffemodel.h5 files, which are read in order.
    net: the training net.  tests: the NetParameters of the test nets; test_iter: their numbers of batches.
    frozen: names of layers that keep their statistics, which the net uses in training, too (use_global_stats: true).

    UsageError for a net without statistics to compute or with inputs, and if `set_solver_count` has divided the data;
    errors of `Net` and `Net.copy_from` for nets and weights.
    """

    def __init__(self, solver: Path | caffe_pb2.SolverParameter | nets.Source, weights: Path, *more: Path) -> None:
        if settings.solver_count > 1:
            raise UsageError("the statistics are those of the whole training set: call set_solver_count(1) before")
        source = nets.load(solver)
        if source.param.random_seed >= 0:
            random.set_random_seed(source.param.random_seed)
        solver_nets = nets.SolverNets(source)
        self.tests, self.test_iter = solver_nets.tests, list(source.param.test_iter)
        self.net = Net.of_upgraded(_from_the_first_record(solver_nets.train))
        if self.net.inputs:
            raise UsageError(f"the training net has inputs ({listed(self.net.inputs)}) instead of data layers")
        self._members = list(members_of(self.net))
        self.frozen = [
            name
            for name, layer in zip(self.net.layer_names, self.net.layers)
            if isinstance(layer, KeepsStatistics) and layer.statistics_blobs and not layer.updates_statistics
        ]
        if not self._members:
            frozen = f"; {listed(self.frozen)} keep theirs (use_global_stats: true)" if self.frozen else ""
            raise UsageError(f"net '{self.net.name}' has no layer whose statistics training updates{frozen}")
        self._groups = groups_of(self._members)
        self.net.copy_from(weights, *more)
        self._was_hdf5 = file_kinds.is_hdf5(os.fspath(weights))

    def plan(self, iterations: int | None = None) -> Pass:
        """Return what `run` reads, see `records.plan`."""
        return records.plan(self.net, self._members, iterations)

    def run(
        self, iterations: int | None = None, sequential: bool = False, progress: Progress | None = None
    ) -> list[Change]:
        """Compute the statistics and store them in the net; return how each layer's have changed.

        iterations: number of batches; None (default): so many that each record is read once.  A last batch that begins
            the set again counts only with its first rows, those of records that were not read before.
        sequential: False (default): one pass, in which each layer normalises with the statistics of its batch, as in
            training.  True: layer after layer, each behind layers that use their new statistics, as in a test; it
            takes as many passes as there are such layers on the longest path through the net.
        progress: called after each batch.

        The data are transformed as in training (random crops and mirrors included), and Dropout drops.
        Raises NetError for values that are not finite; the net keeps its statistics then.
        """
        plan = self.plan(iterations)
        runner = self._with_stored_statistics() if sequential else self.net
        old = [member.layer.stored_statistics() for member in self._members]
        blobs = [[blob.read_data().copy() for blob in member.layer.statistics_blobs] for member in self._members]
        try:
            self._run_levels(runner, plan, sequential, progress)
        except BaseException:
            for member, values in zip(self._members, blobs):
                for blob, value in zip(member.layer.statistics_blobs, values):
                    blob.data = value
            raise
        new = [member.layer.stored_statistics() for member in self._members]
        return [Change(m.name, m.layer.eps, *was, *now) for m, was, now in zip(self._members, old, new)]

    def _run_levels(self, runner: Net, plan: Pass, sequential: bool, progress: Progress | None) -> None:
        """Read the data once for each level, or once for all, and store the statistics of its layers."""
        levels = sorted({member.level for member in self._members}) if sequential else [None]
        start = [layer.state() for layer in runner.layers]
        for number, level in enumerate(levels):
            moments = {
                key: Moments(1, members[0].layer.channels, diagonal=True) for key, members in self._groups.items()
            }
            chosen = {m.index: moments[key_of(m.layer)] for m in self._members if level in (None, m.level)}
            for batch in range(plan.batches):
                _add_batch(runner, chosen, batch, plan.counted(batch))
                if progress is not None:
                    progress(number * plan.batches + batch + 1, len(levels) * plan.batches)
            for key, members in self._groups.items():
                if members[0].index in chosen:
                    variance = np.nan_to_num(moments[key].covariance())  # of a single value: 0
                    members[0].layer.store_statistics(moments[key].mean[0], variance[0])
            for layer, state in zip(runner.layers, start):
                layer.load_state(state)

    def _with_stored_statistics(self) -> Net:
        """Return a net with the parameters of `net` in which each layer normalises with its stored statistics."""
        for members in self._groups.values():
            if len({member.level for member in members}) > 1:
                raise UsageError(
                    f"layers {listed([member.name for member in members])} share their statistics, and one is behind "
                    "another: their statistics cannot be computed layer after layer"
                )
        param = caffe_pb2.NetParameter()
        param.CopyFrom(self.net.param)
        for member in self._members:
            member.layer.freeze(param.layer[member.index])
        net = Net.of_upgraded(param)
        net.share_with(self.net)
        return net

    def check_target(self, path: Path) -> None:
        """Raise SnapshotError if a file of this name is HDF5, which cannot hold the names of the net's layers."""
        if self._is_hdf5(path):
            check_hdf5(self.net)

    def save(self, path: Path) -> None:
        """Write the net's weights as HDF5 (.h5) or binary (.caffemodel); for another ending, as the given weights are.

        SnapshotError if the file cannot be written, which leaves an older file unchanged.
        """
        (self.net.save_hdf5 if self._is_hdf5(path) else self.net.save)(path)

    def _is_hdf5(self, path: Path) -> bool:
        name = os.fspath(path)
        return name.endswith(".h5") or (self._was_hdf5 and not name.endswith(".caffemodel"))


def calibrate(
    solver: Path | caffe_pb2.SolverParameter,
    weights: Path,
    out: Path,
    iterations: int | None = None,
    sequential: bool = False,
) -> list[Change]:
    """Compute the statistics of a solver's training net over its training set, and write the weights with them.

    out: the file to write.  The other arguments, the result and the errors are those of `Calibration`.
    """
    calibration = Calibration(solver, weights)
    calibration.check_target(out)
    changes = calibration.run(iterations, sequential)
    calibration.save(out)
    return changes


# -- passes ----------------------------------------------------------------------------------------------------------


def _from_the_first_record(param: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """Return the net with data layers that skip no records at the start of their first pass."""
    for layer in param.layer:
        if layer.HasField("image_data_param"):
            layer.image_data_param.ClearField("rand_skip")
    return param


def _add_batch(net: Net, chosen: dict[int, Moments], batch: int, rows: int | None) -> None:
    """Run a net up to the last of the chosen layers, and add what each reads; `rows`: only so many, None for all."""

    def add(index: int) -> None:
        if index in chosen:
            _add_values(chosen[index], net.bottoms[index][0].read_data()[:rows])
            if not np.isfinite(chosen[index].mean).all():
                raise NetError(
                    f"layer '{net.layer_names[index]}' reads values that are not finite, in batch {batch}: the "
                    "weights have diverged, or the data are not numbers"
                )

    net.callbacks.before_forward.append(add)
    try:
        net.run_forward(0, max(chosen))
    finally:
        net.callbacks.before_forward.remove(add)


def _add_values(moments: Moments, values: np.ndarray) -> None:
    """Add the values (N, C, ...) of a blob: a vector of C numbers for each sample and place."""
    values = by_channel(values)
    for part in parts(values):
        moments.add(values[part].transpose(0, 2, 1).reshape(-1, 1, values.shape[1]))
