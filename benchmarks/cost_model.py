"""The time of an iteration of data-parallel training on n devices, as a formula:

    T(n) = slowest(n) * compute + stall + exposed(alpha * steps(n) + beta * bytes(n))

compute  seconds of forward, backward and update on one device: overhead + images * (seconds of an image)
slowest  the slowest of n devices, whose times scatter by `jitter`
stall    what the input pipeline takes longer than the compute: batches are prepared ahead, beside it
exposed  the part of the exchange that the backward pass does not hide; all of it where one flat buffer is summed

Seconds, bytes and images throughout; beta is seconds a byte.  Sources of the costs of collectives: Thakur, Rabenseifner
and Gropp, "Optimization of Collective Communication Operations in MPICH", IJHPCA 19(1), 2005; Sanders, Speck and
Traeff, "Two-tree algorithms for full bandwidth broadcast, reduction and scan", Parallel Computing 35, 2009.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

BACKWARD = 2 / 3  #: the part of an iteration's compute in which gradients become ready


@dataclass(frozen=True)
class Link:
    """A connection: alpha, seconds of a step whatever its size; beta, seconds a byte in each direction."""

    alpha: float
    beta: float


Allreduce = Callable[[int, float, Link], float]  #: seconds of a sum of so many bytes over n ranks


def ring(n: int, size: float, link: Link) -> float:
    """Each rank sends 2 (n - 1) parts of size / n to its neighbour; also the cost of exchanging shares all to all."""
    return 2 * (n - 1) * (link.alpha + size / n * link.beta)


def tree(n: int, size: float, link: Link) -> float:
    """A binary tree up and down, whole messages: Caffe's own of parallel.cpp before NCCL."""
    return 2 * math.ceil(math.log2(n)) * (link.alpha + size * link.beta)


def pipelined_tree(n: int, size: float, link: Link) -> float:
    """Two trees up and down, messages in pieces: every rank sends and receives all bytes twice (NCCL's tree)."""
    return 2 * math.ceil(math.log2(n)) * link.alpha + 2 * size * link.beta if n > 1 else 0.0


def star(n: int, size: float, link: Link) -> float:
    """All ranks send to the root, which adds, and sends the sum to all."""
    return 2 * (n - 1) * (link.alpha + size * link.beta)


def best(n: int, size: float, link: Link) -> float:
    """The shorter of ring and pipelined tree, as NCCL chooses."""
    return min(ring(n, size, link), pipelined_tree(n, size, link))


@dataclass(frozen=True)
class Cluster:
    """Machines: so many devices a node, `inside` between them, `between` for a node's traffic with the others.

    algorithm: between the nodes, and inside one.  pieces: whether messages pass in pieces, so that both go on at once.
    """

    devices: int
    inside: Link
    between: Link
    algorithm: Allreduce = best
    pieces: bool = True

    def allreduce(self, n: int, size: float) -> float:
        """Seconds of a sum over n devices that fill whole nodes: reduce inside, exchange between, spread inside.

        Where a node's devices have network adapters of their own, beta of `between` is that of all of them together.
        """
        local, nodes = min(n, self.devices), math.ceil(n / self.devices)
        inside = self.algorithm(local, size, self.inside) if local > 1 else 0.0
        between = self.algorithm(nodes, size, self.between) if nodes > 1 else 0.0
        return max(inside, between) if self.pieces else inside + between


@dataclass(frozen=True)
class Work:
    """What one device computes: seconds of an iteration with b images are overhead + b * image.

    size: bytes of the gradients.  batch: images of a device in an iteration.
    """

    size: float
    batch: int
    image: float
    overhead: float = 0.0

    def compute(self, batch: float | None = None) -> float:
        """Seconds of an iteration with so many images; None: `batch`."""
        return self.overhead + (self.batch if batch is None else batch) * self.image


def slowest(n: int, jitter: float) -> float:
    """The expected largest of n normal numbers with mean 1 and standard deviation `jitter` (for large n)."""
    return 1 + jitter * math.sqrt(2 * math.log(n))


def exposed(exchange: float, compute: float, groups: int) -> float:
    """Seconds of an exchange that the backward pass does not hide.

    groups: parts in which gradients are exchanged as they become ready; 1: after the backward pass, all at once.  The
    last part is ready when the backward pass ends, so it is never hidden.
    """
    return max(exchange - BACKWARD * compute * (groups - 1) / groups, exchange / groups)


@dataclass(frozen=True)
class Training:
    """A net on a cluster.

    groups: see `exposed`.  jitter: see `slowest`.  feed: images a second that the input pipeline of one device
    delivers; None: as many as are used.
    """

    work: Work
    cluster: Cluster
    groups: int = 1
    jitter: float = 0.0
    feed: float | None = None

    def iteration(self, n: int, batch: float | None = None) -> float:
        """Seconds of an iteration on n devices with so many images each; None: the work's batch."""
        images = self.work.batch if batch is None else batch
        compute = self.work.compute(images) * slowest(n, self.jitter)
        stall = max(0.0, images / self.feed - compute) if self.feed else 0.0
        exchange = self.cluster.allreduce(n, self.work.size) if n > 1 else 0.0
        return compute + stall + exposed(exchange, compute, self.groups)

    def rate(self, n: int, batch: float | None = None) -> float:
        """Images a second of n devices."""
        images = self.work.batch if batch is None else batch
        return n * images / self.iteration(n, batch)

    def weak(self, n: int) -> float:
        """Efficiency with the work's batch on each device: images a second of n devices over n times those of one."""
        return self.rate(n) / (n * self.rate(1))

    def strong(self, n: int, batch: float) -> float:
        """Efficiency with a global batch: the time of one device (which takes it in parts) over n times that of n."""
        return self.rate(n, batch / n) / (n * self.rate(1))

    def reach(self, least: float = 0.5, most: int = 1 << 16, batch: int | None = None) -> int:
        """The largest power of 2 at which the efficiency is `least`; batch: global, for strong scaling."""
        n, most = 1, min(most, int(batch or most))
        while 2 * n <= most and (self.strong(2 * n, batch) if batch else self.weak(2 * n)) >= least:
            n *= 2
        return n

    def fastest(self, batch: int, most: int = 1 << 16) -> int:
        """The power of 2 beyond which the time of an iteration with this global batch does not fall any more."""
        n = 1
        while 2 * n <= min(most, batch) and self.iteration(2 * n, batch / (2 * n)) < self.iteration(n, batch / n):
            n *= 2
        return n


def delivery(rate: float, bytes_each: float, touched: float = 1.0) -> float:
    """Bytes a second that storage has to deliver for so many images a second.

    touched: records that are read for each that is used; a rank whose cursor reads the records of all ranks reads n.
    """
    return rate * bytes_each * touched
