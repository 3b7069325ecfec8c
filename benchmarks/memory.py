"""Measures the peak memory of minicaffe on the CPU, beside PyTorch and whatever else is installed:

    python benchmarks/memory.py                           training of two CIFAR-10 nets, inference with three nets
    python benchmarks/memory.py resnet50:8 cifar10_full --only minicaffe PyTorch
    python benchmarks/memory.py --census                  what minicaffe's memory is used for

A case is a net of nets.py, and perhaps a batch size.  Each contestant runs a case in a process of its own, which makes
or loads the net and runs some steps; ONNX Runtime and OpenCV load files that another process has written.  The number
is the largest resident set of that process, less its resident set after the imports.  All in MB of 1e6 bytes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import sys
import tempfile
from typing import Any

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import census  # noqa: E402
import contestants  # noqa: E402
import numpy as np  # noqa: E402

_MB = 1e6
_CASES = ("cifar10_full", "cifar10_resnet20", "resnet50:1", "resnet50:8", "mobilenet:1", "googlenet:1")


class Minicaffe:
    """kind: the engine, and perhaps a value of `minicaffe.Sharing`: FORGET as in `minicaffe train`."""

    trains = True

    def __init__(self, kind: tuple[str, str], threads: int) -> None:
        import minicaffe

        (self.engine, self.sharing), self.threads = kind, threads
        self.minicaffe = minicaffe

    def load(self, folder: str) -> None:
        self.minicaffe.set_engine(self.engine)
        self.minicaffe.set_threads(self.threads)
        param, training = read_case(folder)
        self.solver = _solver(param) if training else None
        self.net = self.solver.net if training else self.minicaffe.Net(param, phase=self.minicaffe.TEST)
        if self.sharing:
            self.net.share_memory(self.minicaffe.Sharing[self.sharing])
        self.net.blobs["data"].data[...] = 1

    def step(self) -> None:
        if self.solver:
            self.solver.step(1)
        else:
            self.net.run_forward()
            self.net.blobs["prob"].read_data()


def _solver(param):
    """An SGD solver for a net."""
    from minicaffe.proto import caffe_pb2
    from minicaffe.solvers.sgd import SGDSolver

    solver = caffe_pb2.SolverParameter(base_lr=0.001, lr_policy="fixed", momentum=0.9, snapshot_after_train=False)
    solver.net_param.CopyFrom(param)
    return SGDSolver(solver)


class PyTorch:
    """kind: a variant of `contestants.pytorch.CpuPyTorch`."""

    trains = True

    def __init__(self, kind: str, threads: int) -> None:
        import torch
        from contestants import pytorch, torch_nets

        import minicaffe.proto  # noqa: F401  (reads the net)

        self.torch, self.nets = torch, torch_nets
        self.runner = pytorch.CpuPyTorch(kind, threads)
        self.step = self.runner.step

    def load(self, folder: str) -> None:
        param, self.runner.training = read_case(folder)
        self.runner.load(param, *case_inputs(param))


class OnnxRuntime:
    """kind: not used."""

    trains = False

    def __init__(self, kind: str, threads: int) -> None:
        import onnxruntime

        import minicaffe.proto  # noqa: F401

        self.onnxruntime, self.threads = onnxruntime, threads

    def load(self, folder: str) -> None:
        options = self.onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = os.path.join(folder, "net.onnx")
        self.session = self.onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.data = case_inputs(read_case(folder)[0])[0]

    def step(self) -> None:
        self.session.run(None, {"data": self.data})


class OpenCV:
    """kind: not used."""

    trains = False

    def __init__(self, kind: str, threads: int) -> None:
        import cv2

        import minicaffe.proto  # noqa: F401

        self.cv2 = cv2
        cv2.setNumThreads(threads)

    def load(self, folder: str) -> None:
        files = (os.path.join(folder, name) for name in ("net.prototxt", "net.caffemodel"))
        self.net = self.cv2.dnn.readNetFromCaffe(*files)
        self.data = case_inputs(read_case(folder)[0])[0]

    def step(self) -> None:
        self.net.setInput(self.data)
        self.net.forward("score")


#: name -> (class, kind, module it needs)
FIELD: dict[str, tuple] = {
    "minicaffe": (Minicaffe, ("ONEDNN", ""), "minicaffe"),
    "minicaffe FORGET": (Minicaffe, ("ONEDNN", "FORGET"), "minicaffe"),
    "minicaffe CAFFE": (Minicaffe, ("CAFFE", ""), "minicaffe"),
    "PyTorch": (PyTorch, "", "torch"),
    "channels_last": (PyTorch, "channels_last", "torch"),
    "ONNX Runtime": (OnnxRuntime, "", "onnxruntime"),
    "OpenCV dnn": (OpenCV, "", "cv2"),
}


# -- cases -------------------------------------------------------------------------------------------------------------


def write_case(folder: str, case: str) -> None:
    """Write the net of a case, for inference also as ONNX and with weights."""
    import nets

    name, _, batch = case.partition(":")
    training = name in nets.TRAINING
    make, default = nets.TRAINING[name] if training else (nets.INFERENCE[name], 1)
    param = make(int(batch or default))
    with open(os.path.join(folder, "net.prototxt"), "w") as file:
        file.write(str(param))
    if training:
        open(os.path.join(folder, "training"), "w").close()
        return
    import minicaffe

    minicaffe.Net(param, phase=minicaffe.TEST).save(os.path.join(folder, "net.caffemodel"))
    if contestants.installed(FIELD["PyTorch"]) and contestants.installed(FIELD["ONNX Runtime"]):
        from contestants.onnx_runtime import export

        export(param, os.path.join(folder, "net.onnx"))


def read_case(folder: str):
    """(NetParameter, whether it trains)"""
    from minicaffe.proto import read_net

    return read_net(os.path.join(folder, "net.prototxt")), os.path.exists(os.path.join(folder, "training"))


def case_inputs(param) -> tuple[np.ndarray, np.ndarray]:
    """Data and labels, all of them ones."""
    shape = tuple(param.layer[0].input_param.shape[0].dim)
    return np.ones(shape, np.float32), np.ones(shape[0], np.int64)


# -- measuring ---------------------------------------------------------------------------------------------------------


def in_process(function, *args) -> Any:
    """Return function(*args), called in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def peak_of(name: str, folder: str, steps: int, threads: int) -> int | str:
    """Bytes that a contestant needs for a case; the text of the error if it cannot run it."""
    kind, variant, _ = FIELD[name]
    contestant = kind(variant, threads)
    before = _start_peak()
    try:
        run(contestant, folder, steps)
    except Exception as error:  # the table lists the errors of contestants that cannot run
        return f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    return _status("VmHWM") - before


