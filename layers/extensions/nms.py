"""Nms: the peaks of heat maps, such as those of a body's joints."""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register

_REACH = 3  #: places around a peak over which its position is averaged


@register("Nms")
class Nms(Layer):
    """The places of maps whose score is above `threshold` and above those of all eight neighbours

    bottom: scores (N, C, H, W), of which the first num_parts channels are read; top: (N, num_parts, max_peaks + 1, 3).
    Row 0 of a map of the top begins with the number of its peaks, which may be above max_peaks; the others are
    (x, y, score) in the order of rows, and 0 behind the last.  x and y are means over the places around a peak, up to 3
    away, weighted by positive scores; the first row and column do not count, and peaks are not at the border.

    nms_param: threshold 0.5, max_peaks 20, num_parts 15.  There is no gradient; on the host.
    Source: Cao, Simon, Wei and Sheikh, Realtime multi-person 2D pose estimation, 2017.
    """

    fork = "OpenPose"
    exact_num_bottom = exact_num_top = 1
    no_gradient = (0,)
    in_place = False
    backward_reads = ()
    capturable = False  # works on the host

    def setup(self, bottom, top):
        param = self.layer_param.nms_param
        self.threshold, self.most, self.parts = param.threshold, param.max_peaks, param.num_parts

    def top_shapes(self, bottom_shapes):
        if len(bottom_shapes[0]) != 4 or bottom_shapes[0][1] < self.parts:
            raise self.error(
                f"bottom 0 must be (N, C, H, W) with {self.parts} channels (num_parts), got {bottom_shapes[0]}"
            )
        return [(bottom_shapes[0][0], self.parts, self.most + 1, 3)]

    def forward_cpu(self, bottom, top):
        top[0].data = 0
        for index in np.ndindex(top[0].shape[:2]):
            scores, out = bottom[0].read_data()[index], top[0].data[index]
            peaks = np.argwhere(_peaks(scores) & (scores > self.threshold))
            out[0, 0] = len(peaks)
            for row, (y, x) in zip(out[1:], peaks.tolist()):
                row[:] = *_centre(scores, y, x), scores[y, x]


def _peaks(scores: np.ndarray) -> np.ndarray:
    """Return where a map (H, W) is above its eight neighbours."""
    found = np.zeros(scores.shape, bool)
    if min(scores.shape) > 2:
        windows = np.lib.stride_tricks.sliding_window_view(scores, (3, 3)).reshape(*(n - 2 for n in scores.shape), 9)
        others = np.delete(windows, 4, axis=2)
        found[1:-1, 1:-1] = (windows[..., 4:5] > others).all(2)
    return found


def _centre(scores: np.ndarray, y: int, x: int) -> tuple[float, float]:
    """Return x and y of a peak, averaged over the places around it."""
    rows, columns = (np.arange(max(1, at - _REACH), min(n, at + _REACH + 1)) for at, n in zip((y, x), scores.shape))
    weights = np.maximum(scores[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float64), 0)
    if not weights.sum():
        return x, y
    return float(weights.sum(0) @ columns / weights.sum()), float(weights.sum(1) @ rows / weights.sum())
