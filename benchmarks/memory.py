"""Measures the peak memory of minicaffe on the CPU, and what it is used for:

    python benchmarks/memory.py                           inference with ResNet-50, training of two CIFAR-10 nets
    python benchmarks/memory.py resnet50 --steps 5
    python benchmarks/memory.py cifar10_full --engine CAFFE

Each case runs in a process of its own.  The peak is the largest resident set of that process, less its resident set
after `import minicaffe`.  The other columns count the resident pages of arrays at the end of the run.  All in MB of
1e6 bytes.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import multiprocessing
import os
import re
import sys
from collections import defaultdict

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import numpy as np  # noqa: E402

_MB, _PAGE = 1e6, os.sysconf("SC_PAGESIZE")

#: what arrays are for, in the order in which they are counted: an array that fits two kinds is of the first
KINDS = (
    "parameters",
    "converted",
    "their diffs",
    "history",
    "tops",
    "tops' diffs",
    "layers' own",
    "scratchpads",
    "rest",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=["resnet50", "cifar10_resnet20", "cifar10_full"])
    parser.add_argument("--steps", type=int, default=3, help="passes or solver steps (default 3)")
    parser.add_argument("--batch", type=int, help="default: as in benchmarks/nets.py")
    parser.add_argument("--threads", type=int, default=2, help="threads that compute (default 2)")
    parser.add_argument("--sharing", default="", help="NEVER, RECOMPUTE or FORGET, see Net.share_memory")
    parser.add_argument("--engine", default="ONEDNN", help="ONEDNN (default) or CAFFE")
    args = parser.parse_args()
    print(f"{'MB':18s}{'peak':>12s}" + "".join(f"{kind:>13s}" for kind in KINDS))
    for name in args.nets:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peak, found = pool.apply(measure, (name, args.batch, args.steps, args.threads, args.engine, args.sharing))
        print(f"{name:18s}{peak / _MB:12.1f}" + "".join(f"{found[kind] / _MB:13.1f}" for kind in KINDS), flush=True)


def measure(name: str, batch: int | None, steps: int, threads: int, engine: str, sharing: str):
    """(peak, bytes by kind) of a number of steps with one net."""
    import minicaffe

    before = _status("VmRSS")
    import nets

    minicaffe.set_engine(engine)
    minicaffe.set_threads(threads)
    training = name in nets.TRAINING
    make, default = nets.TRAINING[name] if training else (nets.INFERENCE[name], 1)
    solver = _solver(make(batch or default)) if training else None
    net = solver.net if solver else minicaffe.Net(make(batch or default), phase=minicaffe.TEST)
    if sharing:
        net.share_memory(minicaffe.Sharing[sharing])
    for _ in range(steps):
        if solver:
            solver.step(1)
        else:
            net.run_forward()
            net.blobs["prob"].read_data()
    peak = _status("VmHWM") - before
    return peak, Census().count(net, solver)


def _solver(param):
    """An SGD solver for a net."""
    from minicaffe.proto import caffe_pb2
    from minicaffe.solvers.sgd import SGDSolver

    solver = caffe_pb2.SolverParameter(base_lr=0.001, lr_policy="fixed", momentum=0.9, snapshot_after_train=False)
    solver.net_param.CopyFrom(param)
    return SGDSolver(solver)


def _status(field: str) -> int:
    """A number of bytes in /proc/self/status."""
    with open("/proc/self/status") as file:
        return int(re.search(rf"{field}:\s*(\d+) kB", file.read()).group(1)) * 1024


class Census:
    """Counts the resident bytes of arrays by what they are used for; a page that two arrays share counts once."""

    def __init__(self) -> None:
        self.bytes: dict[str, int] = defaultdict(int)
        self._seen: set[int] = set()

    def count(self, net, solver) -> dict[str, int]:
        """Bytes by kind, for a net and perhaps its solver."""
        gc.collect()
        params = [blob for layer in net.layers for blob in layer.blobs]
        tops = [blob for blobs in net.tops for blob in blobs]
        for kind, found in (
            ("parameters", [blob.data_memory._host for blob in params]),
            ("converted", [blob.data_memory for blob in params]),
            ("their diffs", [blob.diff_memory for blob in params]),
            ("history", [blob.data_memory for blob in getattr(solver, "history", [])]),
            ("tops", [blob.data_memory for blob in tops]),
            ("tops' diffs", [blob.diff_memory for blob in tops]),
            ("converted", [vars(group) for group in net.fused.values() if hasattr(group, "fold")]),
            ("layers' own", [*map(vars, net.layers), *map(vars, net.fused.values())]),
            ("scratchpads", [each._scratch for each in _objects("Execution")]),
            ("rest", [*_objects("Tensor"), *_objects("Memory")]),
        ):
            self._add_all(kind, found, 0)
        return {kind: self.bytes[kind] for kind in KINDS}

    def _add_all(self, kind: str, value, depth: int) -> None:
        """The arrays in an object, in its attributes and in containers."""
        if isinstance(value, np.ndarray):
            self._add(kind, value)
        elif depth < 6:
            for each in _parts(value):
                self._add_all(kind, each, depth + 1)

    def _add(self, kind: str, array: np.ndarray) -> None:
        """Count the resident pages of an array that were not counted before."""
        first = array.ctypes.data // _PAGE
        pages = -(-(array.ctypes.data + array.nbytes) // _PAGE) - first
        resident = (ctypes.c_ubyte * pages)()
        ctypes.CDLL(None).mincore(ctypes.c_void_p(first * _PAGE), ctypes.c_size_t(pages * _PAGE), resident)
        for i in range(first, first + pages):
            if resident[i - first] & 1 and i not in self._seen:
                self._seen.add(i)
                self.bytes[kind] += _PAGE


def _objects(name: str) -> list:
    """All objects of a class of minicaffe's."""
    found = (each for each in gc.get_objects() if type(each).__name__ == name)
    return [each for each in found if type(each).__module__.startswith("minicaffe")]


#: by class, the attributes that hold arrays or lead to some
_ATTRIBUTES = {
    "Blob": ("data_memory", "diff_memory"),
    "Memory": ("_host", "copies"),
    "Layouts": ("copies", "spares"),
    "Deferred": ("layouts",),
    "Tensor": ("buffer",),
    "Kept": ("memory",),
    "KeptBlobs": ("bottoms", "tops"),
    "Correlation": ("_buffers",),
    "DepthwiseCorrelation": ("_buffers",),
}


def _parts(value) -> list:
    """What an object holds."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return list(value)
    return [getattr(value, name, None) for name in _ATTRIBUTES.get(type(value).__name__, ())]


if __name__ == "__main__":
    main()