def run(contestant, folder: str, steps: int) -> None:
    """Load a case and run so many steps."""
    contestant.load(folder)
    for _ in range(steps):
        contestant.step()


def census_of(name: str, folder: str, steps: int, threads: int) -> dict[str, int]:
    """Bytes of minicaffe's arrays by what they are used for, after some steps, and the peak."""
    kind, variant, _ = FIELD[name]
    contestant = kind(variant, threads)
    before = _start_peak()
    run(contestant, folder, steps)
    peak = _status("VmHWM") - before
    return {"peak": peak, **census.Census().count(contestant.net, contestant.solver)}


def _start_peak() -> int:
    """Let VmHWM, the largest resident set, start from now on; return the resident set, in bytes."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _status("VmRSS")


def _status(field: str) -> int:
    """A number of bytes in /proc/self/status."""
    with open("/proc/self/status") as file:
        return int(re.search(rf"{field}:\s*(\d+) kB", file.read()).group(1)) * 1024


# -- the tables --------------------------------------------------------------------------------------------------------


def peaks(case: str, names: list[str], folder: str, args: argparse.Namespace) -> None:
    """Print a row: the peak of each contestant, and below it the errors of those that cannot run the case."""
    training, errors, row = os.path.exists(os.path.join(folder, "training")), [], ""
    for name in names:
        if training and not FIELD[name][0].trains:
            row += f"{'-':>18s}"
            continue
        peak = in_process(peak_of, name, folder, args.steps, args.threads)
        if isinstance(peak, str):
            errors.append(f"  {name}: {peak}")
        row += f"{'error':>18s}" if isinstance(peak, str) else f"{peak / _MB:18.0f}"
    print(f"{case:20s}{row}", *errors, sep="\n" if errors else "", flush=True)


def uses(case: str, names: list[str], folder: str, args: argparse.Namespace) -> None:
    """Print a row for each of minicaffe's entries: the peak, and the bytes by use."""
    for name in names:
        if FIELD[name][0] is Minicaffe:
            found = in_process(census_of, name, folder, args.steps, args.threads)
            print(f"{case:20s}{name:18s}" + "".join(f"{found[kind] / _MB:13.1f}" for kind in ("peak", *census.KINDS)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=_CASES, metavar="NET[:BATCH]")
    parser.add_argument("--only", nargs="*", default=list(FIELD), metavar="NAME", help=f"of {', '.join(FIELD)}")
    parser.add_argument("--steps", type=int, default=3, help="passes or solver steps (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="threads that compute (default 2)")
    parser.add_argument("--census", action="store_true", help="what minicaffe's memory is used for")
    args = parser.parse_args()
    os.environ.setdefault("GOMP_SPINCOUNT", "100")  # waiting takes no memory, but time where others use the cores
    names = [name for name in args.only if contestants.installed(FIELD[name])]
    if args.census:
        print(f"{'MB':38s}" + "".join(f"{kind:>13s}" for kind in ("peak", *census.KINDS)))
    else:
        print(f"{'MB above imports':20s}" + "".join(f"{name:>18s}" for name in names))
    for case in args.cases:
        with tempfile.TemporaryDirectory() as folder:
            in_process(write_case, folder, case)
            (uses if args.census else peaks)(case, names, folder, args)


if __name__ == "__main__":
    main()
