"""ONNX Runtime on the CPU."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
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
    """ONNX Runtime on the model that PyTorch exports; inference only.

    variant: "", or "profile" for `node_times`.
    """

    def make(self, param) -> None:
        import io

        import onnxruntime

        file = io.BytesIO()
        pytorch = export(param, file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.enable_profiling = self.variant == "profile"
        options.profile_file_prefix = os.path.join(tempfile.gettempdir(), "onnxruntime")
        self.session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
        self.data = pytorch.data.numpy()

    def first_pass(self) -> dict[str, list]:
        return {"score": [self.session.run(None, {"data": self.data})[0]]}

    def step(self) -> None:
        self.session.run(None, {"data": self.data})

    def node_times(self) -> list[tuple[str, str, float]]:
        """(operator, shape of its output, median of milliseconds) of each node in the passes so far; ends profiling."""
        path = self.session.end_profiling()
        with open(path) as file:
            events = json.load(file)
        os.remove(path)
        times: dict[str, list[float]] = {}
        about = {}
        for event in events:
            if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
                times.setdefault(event["name"], []).append(event["dur"] / 1e3)
                ((shape,),) = ([*output.values()] for output in event["args"]["output_type_shape"][:1])
                about[event["name"]] = event["args"]["op_name"], "x".join(map(str, shape))
        return [(*about[name], statistics.median(found)) for name, found in times.items()]
