"""PyTorch as written, with channels_last memory, or compiled; on the CPU and on the GPU."""

from __future__ import annotations

import contextlib
import time

import numpy as np

from contestants.common import (
    DECAY,
    MOMENTUM,
    PEAK_SIZE,
    Contestant,
    CpuContestant,
    GpuContestant,
    inputs_of,
    repeat,
    weights_of,
)


class PyTorch(Contestant):
    """What both devices share; kind: "", "channels_last" or "compile"."""

    device = "cpu"
    kind: str

    def make(self, param) -> None:
        self.load(param, *inputs_of(tuple(param.layer[0].input_param.shape[0].dim)))
        shapes = {name: [tuple(t.shape) for t in found] for name, found in self.net.learned().items()}
        self.net.load({name: weights_of(name, found) for name, found in shapes.items()})

    def load(self, param, data: np.ndarray, label: np.ndarray) -> None:
        """Make the net of a NetParameter with PyTorch's own initial weights, its inputs and the optimizer."""
        import torch

        from contestants.torch_nets import TorchNet

        self.torch = torch
        self.net = net = TorchNet(param, data.shape)
        self.data, self.label = (torch.from_numpy(array).to(self.device) for array in (data, label))
        net.to(self.device)
        if self.kind == "channels_last":
            net.to(memory_format=torch.channels_last)
            self.data = self.data.to(memory_format=torch.channels_last)
        net.train(self.training)
        self.optimizer = self.sgd(net.parameters(), self.rate, MOMENTUM, weight_decay=DECAY)
        self.forward = torch.compile(net) if self.kind == "compile" else net

    def sgd(self, *args, **kwargs):
        """The optimizer."""
        return self.torch.optim.SGD(*args, **kwargs)

    def casting(self) -> contextlib.AbstractContextManager:
        """A context in which operations may compute in another type than float32."""
        return contextlib.nullcontext()

    def _loss(self):
        self.optimizer.zero_grad(set_to_none=True)
        with self.casting():
            loss = self.torch.nn.functional.cross_entropy(self.forward(self.data), self.label)
        loss.backward()
        return loss

    def first_pass(self) -> dict[str, list]:
        if not self.training:
            with self.torch.inference_mode(), self.casting():
                return {"score": [self.forward(self.data).float().cpu().numpy()]}
        loss = self._loss()
        diffs = {name: [t.grad.cpu().numpy() for t in found] for name, found in self.net.learned().items()}
        return {"loss": [np.float32(loss.item())], **diffs}

    def step(self) -> None:
        if self.training:
            self._loss()
            self.optimizer.step()
        else:
            with self.torch.inference_mode(), self.casting():
                self.torch.softmax(self.forward(self.data), 1)


class CpuPyTorch(PyTorch, CpuContestant):
    """variant: the kind; behind a space "bf16" for autocast."""

    def load(self, param, data: np.ndarray, label: np.ndarray) -> None:
        import torch

        torch.set_num_threads(self.threads)
        self.kind, _, self.precision = self.variant.partition(" ")
        super().load(param, data, label)

    def casting(self):
        bf16 = self.precision == "bf16"
        return self.torch.autocast("cpu", self.torch.bfloat16) if bf16 else contextlib.nullcontext()


class GpuPyTorch(PyTorch, GpuContestant):
    """variant: (precision, kind). The way "graph" captures whole steps."""

    def __init__(self, variant: tuple[str, str], smoke: bool) -> None:
        import torch

        super().__init__(variant, smoke)
        self.math, self.kind = variant
        if not torch.cuda.is_available() and not smoke:
            raise RuntimeError("PyTorch finds no GPU")
        self.torch = torch
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.math != "float32"
        torch.backends.cudnn.benchmark = True

    def casting(self):
        bf16 = self.math == "bf16"
        return self.torch.autocast(self.device.type, self.torch.bfloat16) if bf16 else contextlib.nullcontext()

    def make(self, param) -> None:
        self.runs = {}
        self.torch.compiler.reset()
        super().make(param)

    def sgd(self, *args, **kwargs):
        return super().sgd(*args, fused=True, **kwargs)

    def _capture(self):
        """A replay of the step as a CUDA graph, made after a few plain steps on a stream of their own."""
        torch = self.torch
        if self.device.type == "cpu":
            raise RuntimeError("there is no CUDA graph without a GPU")
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        return graph.replay

    def prepare(self, way: str):
        if way not in self.runs:
            self.runs[way] = self._capture() if way == "graph" else self.step
        return repeat(self.runs[way])

    def wait(self) -> None:
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def ceilings(self) -> dict[str, float]:
        """FLOP a second of PyTorch's product of large matrices, in this process's precision."""
        torch, size = self.torch, 128 if self.smoke else PEAK_SIZE
        a, b = (torch.randn(size, size, device=self.device) for _ in range(2))
        times = []
        for _ in range(3 + 10):
            self.wait()
            began = time.perf_counter()
            with self.casting():
                a @ b
            self.wait()
            times.append(time.perf_counter() - began)
        return {"product": 2 * size**3 / float(np.median(times[3:]))}
