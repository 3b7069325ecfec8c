"""BatchNorm's statistics anew, over the whole training set: the last step of Ioffe and Szegedy, 2015, algorithm 2.

While a net trains, BatchNorm keeps running averages of its batches' statistics; they lag behind the weights and weight
the last batches most.  Here the weights are fixed, each record of the training set is read once, and the statistics are
those of all values that a layer reads: with M values x of a channel,

    mean = sum(x) / M        variance = sum((x - mean)^2) / (M - 1)

in float64.  The paper averages the batches' variances instead, E[variance of a batch] m / (m - 1); that leaves out how
far the batches' means are from each other, and equals the above where batches are drawn independently.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minicaffe.core import file_kinds, random
from minicaffe.core.blob import Blob
from minicaffe.core.net import Net
from minicaffe.core.settings import settings
from minicaffe.core.weights import check_hdf5
from minicaffe.data.moments import Moments
from minicaffe.errors import NetError, UsageError, listed
from minicaffe.layers.shared.base_data import BaseData
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


class Pass(NamedTuple):
    """How much of the training set is read."""

    batches: int
    records: int | None  #: the number of records; None: whatever the batches contain
    size: int  #: records of a batch

    def counted(self, batch: int) -> int | None:
        """Return how many records of batch 0, 1, ... had not been read before; None for all."""
        left = self.size if self.records is None else self.records - batch * self.size
        return left if left < self.size else None


@dataclass(frozen=True)
class _Member:
    """A layer whose statistics are computed."""

    index: int  # in the net
    name: str
    layer: KeepsStatistics
    level: int  # the number of such layers on the longest path from the data to this one


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
        self._members = list(_members(self.net))
        self.frozen = [
            name
            for name, layer in zip(self.net.layer_names, self.net.layers)
            if isinstance(layer, KeepsStatistics) and layer.statistics_blobs and not layer.updates_statistics
        ]
        if not self._members:
            frozen = f"; {listed(self.frozen)} keep theirs (use_global_stats: true)" if self.frozen else ""
            raise UsageError(f"net '{self.net.name}' has no layer whose statistics training updates{frozen}")
        self._groups = _groups(self._members)
        self.net.copy_from(weights, *more)
        self._was_hdf5 = file_kinds.is_hdf5(os.fspath(weights))

    def plan(self, iterations: int | None = None) -> Pass:
        """Return what `run` reads: each record once, or `iterations` batches.

        UsageError if the number of records is not known, or if the last batch has records that were read before and the
        values of a layer are not in the order of the records.
        """
        if iterations is not None:
            if iterations < 1:
                raise UsageError(f"expected a number of batches above 0, got {iterations}")
            return Pass(iterations, None, 0)
        sources = [layer for layer in self.net.layers if isinstance(layer, BaseData)]
        sizes = {(layer.records, layer.reader.batch_size) for layer in sources if layer.records is not None}
        if not sizes:
            raise UsageError(
                "the number of training records is not known: no layer of the training net reads a database or a list "
                "of images; give the number of batches (--iterations)"
            )
        if len(sizes) > 1:
            raise UsageError(
                f"data layers {listed([layer.name for layer in sources])} differ in their numbers of records or batch "
                "sizes; give the number of batches (--iterations)"
            )
        ((records, size),) = sizes
        if records % size:
            self._check_rows(records, size)
        return Pass(math.ceil(records / size), records, size)

    def _check_rows(self, records: int, size: int) -> None:
        """Raise UsageError unless the rows that each layer reads are one for each record of a batch."""
        for member in self._members:
            rows = self.net.bottoms[member.index][0].shape[0]
            if rows != size:
                raise UsageError(
                    f"the last batch repeats records, and the rows of layer '{member.name}' are not one for each "
                    f"record ({rows} rows, {size} records in a batch): give a batch size that divides {records}, or "
                    f"--iterations {math.lcm(records, size) // size}, which reads all records equally often"
                )

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
            chosen = {m.index: moments[_key(m.layer)] for m in self._members if level in (None, m.level)}
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


# -- the layers of a net -----------------------------------------------------------------------------------------------


def _from_the_first_record(param: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """Return the net with data layers that skip no records at the start of their first pass."""
    for layer in param.layer:
        if layer.HasField("image_data_param"):
            layer.image_data_param.ClearField("rand_skip")
    return param


def _members(net: Net) -> Iterator[_Member]:
    """Yield the layers whose statistics are computed, in the order of the net."""
    levels: dict[Blob, int] = {}
    for index, (name, layer) in enumerate(zip(net.layer_names, net.layers)):
        level = max((levels.get(blob, 0) for blob in net.bottoms[index]), default=0)
        if isinstance(layer, KeepsStatistics) and layer.updates_statistics:
            yield _Member(index, name, layer, level)
            level += 1
        levels.update((blob, level) for blob in net.tops[index])


def _key(layer: KeepsStatistics) -> tuple[int, ...]:
    """Identify the memory of a layer's statistics, which layers may share by the names of their parameters."""
    return tuple(id(blob.data_memory) for blob in layer.statistics_blobs)


def _groups(members: Sequence[_Member]) -> dict[tuple[int, ...], list[_Member]]:
    """Return the layers by the memory of their statistics; UsageError for layers that share a part of them."""
    groups: dict[tuple[int, ...], list[_Member]] = {}
    owner: dict[int, tuple[tuple[int, ...], str]] = {}
    for member in members:
        key = _key(member.layer)
        for memory in key:
            other, name = owner.setdefault(memory, (key, member.name))
            if other != key:
                raise UsageError(f"layers '{name}' and '{member.name}' share some of their statistics, but not all")
        groups.setdefault(key, []).append(member)
    return groups


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
