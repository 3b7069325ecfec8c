"""BatchReindex: picks items of a batch by their indices."""

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.rows import add_gpu, add_rows, row_numbers, take_gpu


@register("BatchReindex")
class BatchReindex(Layer):
    """y[i] = x[index[i]]; an item may be picked several times, or not at all.

    Bottoms: x (N, ...), index (M,), whole numbers from 0 to N - 1.  Top: (M, ...).  The index gets no gradient.
    """

    family = "arrangement"
    exact_num_bottom = 2
    exact_num_top = 1
    no_gradient = (1,)
    in_place = False
    backward_reads = ("bottom",)

    def top_shapes(self, bottom_shapes):
        x, index = bottom_shapes
        if len(index) != 1 or not x:
            raise self.error(f"bottoms must be (N, ...) and (M,), got {x} and {index}")
        return [index + x[1:]]

    def _index(self, bottom):
        return row_numbers(self, bottom[1].read_data(), bottom[0].shape[0])

    def forward_cpu(self, bottom, top):
        top[0].data[...] = bottom[0].read_data()[self._index(bottom)]

    def backward_cpu(self, top, propagate_down, bottom):
        self._refuse_index_gradient(propagate_down)
        if propagate_down[0]:
            dx = bottom[0].diff
            dx[...] = 0
            add_rows(dx, self._index(bottom), top[0].read_diff())

    def forward_gpu(self, bottom, top):
        x, index = bottom
        count, width = index.count, x.count_range(1)
        take_gpu(count, width, x.shape[0], index.gpu_data(), x.gpu_data(), top[0].mutable_gpu_data(), self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        self._refuse_index_gradient(propagate_down)
        if propagate_down[0]:
            x, index = bottom
            x.clear_diff()
            count, width = index.count, x.count_range(1)
            add_gpu(count, width, x.shape[0], index.gpu_data(), top[0].gpu_diff(), x.mutable_gpu_diff(), self.dtype)

    def _refuse_index_gradient(self, propagate_down):
        if propagate_down[1]:
            raise self.error("there is no gradient with respect to the index (bottom 1)")
