"""A net from files, by minicaffe's engines and by ONNX Runtime, which reads what minicaffe exports."""

from __future__ import annotations

import numpy as np

from contestants.common import CpuContestant, inputs_of

INPUT, OUTPUT = "data", "prob"


class NetOfFiles(CpuContestant):
    """variant: (the engine, CAFFE or ONEDNN; path of the weights)."""

    def make(self, param) -> None:
        import minicaffe

        engine, weights = self.variant
        minicaffe.set_engine(engine)
        minicaffe.set_threads(self.threads)
        self.net = minicaffe.Net(param, phase=minicaffe.TEST, weights=weights)
        self.net.blobs[INPUT].data[...], _ = inputs_of(self.net.blobs[INPUT].shape)

    def first_pass(self) -> dict[str, list]:
        return {OUTPUT: [self.step().copy()]}

    def step(self) -> np.ndarray:
        self.net.run_forward()
        return self.net.blobs[OUTPUT].read_data()


class OnnxOfFiles(CpuContestant):
    """variant: (name of ONNX Runtime's level of optimization; path of the weights)."""

    def make(self, param) -> None:
        import onnxruntime

        import minicaffe
        from minicaffe.export.onnx.model import to_model

        level, weights = self.variant
        net = minicaffe.Net(param, phase=minicaffe.TEST, weights=weights)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        model = to_model(net).model.SerializeToString()
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.data, _ = inputs_of(net.blobs[INPUT].shape)

    def first_pass(self) -> dict[str, list]:
        return {OUTPUT: [self.step()]}

    def step(self) -> np.ndarray:
        return self.session.run([OUTPUT], {INPUT: self.data})[0]
