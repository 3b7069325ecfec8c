"""Where a step's time goes, kernel by kernel, and the floor under it: arithmetic and bytes that no step can avoid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class _Watch:
    """Context manager that records an event before and after every kernel launch."""

    def __init__(self) -> None:
        self.launches: list[tuple] = []

    def __enter__(self) -> _Watch:
        from minicaffe.cuda import context
        from minicaffe.cuda.kernels import Kernel

        self._launch = launch = Kernel.launch

        def watched(kernel, *args, **more) -> None:
            first, last = context.event(), context.event()
            first.record(context.stream())
            launch(kernel, *args, **more)
            last.record(context.stream())
            self.launches.append((kernel.name, first, last))

        Kernel.launch = watched
        return self

    def __exit__(self, *error) -> None:
        from minicaffe.cuda.kernels import Kernel

        Kernel.launch = self._launch


def kernel_times(step: Callable[[], None], passes: int, size: int) -> dict[str, list[float]]:
    """Return {kernel: [milliseconds, launches]} of one step, medians over passes.

    Before each step products of size x size matrices are queued, which keep the device busy until all launches of the
    step are queued, so that the events measure the kernels and not the launch overhead.
    """
    from minicaffe.cuda import context, ops
    from minicaffe.cuda.memory import DeviceBuffer

    buffer = DeviceBuffer(3 * 4 * size * size)
    buffer.zero()
    a, b, c = (buffer.ptr + i * 4 * size * size for i in range(3))
    step()
    found: list[dict[str, list[float]]] = []
    for _ in range(passes):
        context.synchronize()
        for _ in range(4):
            ops.gemm(False, False, size, size, size, 1.0, a, b, 0.0, c)
        with _Watch() as watch:
            step()
        context.synchronize()
        times: dict[str, list[float]] = {}
        for name, first, last in watch.launches:
            entry = times.setdefault(name, [0.0, 0])
            entry[0] += last.time_since(first)
            entry[1] += 1
        found.append(times)
    return {
        name: [float(np.median([times.get(name, [0.0, 0])[0] for times in found])), entry[1]]
        for name, entry in found[0].items()
    }


def products(layer, top) -> float:
    """Multiplications and additions of a forward pass; 0 for layers that do not multiply matrices."""
    if layer.type not in ("Convolution", "InnerProduct", "Deconvolution"):
        return 0.0
    return 2.0 * top[0].count * int(np.prod(layer.blobs[0].shape[1:]))


def least_work(net, training: bool) -> list[tuple[float, float]]:
    """Return the least (FLOP, bytes) of each layer and of the update.

    A layer reads its bottoms and parameters and writes its tops, once; layers in place are assumed to be fused and cost
    nothing. Backward has two products (one if the bottom needs no gradient), reads the tops' diffs and the bottoms, and
    writes the bottoms' diffs. The update reads weights, diffs and history and writes weights and history.
    """
    work = []
    for i, layer in enumerate(net.layers):
        bottom, top = net.bottoms[i], net.tops[i]
        flop, touched = products(layer, top), 4 * sum(b.count for b in layer.blobs)
        if not any(t is b for t in top for b in bottom) and layer.type not in ("Input", "Split"):
            touched += 4 * sum(b.count for b in (*bottom, *top))
        if training and net.layer_need_backward[i]:
            below = any(net.bottom_need_backward[i])
            flop, touched = flop * (3 if below else 2), touched * (3 if below else 2)
        work.append((flop, float(touched)))
    if training:
        work.append((0.0, 5 * 4.0 * sum(blob.count for blob in net.learnable_params)))
    return work


def floor(work: list[tuple[float, float]], peak: float, bandwidth: float) -> float:
    """Return the least seconds for the work: each layer is compute-bound or bandwidth-bound."""
    return sum(max(flop / peak, touched / bandwidth) for flop, touched in work)


def copy_rate(count: int) -> float:
    """Return bytes per second, read plus written, of a copy on the device."""
    from minicaffe.cuda import memory
    from minicaffe.cuda.memory import DeviceBuffer

    source, target = DeviceBuffer(count), DeviceBuffer(count)
    source.zero()
    return 2 * count / _median_seconds(lambda: memory.copy_on_device(target.ptr, source.ptr, count))


def product_rate(size: int) -> float:
    """Return FLOP per second of minicaffe's product of random matrices, in the current precision."""
    from minicaffe.cuda import ops
    from minicaffe.cuda.memory import DeviceBuffer

    values = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
    buffers = [DeviceBuffer(values.nbytes) for _ in range(3)]
    for buffer in buffers:
        buffer.from_host(values)
    return (
        2
        * size**3
        / _median_seconds(lambda: ops.gemm(False, False, size, size, size, 1.0, *buffers[:2], 0.0, buffers[2]))
    )


def _median_seconds(work: Callable[[], None], times: int = 10) -> float:
    """Return the median time by events, after three warm-up runs."""
    from minicaffe.cuda import context

    found = []
    for _ in range(3 + times):
        first, last = context.event(), context.event()
        first.record(context.stream())
        work()
        last.record(context.stream())
        context.synchronize()
        found.append(last.time_since(first) / 1e3)
    return max(float(np.median(found[3:])), 1e-9)
