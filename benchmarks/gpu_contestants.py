"""The contestants of gpu.py: each process contains one framework with one precision, and runs a net in several ways.

A process executes the commands ("build", net, training), ("run", way, steps), ("profile",), ("ceilings",) and
("stop",). Errors are returned as text, so that the other processes continue.
"""

from __future__ import annotations

import os
import time
import traceback
import warnings

import numpy as np
from contestants import inputs_of, learned, weights_of

RATE = 1e-6  # so small that no net diverges while it is timed
PEAK_SIZE = 8192  # of the matrices whose product measures the peak
COPIED = 1 << 30  # bytes of the copy that measures the bandwidth


class Minicaffe:
    """minicaffe; variant: (math, engine)."""

    ways = ("graph", "plain")

    def __init__(self, variant: tuple[str, str], smoke: bool) -> None:
        import minicaffe
        from minicaffe import cuda

        self.smoke = smoke
        minicaffe.set_device(0)
        minicaffe.set_mode_gpu()
        math, engine = variant
        if engine == "CUDNN":
            from minicaffe.cuda import cudnn

            if cudnn.reason_unavailable():
                raise RuntimeError(cudnn.reason_unavailable())
        minicaffe.set_engine(engine)
        cuda.set_math(math)

    def build(self, param, training: bool) -> dict[str, list]:
        """Build the net; return the result of its first pass: the loss and all gradients, or the scores."""
        import minicaffe
        from minicaffe.cuda.engine import CUDA
        from minicaffe.proto import caffe_pb2
        from minicaffe.solvers.sgd import SGDSolver

        self.training = training
        os.environ["MINICAFFE_GRAPH"] = "1"
        if training:
            solver = caffe_pb2.SolverParameter(base_lr=RATE, lr_policy="fixed", momentum=0.9, weight_decay=0.004)
            solver.snapshot_after_train = False
            solver.net_param.CopyFrom(param)
            self.solver = SGDSolver(solver)
            self.net = self.solver.net
            self.runs = {way: CUDA.step(self.solver) for way in self.ways}
        else:
            from minicaffe.cuda.graph import CapturedStep

            self.net = minicaffe.Net(param, phase=minicaffe.TEST)
            self.runs = {"graph": CapturedStep(self.net.run_forward, report=print), "plain": self.net.run_forward}
        self._fill()
        return self._first_pass()

    def _fill(self) -> None:
        for name, blobs in learned(self.net).items():
            for blob, values in zip(blobs, weights_of(name, [b.shape for b in blobs]), strict=True):
                blob.data[...] = values
        for layer in self.net.layers:
            if layer.type == "BatchNorm" and not self.training:
                layer.blobs[1].data[...] = layer.blobs[2].data[...] = 1
        data, label = inputs_of(self.net.blobs["data"].shape)
        self.net.blobs["data"].data[...] = data
        if self.training:
            self.net.blobs["label"].data[...] = label

    def _first_pass(self) -> dict[str, list]:
        if not self.training:
            self.net.run_forward()
            return {"score": [self.net.blobs["score"].read_data().copy()]}
        self.net.clear_param_diffs()
        loss = self.net.forward_backward()
        diffs = {name: [b.read_diff().copy() for b in blobs] for name, blobs in learned(self.net).items()}
        return {"loss": [np.float32(loss)], **diffs}

    def run(self, way: str, steps: int) -> float:
        """Return the seconds that `steps` steps take, synchronised with the device."""
        from minicaffe.cuda import context
        from minicaffe.cuda.engine import CUDA

        os.environ["MINICAFFE_GRAPH"] = "0" if way == "plain" else "1"
        if self.training:
            self.solver.steps[CUDA] = self.runs[way]
        context.synchronize()
        began = time.perf_counter()
        if self.training:
            self.solver.step(steps)
        else:
            for _ in range(steps):
                self.runs[way]()
        context.synchronize()
        return time.perf_counter() - began

    def captured(self) -> bool:
        """Return whether the way "graph" runs as a captured graph."""
        return self.runs["graph"].captured

    def profile(self) -> dict:
        """Return milliseconds and number of launches of each kernel in one step, and the step's least work."""
        from gpu_profile import kernel_times, least_work

        from minicaffe.cuda.engine import CUDA

        os.environ["MINICAFFE_GRAPH"] = "0"
        if self.training:
            self.solver.steps[CUDA] = self.runs["plain"]
        step = (lambda: self.solver.step(1)) if self.training else self.net.run_forward
        work = least_work(self.net, self.training)
        return {
            "kernels": kernel_times(step, 3, 256 if self.smoke else 4096),
            "work": work,
            "captured": self.captured(),
        }

    def ceilings(self) -> dict:
        """Return bytes per second of a copy, and FLOP per second of minicaffe's product of large matrices."""
        from gpu_profile import copy_rate, product_rate

        size, count = (128, 1 << 16) if self.smoke else (PEAK_SIZE, COPIED)
        return {"copy": copy_rate(count), "product": product_rate(size)}


