"""Upsample: puts values at the positions of the maxima of a MAX Pooling, or repeats them."""

from __future__ import annotations

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.masked_places import MaskedPlaces


@register("Upsample")
class Upsample(Layer):
    """y[n, c, mask[n, c, i]] = x[n, c, i], 0 elsewhere

    bottoms: x (N, C, h, w), mask (N, C, h, w), the second top of a MAX Pooling; top: (N, C, H, W).  If two windows
    have their maximum at one place, the later value is kept.

    upsample_param: upsample_h and upsample_w, the size H, W; or scale 2 (or scale_h, scale_w) with pad_out_h and
        pad_out_w, which remove a row or column for odd sizes: H = h * scale_h - pad_out_h.
    Without a mask it is YOLO's: each value is repeated, y[n, c, i, j] = x[n, c, i // scale, j // scale], with scale 1
    by default, and no other field.
    Source: Badrinarayanan, Kendall and Cipolla, SegNet, 2015; Redmon and Farhadi, YOLOv3, 2018.
    """

    fork = "SegNet; YOLO"
    min_bottom, max_bottom = 1, 2
    exact_num_top = 1
    no_gradient = (1,)
    in_place = False
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        param = self.layer_param.upsample_param
        self.size = (param.upsample_h, param.upsample_w) if param.upsample_h and param.upsample_w else None
        if param.HasField("scale_h") != param.HasField("scale_w"):
            raise self.error("scale_h and scale_w must be given together")
        self.scale = (param.scale_h, param.scale_w) if param.HasField("scale_h") else (param.scale,) * 2
        self.places = MaskedPlaces(self)
        self.repeats = len(bottom) == 1
        if self.repeats:
            self._read_repeats(param)
            return
        self.cut = (int(param.pad_out_h), int(param.pad_out_w))
        for side, scale, cut in zip("hw", self.scale, self.cut):
            if not self.size and (scale < 2 or (cut and scale != 2)):
                raise self.error(f"scale_{side} must be at least 2, and 2 with pad_out_{side}, got {scale}")

    def _read_repeats(self, param) -> None:
        if given := [field.name for field, _ in param.ListFields() if field.name != "scale"]:
            raise self.error(f"without a mask, bottom 1, the only field is scale, got {given[0]}")
        self.scale = (param.scale if param.HasField("scale") else 1,) * 2
        if self.scale[0] < 1:
            raise self.error(f"scale must be at least 1, got {self.scale[0]}")

    def top_shapes(self, bottom_shapes):
        if self.repeats:
            (x,) = bottom_shapes
            if len(x) != 4:
                raise self.error(f"bottom 0 must be (N, C, h, w), got {x}")
            return [(*x[:2], x[2] * self.scale[0], x[3] * self.scale[0])]
        x, mask = bottom_shapes
        if len(x) != 4 or x != mask:
            raise self.error(f"bottoms 0 and 1 must be (N, C, h, w), got {x} and {mask}")
        size = self.size or tuple(n * s - c for n, s, c in zip(x[2:], self.scale, self.cut))
        return [(*x[:2], *size)]

    def forward_cpu(self, bottom, top):
        if self.repeats:
            self._blocks(top[0].data)[...] = bottom[0].read_data()[:, :, :, None, :, None]
        else:
            self.places.apply(bottom[0], bottom[1], top[0])

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0] and self.repeats:
            self._blocks(top[0].read_diff()).sum(axis=(3, 5), out=bottom[0].diff)
        elif propagate_down[0]:
            self.places.adjoint(top[0], bottom[1], bottom[0])

    def forward_gpu(self, bottom, top):
        if self.repeats:
            x, y = bottom[0].gpu_data(), top[0].mutable_gpu_data()
            self.kernel("repeat")(top[0].count, self.scale[0], top[0].shape[3], x, y)
        else:
            self.places.apply_gpu(bottom[0], bottom[1], top[0])

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0] and self.repeats:
            dy, dx = top[0].gpu_diff(), bottom[0].mutable_gpu_diff()
            self.kernel("add_up")(bottom[0].count, self.scale[0], top[0].shape[3], dy, dx)
        elif propagate_down[0]:
            self.places.adjoint_gpu(top[0], bottom[1], bottom[0])

    def _blocks(self, values):
        """Return an array of the top's shape with the places of each repeated value on axes 3 and 5."""
        (n, channels, height, width), (scale, _) = values.shape, self.scale
        return values.reshape(n, channels, height // scale, scale, width // scale, scale)
