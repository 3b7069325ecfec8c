"""Contestants that train as ranks of a team: minicaffe over its groups, PyTorch with DistributedDataParallel."""

from __future__ import annotations

import hashlib
import os
import time

import numpy as np

from contestants.ours import CpuMinicaffe
from contestants.pytorch import CpuPyTorch


class Rank:
    """A contestant's commands.

    rank, size, sum, share: as those of a `minicaffe.parallel.Group`.  summing: seconds of this iteration in which its
    gradients were exchanged after the backward pass.
    """

    rank, size = 0, 1
    summing = 0.0

    def start(self, path: str) -> float:
        """Make the net of a prototxt; return the loss of its first pass."""
        from minicaffe.proto import read_net

        return float(self.build(read_net(path), True)["loss"][0])

    def run_steps(self, steps: int) -> list[tuple[float, float]]:
        """Return, for each of so many steps, (seconds, seconds of it in `summing`)."""
        times = []
        for _ in range(steps):
            self.summing, start = 0.0, time.perf_counter()
            self.step()
            times.append((time.perf_counter() - start, self.summing))
        return times

    def sum_times(self, count: int, repeats: int) -> list[float]:
        """Return the seconds of each of some sums of `count` float32 numbers over the ranks."""
        array, times = np.zeros(count, np.float32), []
        for _ in range(repeats):
            start = time.perf_counter()
            self.sum(array)
            times.append(time.perf_counter() - start)
        return times

    def parts(self) -> int:
        """Return in how many parts the gradients are summed."""
        return 1

    def cost(self) -> list[float]:
        """Return [alpha, beta] of a sum over the ranks, see `minicaffe.parallel.cost`."""
        from minicaffe.parallel.cost import measure

        return list(measure(self))


class MinicaffeRank(Rank, CpuMinicaffe):
    """minicaffe, in the group of the launcher that has started this process.  variant: as CpuMinicaffe's."""

    def __init__(self, variant: str, threads: int) -> None:
        from minicaffe import parallel

        super().__init__(variant, threads)
        group = parallel.start()
        self.rank, self.size, self.sum, self.share = group.rank, group.size, group.sum, group.share

    def make(self, param) -> None:
        super().make(param)
        overlap = self.solver.ranks.overlap
        exchange = overlap.sum

        def timed(*args) -> None:
            start = time.perf_counter()
            exchange(*args)
            self.summing += time.perf_counter() - start

        if self.size > 1:
            overlap.sum = timed

    def parts(self) -> int:
        """Return in how many parts the gradients are summed; 1: after the backward pass."""
        return self.solver.ranks.overlap.parts

    def digest(self) -> str:
        """Return a hash of all parameters, by which bit-equal ranks are recognised."""
        found = hashlib.sha256()
        for blob in self.net.learnable_params:
            found.update(blob.read_data().tobytes())
        return found.hexdigest()


class TorchRank(Rank, CpuPyTorch):
    """PyTorch with DistributedDataParallel over gloo, for the variables RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.

    variant: as CpuPyTorch's.
    """

    def __init__(self, variant: str, threads: int) -> None:
        super().__init__(variant, threads)
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        if self.size > 1:
            from torch import distributed

            distributed.init_process_group("gloo")
            self.rank = distributed.get_rank()

    def load(self, param, data: np.ndarray, label: np.ndarray) -> None:
        super().load(param, data, label)
        if self.size > 1:
            # statistics of BatchNorm stay with each rank, as in Caffe; gradients are views of what is exchanged
            self.forward = self.torch.nn.parallel.DistributedDataParallel(
                self.net, broadcast_buffers=False, gradient_as_bucket_view=True
            )

    def sum(self, array: np.ndarray) -> None:
        """Replace an array by its sum over the ranks."""
        import torch

        torch.distributed.all_reduce(torch.from_numpy(array))

    def share(self, value):
        """Return the root's value at every rank."""
        from torch import distributed

        values = [value]
        distributed.broadcast_object_list(values)
        return values[0]

    def digest(self) -> str:
        """Return a hash of all parameters."""
        found = hashlib.sha256()
        for tensor in self.net.parameters():
            found.update(tensor.detach().contiguous().numpy().tobytes())
        return found.hexdigest()


KINDS = {"minicaffe": MinicaffeRank, "PyTorch": TorchRank}
