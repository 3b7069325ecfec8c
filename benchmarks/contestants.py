"""The contestants of cpu.py: each runs one net in a process of its own, controlled by the commands `check` and `run`.

Each has a separate process because two OpenMP runtimes in one process would compete for the cores.  The weights are
random numbers seeded by the layers' names, so that all contestants compute the same values.
"""

from __future__ import annotations

import importlib.util
import resource
import time
import zlib

import numpy as np

RATE, MOMENTUM, DECAY = 0.001, 0.9, 0.004


def weights_of(name: str, shapes) -> list[np.ndarray]:
    """Return arrays for a layer's learned parameters: scaled normal numbers, for vectors uniform in [0.5, 1)."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    result = []
    for shape in shapes:
        fan_in = int(np.prod(shape[1:]))
        array = rng.standard_normal(shape) * np.sqrt(2 / fan_in) if len(shape) > 1 else rng.random(shape) * 0.5 + 0.5
        result.append(array.astype(np.float32))
    return result


def inputs_of(shape) -> tuple[np.ndarray, np.ndarray]:
    """Return random data of a shape, and labels from 0 to 9."""
    rng = np.random.default_rng(7)
    return rng.standard_normal(shape).astype(np.float32), rng.integers(0, 10, shape[0])


def learned(net) -> dict[str, list]:
    """Return the learned blobs of a minicaffe net, without BatchNorm's statistics."""
    kinds = dict(zip(net._layer_names, net.layers, strict=True))
    return {name: blobs for name, blobs in net.params.items() if kinds[name].type != "BatchNorm"}


class Minicaffe:
    """minicaffe; `engine` is ONEDNN or CAFFE."""

    def __init__(self, param, training: bool, engine: str, threads: int) -> None:
        import minicaffe
        from minicaffe import onednn
        from minicaffe.proto import caffe_pb2
        from minicaffe.solvers.sgd import SGDSolver

        minicaffe.set_engine(engine)
        if engine == "ONEDNN":
            onednn.set_threads(threads)
        self.training = training
        if training:
            solver = caffe_pb2.SolverParameter(
                base_lr=RATE, lr_policy="fixed", momentum=MOMENTUM, weight_decay=DECAY, snapshot_after_train=False
            )
            solver.net_param.CopyFrom(param)
            self.solver = SGDSolver(solver)
            self.net = self.solver.net
        else:
            self.net = minicaffe.Net(param, phase=minicaffe.TEST)
        for name, blobs in learned(self.net).items():
            for blob, values in zip(blobs, weights_of(name, [b.shape for b in blobs]), strict=True):
                blob.data[...] = values
        for layer in self.net.layers:
            if layer.type == "BatchNorm" and not training:
                layer.blobs[1].data[...] = layer.blobs[2].data[...] = 1
        data, label = inputs_of(self.net.blobs["data"].shape)
        self.net.blobs["data"].data[...] = data
        if training:
            self.net.blobs["label"].data[...] = label

    def check(self) -> dict[str, list]:
        """Return the loss and all gradients in training, otherwise the scores."""
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
            self.net.blobs["prob"].read_data()


