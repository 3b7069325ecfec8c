"""How much of a training set is read, so that each record counts once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from minicaffe.calibration.layers import Member
from minicaffe.core.net import Net
from minicaffe.errors import UsageError, listed
from minicaffe.layers.shared.base_data import BaseData


class Pass(NamedTuple):
    """How much of the training set is read."""

    batches: int
    records: int | None  #: the number of records; None: whatever the batches contain
    size: int  #: records of a batch

    def counted(self, batch: int) -> int | None:
        """Return how many records of batch 0, 1, ... had not been read before; None for all."""
        left = self.size if self.records is None else self.records - batch * self.size
        return left if left < self.size else None


def plan(net: Net, members: Sequence[Member], iterations: int | None = None) -> Pass:
    """Return what to read: each record of a training net's data once, or `iterations` batches.

    members: the layers whose statistics are computed.
    UsageError if the number of records is not known, or if the last batch has records that were read before and the
    values of a layer are not in the order of the records.
    """
    if iterations is not None:
        if iterations < 1:
            raise UsageError(f"expected a number of batches above 0, got {iterations}")
        return Pass(iterations, None, 0)
    sources = [layer for layer in net.layers if isinstance(layer, BaseData)]
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
        _check_rows(net, members, records, size)
    return Pass(math.ceil(records / size), records, size)


def _check_rows(net: Net, members: Sequence[Member], records: int, size: int) -> None:
    """Raise UsageError unless the rows that each layer reads are one for each record of a batch."""
    for member in members:
        rows = net.bottoms[member.index][0].shape[0]
        if rows != size:
            raise UsageError(
                f"the last batch repeats records, and the rows of layer '{member.name}' are not one for each record "
                f"({rows} rows, {size} records in a batch): give a batch size that divides {records}, or "
                f"--iterations {math.lcm(records, size) // size}, which reads all records equally often"
            )
