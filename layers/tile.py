"""Tile: repeats the bottom along an axis."""

from minicaffe.core.blob import canonical_axis
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register


@register("Tile")
class Tile(Layer):
    """y = `tiles` copies of x, one after another along `axis`.

    Bottom: (..., n, ...).  Top: (..., tiles * n, ...).
    tile_param: axis (1), tiles (required).
    """

    family = "arrangement"
    exact_num_bottom = exact_num_top = 1
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.given_axis, self.tiles = self.layer_param.tile_param.axis, self.layer_param.tile_param.tiles
        if self.tiles < 1:
            raise self.error(f"tiles must be given and at least 1, got {self.tiles}")

    def top_shapes(self, bottom_shapes):
        shape = bottom_shapes[0]
        axis = canonical_axis(self.given_axis, len(shape))
        return [shape[:axis] + (self.tiles * shape[axis],) + shape[axis + 1 :]]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        axis = canonical_axis(self.given_axis, bottom[0].num_axes)
        self.outer, self.inner = bottom[0].count_range(0, axis), bottom[0].count_range(axis)

    def forward_cpu(self, bottom, top):
        x = bottom[0].read_data().reshape(self.outer, 1, self.inner)
        top[0].data.reshape(self.outer, self.tiles, self.inner)[...] = x

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            dy = top[0].read_diff().reshape(self.outer, self.tiles, self.inner)
            dy.sum(axis=1, out=bottom[0].diff.reshape(self.outer, self.inner))

    def forward_gpu(self, bottom, top):
        x, y = bottom[0].gpu_data(), top[0].mutable_gpu_data()
        self.kernel("repeat")(top[0].count, self.inner, self.tiles, x, y)

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            dy, dx = top[0].gpu_diff(), bottom[0].mutable_gpu_diff()
            self.kernel("add_up")(bottom[0].count, self.inner, self.tiles, dy, dx)
