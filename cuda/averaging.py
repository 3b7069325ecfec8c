"""Gradients of several ranks, averaged by one NCCL operation on one buffer, which has the diffs of all parameters."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from minicaffe.core.blob import Blob
from minicaffe.cuda import context, nccl
from minicaffe.cuda.memory import GPU, DeviceBuffer
from minicaffe.errors import SolverError
from minicaffe.parallel.group import Group

log = logging.getLogger("minicaffe")

_ALIGNMENT = 256  # bytes, as CUDA aligns what it allocates


class Averaging:
    """Averages the diffs of a net's parameters over the ranks.

    The diffs are parts of one buffer: layers write to it, and nothing is copied.
    """

    def __init__(self, communicator: nccl.Communicator) -> None:
        self.communicator = communicator
        self.accord = communicator.accord
        self._parts: list[DeviceBuffer] = []
        self._buffer: DeviceBuffer | None = None

    def placed(self, params: Sequence[Blob]) -> bool:
        """Whether the diffs of the parameters are in the buffer, as `place` has put them there."""
        return len(params) == len(self._parts) and all(
            blob.diff_memory.copies.get(GPU) is part for blob, part in zip(params, self._parts)
        )

    def place(self, params: Sequence[Blob]) -> None:
        """Move the diffs of the parameters to a new buffer.

        All ranks call this together; raises SolverError if their parameters differ in number, size or dtype.
        """
        self._compare(params)
        itemsize = params[0].dtype.itemsize if params else 4
        starts, end = [], 0
        for blob in params:
            starts.append(end)
            end += -(-max(blob.diff_memory.count, 1) * itemsize // _ALIGNMENT) * _ALIGNMENT
        self._buffer = DeviceBuffer(end)
        self._buffer.zero()
        self._parts = [self._move(blob, start) for blob, start in zip(params, starts)]

    def _move(self, blob: Blob, start: int) -> DeviceBuffer:
        """Move the diff of a parameter to the buffer, from byte `start` on; return that part of the buffer."""
        assert self._buffer is not None
        memory = blob.diff_memory
        values = memory.read(GPU)
        part = self._buffer.part(start, values.nbytes)
        part.copy_from(values)
        memory.wrote(GPU, part)
        memory.settle()
        return part

    def _compare(self, params: Sequence[Blob]) -> None:
        own = [[blob.dtype.name, blob.diff_memory.count, *blob.shape] for blob in params]
        for rank, others in enumerate(self.communicator.group.exchange(own)):
            if others != own:
                raise SolverError(
                    f"the ranks train different nets: {_difference(own, others, self.communicator.group.rank, rank)}"
                )

    def average(self, params: Sequence[Blob]) -> None:
        """Queue the replacement of all diffs by their means over the ranks."""
        if not self.placed(params):
            raise SolverError("the parameters of the net have got other memory during an iteration of several ranks")
        if self._buffer is None or not params:
            return
        for blob in params:
            blob.mutable_gpu_diff()
        dtype = params[0].dtype
        self.communicator.average(self._buffer.ptr, self._buffer.nbytes // dtype.itemsize, dtype)


def _difference(own: list, others: list, rank: int, other: int) -> str:
    """Return the first difference between the parameters of two ranks, in words."""
    if len(own) != len(others):
        return f"rank {rank} has {len(own)} parameters, rank {other} has {len(others)}"
    index = next(i for i, (a, b) in enumerate(zip(own, others)) if a != b)
    (dtype, _, *shape), (dtype_there, _, *shape_there) = own[index], others[index]
    here, there = f"shape {tuple(shape)} ({dtype})", f"shape {tuple(shape_there)} ({dtype_there})"
    return f"parameter {index} has {here} at rank {rank}, {there} at rank {other}"


def join(group: Group) -> Averaging | None:
    """Return the Averaging of a group; all ranks call this together.

    Returns None if a rank has no NCCL, or two have one GPU; the reason is logged.
    """
    reason = _obstacle(group.exchange([nccl.reason_unavailable(), context.current().address]))
    if reason:
        log.info("Gradients are averaged through the host, without a CUDA graph: %s", reason)
        return None
    return Averaging(nccl.connection(group))


def _obstacle(ranks: Sequence[Sequence[str]]) -> str:
    """Return why these ranks cannot use NCCL, from (own reason, address of the GPU) of each; '' if they can."""
    first_with: dict[str, int] = {}
    for rank, (reason, address) in enumerate(ranks):
        if reason:
            return f"rank {rank}: {reason}"
        if first_with.setdefault(address, rank) != rank:
            return f"rank {rank}: NCCL cannot use the GPU of rank {first_with[address]} ({address}) twice"
    return ""
