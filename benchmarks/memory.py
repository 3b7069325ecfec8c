"""Measures the peak memory of minicaffe on the CPU, and what it is used for:

    python benchmarks/memory.py                           inference with ResNet-50, training of two CIFAR-10 nets
    python benchmarks/memory.py resnet50 --steps 5
    python benchmarks/memory.py cifar10_full --engine CAFFE

Each case runs in a process of its own.  The peak is the largest resident set of that process, less its resident set
after `import minicaffe`.  The other columns count the resident pages of arrays at the end of the run, in MB of 1e6 bytes.
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
KINDS = ("parameters", "converted", "their diffs", "history", "tops", "tops' diffs", "layers' own", "scratchpads", "rest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=["resnet50", "cifar10_resnet20", "cifar10_full"])
    parser.add_argument("--steps", type=int, default=3, help="passes or solver steps (default 3)")
    parser.add_argument("--batch", type=int, help="default: as in benchmarks/nets.py")
    parser.add_argument("--threads", type=int, default=2, help="threads that compute (default 2)")
    parser.add_argument("--engine", default="ONEDNN", help="ONEDNN (default) or CAFFE")
    args = parser.parse_args()
    print(f"{'MB':18s}{'peak':>12s}" + "".join(f"{kind:>13s}" for kind in KINDS))
    for name in args.nets:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peak, found = pool.apply(measure, (name, args.batch, args.steps, args.threads, args.engine))
        print(f"{name:18s}{peak / _MB:12.1f}" + "".join(f"{found[kind] / _MB:13.1f}" for kind in KINDS), flush=True)


def measure(name: str, batch: int | None, steps: int, threads: int, engine: str) -> tuple[int, dict[str, int]]:
    """(peak, bytes by kind) of a number of steps with one net."""
    import minicaffe
    from minicaffe import onednn

    before = _status("VmRSS")
    import nets

    minicaffe.set_engine(engine)
    if engine == "ONEDNN":
        onednn.set_threads(threads)
    if name in nets.TRAINING:
        make, default = nets.TRAINING[name]
        solver = _solver(make(batch or default))
        net = solver.net
        solver.step(steps)
    else:
        solver = None
        net = minicaffe.Net(nets.INFERENCE[name](batch or 1), phase=minicaffe.TEST)
        for _ in range(steps):
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
        for blob in params:
            self._add("parameters", blob.data_memory._host)
        for blob in params:
            self._add_copies("converted", blob.data_memory)
            self._add("their diffs", blob.diff_memory._host)
            self._add_copies("their diffs", blob.diff_memory)
        for blob in getattr(solver, "history", []):
            self._add("history", blob if isinstance(blob, np.ndarray) else blob.data_memory._host)
        for kind, memories in (
            ("tops", [b.data_memory for b in tops]),
            ("tops' diffs", [b.diff_memory for b in tops]),
        ):
            for memory in memories:
                self._add(kind, memory._host)
                self._add_copies(kind, memory)
        for layer in net.layers:
            self._add_all("layers' own", vars(layer), 0)
        for chain in net.chains.values():
            kind = "converted" if hasattr(chain, "fold") else "layers' own"
            self._add_all(kind, vars(chain), 0)
        for tensor in self._objects("Execution"):
            if tensor._scratch is not None:
                self._add("scratchpads", tensor._scratch.buffer)
        for tensor in self._objects("Tensor"):
            self._add("rest", tensor.buffer)
        for memory in self._objects("Memory"):
            self._add("rest", memory._host)
        return {kind: self.bytes[kind] for kind in KINDS}

    @staticmethod
    def _objects(name: str) -> list:
        return [each for each in gc.get_objects() if type(each).__name__ == name and type(each).__module__.startswith("minicaffe")]

    def _add_copies(self, kind: str, memory) -> None:
        """The copies of a Memory in layouts of oneDNN's."""
        for copy in memory.copies.values():
            copy = getattr(copy, "layouts", copy)
            for tensor in [*getattr(copy, "copies", {}).values(), *sum(getattr(copy, "spares", {}).values(), [])]:
                self._add(kind, tensor.buffer)

    def _add_all(self, kind: str, value, depth: int) -> None:
        """Arrays, tensors and blobs in an object's attributes and in containers."""
        if isinstance(value, np.ndarray):
            self._add(kind, value)
        elif type(value).__name__ == "Tensor":
            self._add(kind, value.buffer)
        elif type(value).__name__ == "Kept":
            self._add(kind, value.memory.buffer)
        elif type(value).__name__ == "Blob":
            for memory in (value.data_memory, value.diff_memory):
                self._add(kind, memory._host)
                self._add_copies(kind, memory)
        elif depth < 4 and isinstance(value, dict):
            for each in value.values():
                self._add_all(kind, each, depth + 1)
        elif depth < 4 and isinstance(value, (list, tuple)):
            for each in value:
                self._add_all(kind, each, depth + 1)
        elif depth < 2 and type(value).__name__ in ("Correlation", "DepthwiseCorrelation", "KeptBlobs"):
            self._add_all(kind, vars(value), depth + 1)

    def _add(self, kind: str, array: np.ndarray | None) -> None:
        """Count the resident pages of an array that were not counted before."""
        if array is None or not array.nbytes:
            return
        first = array.ctypes.data // _PAGE
        pages = -(-(array.ctypes.data + array.nbytes) // _PAGE) - first
        resident = (ctypes.c_ubyte * pages)()
        libc = ctypes.CDLL(None)
        if libc.mincore(ctypes.c_void_p(first * _PAGE), ctypes.c_size_t(pages * _PAGE), resident):
            return
        for i, flag in enumerate(resident):
            if flag & 1 and first + i not in self._seen:
                self._seen.add(first + i)
                self.bytes[kind] += _PAGE


if __name__ == "__main__":
    main()
