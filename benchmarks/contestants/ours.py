"""Our own, on the CPU and on the GPU."""

from __future__ import annotations

import os

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

COPIED = 1 << 30  # bytes of the copy that measures the bandwidth


def learned(net) -> dict[str, list]:
    """Return the learned blobs of a minicaffe net, without BatchNorm's statistics."""
    kinds = dict(zip(net.layer_names, net.layers, strict=True))
    return {name: blobs for name, blobs in net.params.items() if kinds[name].type != "BatchNorm"}


class Minicaffe(Contestant):
    """minicaffe, on either device."""

    def make(self, param) -> None:
        import minicaffe
        from minicaffe.proto import caffe_pb2
        from minicaffe.solvers.sgd import SGDSolver

        if self.training:
            solver = caffe_pb2.SolverParameter(
                base_lr=self.rate, lr_policy="fixed", momentum=MOMENTUM, weight_decay=DECAY, snapshot_after_train=False
            )
            solver.net_param.CopyFrom(param)
            self.solver = SGDSolver(solver)
            self.net = self.solver.net
        else:
            self.net = minicaffe.Net(param, phase=minicaffe.TEST)
        self._fill()

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

    def first_pass(self) -> dict[str, list]:
        if not self.training:
            self.net.run_forward()
            return {"score": [self.net.blobs["score"].read_data().copy()]}
        self.net.clear_param_diffs()
        loss = self.net.forward_backward()
        diffs = {name: [b.read_diff().copy() for b in blobs] for name, blobs in learned(self.net).items()}
        return {"loss": [np.float32(loss)], **diffs}

    def step(self) -> None:
        if self.training:
            self.solver.step(1)
        else:
            self.net.run_forward()


class CpuMinicaffe(Minicaffe, CpuContestant):
    """variant: the engine, ONEDNN or CAFFE; behind a space the precision, float32 unless given."""

    def make(self, param) -> None:
        import minicaffe
        from minicaffe import onednn

        engine, _, precision = self.variant.partition(" ")
        minicaffe.set_engine(engine)
        minicaffe.set_precision(precision or "float32")
        if precision == "bf16" and not (onednn.available() and onednn.has_bf16()):
            raise RuntimeError("this processor has no bf16")
        minicaffe.set_threads(self.threads)
        super().make(param)

    def step(self) -> None:
        super().step()
        if not self.training:
            self.net.blobs["prob"].read_data()


class OtherMinicaffe(CpuMinicaffe):
    """The minicaffe of another checkout, in whose process MINICAFFE_CHECKOUT is set.

    variant: (the checkout, the engine).
    """

    def make(self, param) -> None:
        import minicaffe
        from minicaffe import onednn

        minicaffe.set_engine(self.variant[1])
        (minicaffe if hasattr(minicaffe, "set_threads") else onednn).set_threads(self.threads)
        Minicaffe.make(self, param)


class GpuMinicaffe(Minicaffe, GpuContestant):
    """variant: (math, engine)."""

    def __init__(self, variant: tuple[str, str], smoke: bool) -> None:
        import minicaffe
        from minicaffe import cuda

        super().__init__(variant, smoke)
        minicaffe.set_device(0)
        minicaffe.set_mode_gpu()
        math, engine = variant
        if engine == "CUDNN":
            from minicaffe.cuda import cudnn

            if cudnn.reason_unavailable():
                raise RuntimeError(cudnn.reason_unavailable())
        minicaffe.set_engine(engine)
        cuda.set_math(math)

    def make(self, param) -> None:
        from minicaffe.cuda.engine import CUDA
        from minicaffe.cuda.graph import CapturedStep

        os.environ["MINICAFFE_GRAPH"] = "1"
        super().make(param)
        if self.training:
            self.runs = {way: CUDA.step(self.solver) for way in self.ways}
        else:
            self.runs = {"graph": CapturedStep(self.net.run_forward, report=print), "plain": self.net.run_forward}

    def prepare(self, way: str):
        from minicaffe.cuda.engine import CUDA

        os.environ["MINICAFFE_GRAPH"] = "0" if way == "plain" else "1"
        if self.training:
            self.solver.steps[CUDA] = self.runs[way]
            return self.solver.step
        return repeat(self.runs[way])

    def wait(self) -> None:
        from minicaffe.cuda import context

        context.synchronize()

    def profile(self) -> dict:
        """Milliseconds and number of launches of each kernel in one step, and the least work that the step is."""
        from contestants.gpu_profile import kernel_times, least_work

        self.prepare("plain")
        work = least_work(self.net, self.training)
        return {
            "kernels": kernel_times(self.step, 3, 256 if self.smoke else 4096),
            "work": work,
            "captured": self.runs["graph"].captured,  # whether the way "graph" did run as one
        }

    def ceilings(self) -> dict[str, float]:
        """Bytes a second of a copy, and FLOP a second of our own product of large matrices."""
        from contestants.gpu_profile import copy_rate, product_rate

        size, count = (128, 1 << 16) if self.smoke else (PEAK_SIZE, COPIED)
        return {"copy": copy_rate(count), "product": product_rate(size)}
