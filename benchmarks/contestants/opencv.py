"""OpenCV's dnn module on the CPU."""

from __future__ import annotations

from contestants.common import CpuContestant, inputs_of
from contestants.ours import CpuMinicaffe


class OpenCV(CpuContestant):
    """OpenCV's dnn module on the prototxt and caffemodel; inference only."""

    def make(self, param) -> None:
        import os
        import tempfile

        import cv2

        ours = CpuMinicaffe("CAFFE", self.threads)
        ours.training = False
        ours.make(param)
        cv2.setNumThreads(self.threads)
        with tempfile.TemporaryDirectory() as folder:
            net, model = os.path.join(folder, "net.prototxt"), os.path.join(folder, "net.caffemodel")
            with open(net, "w") as file:
                file.write(str(param))
            ours.net.save(model)
            self.net = cv2.dnn.readNetFromCaffe(net, model)
        self.data = inputs_of(ours.net.blobs["data"].shape)[0]

    def first_pass(self) -> dict[str, list]:
        self.net.setInput(self.data)
        return {"score": [self.net.forward("score")]}

    def step(self) -> None:
        self.net.setInput(self.data)
        self.net.forward()
