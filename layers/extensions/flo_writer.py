"""FLOWriter: writes flow to files of the Middlebury format."""

import os

import numpy as np

from minicaffe.core.registry import register
from minicaffe.errors import DataError
from minicaffe.files import write_atomically
from minicaffe.layers.shared.passes import CountsPasses


@register("FLOWriter")
class FLOWriter(CountsPasses):
    """Writes the flow of each sample to a file: PIEH, width, height, and (u, v) of each place, row by row, as float32.

    bottom: (N, 2, H, W).  No top.

    writer_param: file, which the last pass overwrites, for N = 1; or folder, which is made, prefix and suffix: the
        file of forward pass i is folder/prefixNNNNNNNsuffix.flo, with seven digits of i, which begins at 0, and for N
        above 1 the number of the sample, as (000), before the suffix.
    Source: Dosovitskiy et al., FlowNet, 2015; Baker et al., A database and evaluation methodology for optical flow,
    2011.
    """

    fork = "FlowNet 2.0"
    param_field = "writer_param"
    family = "data"
    exact_num_bottom = 1
    exact_num_top = 0
    capturable = False  # writes on the host
    repeatable = False
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.param = self.layer_param.writer_param
        if not (self.param.file or self.param.folder):
            raise self.error("writer_param must name a file or a folder")

    def top_shapes(self, bottom_shapes):
        (shape,) = bottom_shapes
        if len(shape) != 4 or shape[1] != 2:
            raise self.error(f"bottom 0 must be (N, 2, H, W), got {shape}")
        if self.param.file and shape[0] != 1:
            raise self.error(f"one file takes one sample, got bottom 0 of shape {shape}: name a folder")
        return []

    def forward_cpu(self, bottom, top):
        flow = bottom[0].read_data().astype("<f4")
        for n, sample in enumerate(flow):
            height, width = sample.shape[1:]
            content = b"PIEH" + np.array([width, height], "<i4").tobytes() + sample.transpose(1, 2, 0).tobytes()
            path = self._path(n, len(flow))
            try:
                os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
                write_atomically(path, content)
            except OSError as error:
                raise DataError(f"FLOWriter layer '{self.name}': cannot write {path}: {error.strerror}") from error
        self.passes += 1

    def _path(self, n: int, samples: int) -> str:
        if self.param.file:
            return self.param.file
        number = f"({n:03})" if samples > 1 else ""
        return os.path.join(self.param.folder, f"{self.param.prefix}{self.passes:07}{number}{self.param.suffix}.flo")

    def backward_cpu(self, top, propagate_down, bottom):
        """No-op: the bottom gets no gradient."""
