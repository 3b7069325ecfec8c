"""Batch normalisation over the batches of all ranks: what the same layer of each rank exchanges in a pass.

In Caffe each rank normalises with the statistics of its own batch.  With `settings.sync_bn` the ranks normalise with
those of all batches together, as one process with the whole batch does.  In a forward pass they exchange, for each
channel of a layer, mean and sum of squared deviations, which are merged as in Chan, Golub and LeVeque, 1979; in a
backward pass, the sums of dy and dy * y.  Both go over a channel of `settings.group`, which belongs to the group
(`Group.channel`); meanwhile gradients may be summed over another connection.  Where the ranks' GPUs average gradients
by NCCL, both go over that connection instead, and can be captured.

All ranks must run the passes of such a layer together: where one runs `net.forward()` by itself, it waits for the
others.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.settings import settings
from minicaffe.cuda import nccl
from minicaffe.cuda.kernels import kernel
from minicaffe.parallel.group import Group
from minicaffe.proto import TRAIN

_USE = "statistics"  #: of the group's channel


def exchange_of(phase: int, of_batch: bool, channels: int, dtype: np.dtype) -> Exchange | None:
    """Return the Exchange of a layer that is set up in this thread; None if it takes the statistics of its own batch.

    phase: of the layer; the nets of tests are the root's alone.  of_batch: whether it uses a batch's statistics at all.
    """
    group = settings.group
    if not settings.sync_bn or group is None or group.size == 1 or phase != TRAIN or not of_batch:
        return None
    return Exchange(group, channels, dtype)


class Exchange:
    """Combines what one layer has computed of each rank's batch.

    group: the ranks.  channels: C.  dtype: of the layer.

    A rank's part is 1 + 2C numbers in float64: the count of values in each channel, C numbers, C numbers.  Every rank
    gets the same bits, as all add the same numbers in the order of the ranks.
    """

    def __init__(self, group: Group, channels: int, dtype: np.dtype) -> None:
        self._group, self._dtype = group, dtype
        self.size = group.size
        part = 1 + 2 * channels
        self._rows = Blob((self.size, part), np.float64)  # one for each rank
        self._sums = Blob((part,), np.float64)

    # -- on the host -------------------------------------------------------------------------------------------------

    def statistics(self, count: int, mean: np.ndarray, squares: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
        """Return count, mean (C,) and sum of squared deviations (C,) of all batches, from those of this rank's."""
        rows = np.zeros(self._rows.shape)
        rows[self._group.rank] = np.concatenate(([count], mean, squares))
        self._rows.data = rows
        self._sum(self._rows)
        total, mean, squares = _merged(self._rows.read_data())
        return total, mean.astype(self._dtype), squares.astype(self._dtype)

    def sums(self, count: int, *sums: np.ndarray) -> tuple[int, list[np.ndarray]]:
        """Return count, and two sums, each (C,), over all batches, from those over this rank's."""
        self._sums.data = np.concatenate(([count], *sums))
        self._sum(self._sums)
        total, *values = np.split(self._sums.read_data(), (1, 1 + len(sums[0])))
        return int(total[0]), [each.astype(self._dtype) for each in values]

    # -- on the GPU --------------------------------------------------------------------------------------------------

    def statistics_gpu(self, n: int, parts: int, length: int, count: int, partial: int) -> int:
        """As `statistics`, from the results of the kernel `moment_parts`; return the address of all ranks' parts.

        n: the number of channels.  length: of a part.  The kernels that read the parts merge them (cuda/ranks.cuh).
        """
        rank, rows = self._group.rank, self._rows.mutable_gpu_data()
        own = kernel("batch_norm", "own_statistics", self._dtype)
        own.launch((n, 1), 256, n, parts, length, count, rank, self.size, partial, rows)
        self._sum(self._rows)
        return self._rows.gpu_data()

    def gradients_gpu(self, n: int, parts: int, count: int, partial: int, db: int, ds: int, means: int) -> None:
        """As `sums`, from the results of the kernel `gradient_parts`; write the sums divided by count to `means`.

        n: the number of channels.  db, ds: addresses of gradients to which this rank's sums are added, or 0.
        means: 0 if they are not needed: then nothing is exchanged.
        """
        own = kernel("batch_norm", "own_gradients", self._dtype)
        own(n, parts, count, partial, db, ds, self._sums.mutable_gpu_data())
        if means:
            self._sum(self._sums)
            kernel("batch_norm", "means_of_ranks", self._dtype)(2 * n, self._sums.gpu_data(), means)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _sum(self, blob: Blob) -> None:
        """Replace the values of a blob by their sums over all ranks."""
        connection = nccl.made(self._group) if settings.engine.mode == "GPU" else None
        if connection is not None:
            connection.sum(blob.mutable_gpu_data(), blob.count, blob.dtype)
            return
        values = blob.read_data().flatten()
        self._group.channel(_USE).sum(values)
        blob.data = values.reshape(blob.shape)


def _merged(rows: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Return count, mean and sum of squared deviations of all batches, from one row (count, means, squares) for each.

    The kernels' `Merged` (cuda/ranks.cuh) computes the same.
    """
    counts, (means, squares) = rows[:, :1], np.split(rows[:, 1:], 2, axis=1)
    count = counts.sum()
    mean = sum(counts * means) / count
    return int(count), mean, sum(squares + counts * (means - mean) ** 2)
