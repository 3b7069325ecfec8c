"""ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import Any

from contestants.common import CpuContestant
from contestants.pytorch import CpuPyTorch


def export(param, file) -> Any:
    """Write the net of a NetParameter as PyTorch exports it, to a path or a file; return the PyTorch contestant."""
    pytorch = CpuPyTorch("", 1)
    pytorch.training = False
    pytorch.make(param)
    pytorch.torch.onnx.export(pytorch.net, (pytorch.data,), file, input_names=["data"], dynamo=False)
    return pytorch


class OnnxRuntime(CpuContestant):
    """ONNX Runtime on the model that PyTorch exports; inference only."""

    def make(self, param) -> None:
        import io

        import onnxruntime

        file = io.BytesIO()
        pytorch = export(param, file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        self.session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
        self.data = pytorch.data.numpy()

    def first_pass(self) -> dict[str, list]:
        return {"score": [self.session.run(None, {"data": self.data})[0]]}

    def step(self) -> None:
        self.session.run(None, {"data": self.data})