class PyTorch:
    """PyTorch; variant: (precision, "", "channels_last" or "compile"). The way "graph" captures whole steps."""

    ways = ("graph", "plain")

    def __init__(self, variant: tuple[str, str], smoke: bool) -> None:
        import torch

        self.torch, self.smoke = torch, smoke
        math, self.kind = variant
        if not torch.cuda.is_available() and not smoke:
            raise RuntimeError("PyTorch finds no GPU")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = math == "tf32"
        torch.backends.cudnn.benchmark = True

    def build(self, param, training: bool) -> dict[str, list]:
        """Same as in Minicaffe."""
        from torch_nets import TorchNet

        torch = self.torch
        self.training, self.runs = training, {}
        shape = tuple(param.layer[0].input_param.shape[0].dim)
        self.net = net = TorchNet(param, shape)
        net.load({name: weights_of(name, [tuple(t.shape) for t in found]) for name, found in net.learned().items()})
        data, label = inputs_of(shape)
        self.label = torch.from_numpy(label).to(self.device)
        self.data = torch.from_numpy(data).to(self.device)
        net.to(self.device)
        if self.kind == "channels_last":
            net.to(memory_format=torch.channels_last)
            self.data = self.data.to(memory_format=torch.channels_last)
        net.train(training)
        self.optimizer = torch.optim.SGD(net.parameters(), RATE, 0.9, weight_decay=0.004, fused=True)
        torch.compiler.reset()
        self.forward = torch.compile(net) if self.kind == "compile" else net
        return self._first_pass()

    def _loss(self):
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.torch.nn.functional.cross_entropy(self.forward(self.data), self.label)
        loss.backward()
        return loss

    def _first_pass(self) -> dict[str, list]:
        if not self.training:
            with self.torch.inference_mode():
                return {"score": [self.forward(self.data).float().cpu().numpy()]}
        loss = self._loss()
        diffs = {name: [t.grad.cpu().numpy() for t in found] for name, found in self.net.learned().items()}
        return {"loss": [np.float32(loss.item())], **diffs}

    def _step(self) -> None:
        if self.training:
            self._loss()
            self.optimizer.step()
        else:
            with self.torch.inference_mode():
                self.torch.softmax(self.forward(self.data), 1)

    def _capture(self):
        """Capture the step as a CUDA graph, after a few uncaptured steps on a side stream; return its replay."""
        torch = self.torch
        if self.device.type == "cpu":
            raise RuntimeError("there is no CUDA graph without a GPU")
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        return graph.replay

    def run(self, way: str, steps: int) -> float:
        """Same as in Minicaffe."""
        if way not in self.runs:
            self.runs[way] = self._capture() if way == "graph" else self._step
        step = self.runs[way]
        self._wait()
        began = time.perf_counter()
        for _ in range(steps):
            step()
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def ceilings(self) -> dict:
        """Return FLOP per second of PyTorch's product of large matrices, in this process's precision."""
        torch, size = self.torch, 128 if self.smoke else PEAK_SIZE
        a, b = (torch.randn(size, size, device=self.device) for _ in range(2))
        times = []
        for _ in range(3 + 10):
            self._wait()
            began = time.perf_counter()
            a @ b
            self._wait()
            times.append(time.perf_counter() - began)
        return {"product": 2 * size**3 / float(np.median(times[3:]))}


#: process -> (class, variant, required module)
PROCESSES = {
    "minicaffe float32": (Minicaffe, ("float32", "DEFAULT"), "pycuda"),
    "minicaffe tf32": (Minicaffe, ("tf32", "DEFAULT"), "pycuda"),
    "minicaffe cuDNN float32": (Minicaffe, ("float32", "CUDNN"), "cudnn"),
    "minicaffe cuDNN tf32": (Minicaffe, ("tf32", "CUDNN"), "cudnn"),
    "PyTorch float32": (PyTorch, ("float32", ""), "torch"),
    "PyTorch tf32": (PyTorch, ("tf32", ""), "torch"),
    "PyTorch channels_last float32": (PyTorch, ("float32", "channels_last"), "torch"),
    "PyTorch channels_last tf32": (PyTorch, ("tf32", "channels_last"), "torch"),
    "PyTorch compile float32": (PyTorch, ("float32", "compile"), "torch"),
    "PyTorch compile tf32": (PyTorch, ("tf32", "compile"), "torch"),
}


def serve(pipe, name: str, smoke: bool) -> None:
    """Main function of a process: execute commands until ("stop",) or until the pipe is closed."""
    warnings.simplefilter("ignore")
    kind, variant, _ = PROCESSES[name]
    framework = None
    while True:
        try:
            command, *args = pipe.recv()
        except EOFError:
            return
        if command == "stop":
            return
        try:
            if framework is None:
                framework = kind(variant, smoke)
            if command == "build":
                from minicaffe.proto import caffe_pb2

                args[0] = caffe_pb2.NetParameter.FromString(args[0])
            began = time.perf_counter()
            answer = getattr(framework, command)(*args)
            pipe.send((answer, time.perf_counter() - began))
        except Exception as error:  # any error is reported in the table
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = str(error).strip().splitlines() or [""]
            line = f"{type(error).__name__}: {text[0][:200]} ({os.path.basename(where.filename)}:{where.lineno})"
            pipe.send((RuntimeError(line), 0.0))
