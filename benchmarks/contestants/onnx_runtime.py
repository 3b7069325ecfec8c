"""ONNX Runtime on the CPU."""

from __future__ import annotations

from contestants.common import CpuContestant
from contestants.pytorch import CpuPyTorch


class OnnxRuntime(CpuContestant):
    """ONNX Runtime on the model that PyTorch exports; inference only."""

    def make(self, param) -> None:
        import io

        import onnxruntime

        pytorch = CpuPyTorch("", self.threads)
        pytorch.training = False
        pytorch.make(param)
        file = io.BytesIO()
        pytorch.torch.onnx.export(pytorch.net, (pytorch.data,), file, input_names=["data"], dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        self.session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
        self.data = pytorch.data.numpy()

    def first_pass(self) -> dict[str, list]:
        return {"score": [self.session.run(None, {"data": self.data})[0]]}

    def step(self) -> None:
        self.session.run(None, {"data": self.data})