class PyTorch:
    """PyTorch: eager in its default layout, in channels_last layout, or compiled."""

    def __init__(self, param, training: bool, variant: str, threads: int) -> None:
        import torch
        from torch_nets import TorchNet

        torch.set_num_threads(threads)
        shape = tuple(param.layer[0].input_param.shape[0].dim)
        self.torch, self.training = torch, training
        self.net = net = TorchNet(param, shape)
        net.load({name: weights_of(name, [tuple(t.shape) for t in found]) for name, found in net.learned().items()})
        data, label = inputs_of(shape)
        self.data, self.label = torch.from_numpy(data), torch.from_numpy(label)
        if variant == "channels_last":
            net.to(memory_format=torch.channels_last)
            self.data = self.data.to(memory_format=torch.channels_last)
        net.train(training)
        self.optimizer = torch.optim.SGD(net.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
        self.run = torch.compile(net) if variant == "compile" else net

    def _loss(self):
        self.optimizer.zero_grad()
        loss = self.torch.nn.functional.cross_entropy(self.run(self.data), self.label)
        loss.backward()
        return loss

    def check(self) -> dict[str, list]:
        if not self.training:
            with self.torch.inference_mode():
                return {"score": [self.run(self.data).numpy()]}
        loss = self._loss()
        diffs = {name: [t.grad.numpy() for t in found] for name, found in self.net.learned().items()}
        return {"loss": [np.float32(loss.item())], **diffs}

    def step(self) -> None:
        if self.training:
            self._loss()
            self.optimizer.step()
        else:
            with self.torch.inference_mode():
                self.torch.softmax(self.run(self.data), 1)


class OnnxRuntime:
    """ONNX Runtime on the model that PyTorch exports; inference only."""

    def __init__(self, param, training: bool, variant: str, threads: int) -> None:
        import io

        import onnxruntime

        torch = PyTorch(param, False, "", threads)
        file = io.BytesIO()
        torch.torch.onnx.export(torch.net, (torch.data,), file, input_names=["data"], dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
        self.data = torch.data.numpy()

    def check(self) -> dict[str, list]:
        return {"score": [self.session.run(None, {"data": self.data})[0]]}

    def step(self) -> None:
        self.session.run(None, {"data": self.data})


class OpenCV:
    """OpenCV's dnn module on the prototxt and caffemodel; inference only."""

    def __init__(self, param, training: bool, variant: str, threads: int) -> None:
        import os
        import tempfile

        import cv2

        ours = Minicaffe(param, False, "CAFFE", threads)
        cv2.setNumThreads(threads)
        with tempfile.TemporaryDirectory() as folder:
            net, model = os.path.join(folder, "net.prototxt"), os.path.join(folder, "net.caffemodel")
            with open(net, "w") as file:
                file.write(str(param))
            ours.net.save(model)
            self.net = cv2.dnn.readNetFromCaffe(net, model)
        self.data = inputs_of(ours.net.blobs["data"].shape)[0]

    def check(self) -> dict[str, list]:
        self.net.setInput(self.data)
        return {"score": [self.net.forward("score")]}

    def step(self) -> None:
        self.net.setInput(self.data)
        self.net.forward()


class OriginalCaffe:
    """The original Caffe through pycaffe, where it is installed."""

    def __init__(self, param, training: bool, variant: str, threads: int) -> None:
        import os
        import tempfile

        import caffe

        caffe.set_mode_cpu()
        with tempfile.TemporaryDirectory() as folder:
            net, solver = os.path.join(folder, "net.prototxt"), os.path.join(folder, "solver.prototxt")
            with open(net, "w") as file:
                file.write(str(param))
            with open(solver, "w") as file:
                file.write(
                    f'net: "{net}" base_lr: {RATE} lr_policy: "fixed" momentum: {MOMENTUM} weight_decay: {DECAY} '
                    f'snapshot_prefix: "{folder}/x" snapshot_after_train: false'
                )
            self.solver = caffe.SGDSolver(solver) if training else None
            self.net = self.solver.net if training else caffe.Net(net, caffe.TEST)
        for name, blobs in self.net.params.items():
            if len(blobs) < 3:
                for blob, values in zip(blobs, weights_of(name, [b.data.shape for b in blobs]), strict=True):
                    blob.data[...] = values
        data, label = inputs_of(self.net.blobs["data"].data.shape)
        self.net.blobs["data"].data[...] = data
        if training:
            self.net.blobs["label"].data[...] = label

    def check(self) -> dict[str, list]:
        self.net.forward()
        if self.solver is None:
            return {"score": [self.net.blobs["score"].data.copy()]}
        return {"loss": [np.float32(self.net.blobs["loss"].data)]}

    def step(self) -> None:
        if self.solver:
            self.solver.step(1)
        else:
            self.net.forward()


#: name -> (class, variant, required module, whether it can train, whether it can do inference)
CONTESTANTS = {
    "minicaffe": (Minicaffe, "ONEDNN", "minicaffe", True, True),
    "minicaffe CAFFE": (Minicaffe, "CAFFE", "minicaffe", True, True),
    "PyTorch": (PyTorch, "", "torch", True, True),
    "PyTorch channels_last": (PyTorch, "channels_last", "torch", True, True),
    "PyTorch compile": (PyTorch, "compile", "torch", True, True),
    "ONNX Runtime": (OnnxRuntime, "", "onnxruntime", False, True),
    "OpenCV dnn": (OpenCV, "", "cv2", False, True),
    "Caffe": (OriginalCaffe, "", "caffe", True, True),
}


def installed(name: str) -> bool:
    """Return whether a contestant's module is installed."""
    return importlib.util.find_spec(CONTESTANTS[name][2]) is not None


def serve(pipe, name: str, net_bytes: bytes, training: bool, threads: int) -> None:
    """Main function of a contestant's process: build it, then execute ("check",), ("run", n) and ("stop",)."""
    started = time.perf_counter()
    from minicaffe.proto import caffe_pb2

    kind, variant = CONTESTANTS[name][:2]
    try:
        contestant = kind(caffe_pb2.NetParameter.FromString(net_bytes), training, variant, threads)
    except Exception as error:  # any error is reported in the table
        pipe.send(error if isinstance(error, (ValueError, RuntimeError)) else RuntimeError(str(error)[:300]))
        return
    pipe.send(None)
    while True:
        command, *args = pipe.recv()
        if command == "check":
            result = contestant.check()
            pipe.send((result, time.perf_counter() - started))
        elif command == "run":
            times = []
            contestant.step()  # warm-up: caches, worker threads
            for _ in range(args[0]):
                start = time.perf_counter()
                contestant.step()
                times.append(time.perf_counter() - start)
            pipe.send(times)
        else:
            pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            return
