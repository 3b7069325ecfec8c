"""The original Caffe on the CPU."""

from __future__ import annotations

import numpy as np

from contestants.common import DECAY, MOMENTUM, CpuContestant, inputs_of, weights_of


class OriginalCaffe(CpuContestant):
    """The original Caffe through pycaffe, where it is installed."""

    def make(self, param) -> None:
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
                    f'net: "{net}" base_lr: {self.rate} lr_policy: "fixed" momentum: {MOMENTUM} weight_decay: {DECAY} '
                    f'snapshot_prefix: "{folder}/x" snapshot_after_train: false'
                )
            self.solver = caffe.SGDSolver(solver) if self.training else None
            self.net = self.solver.net if self.training else caffe.Net(net, caffe.TEST)
        for name, blobs in self.net.params.items():
            if len(blobs) < 3:
                for blob, values in zip(blobs, weights_of(name, [b.data.shape for b in blobs]), strict=True):
                    blob.data[...] = values
        data, label = inputs_of(self.net.blobs["data"].data.shape)
        self.net.blobs["data"].data[...] = data
        if self.training:
            self.net.blobs["label"].data[...] = label

    def first_pass(self) -> dict[str, list]:
        self.net.forward()
        if not self.training:
            return {"score": [self.net.blobs["score"].data.copy()]}
        return {"loss": [np.float32(self.net.blobs["loss"].data)]}

    def step(self) -> None:
        if self.training:
            self.solver.step(1)
        else:
            self.net.forward()
